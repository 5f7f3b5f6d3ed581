"""Calendar arithmetic on millisecond instants: periods, anchored windows.

Months follow the anchor's day, clamped to the month's end: 31 Jan, 28 Feb, 31 Mar. All in UTC.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from creditd.domain.catalog import Period, Unit

MS_MAX: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last instant of protobuf's Timestamp."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED_MS: Final = {
    Unit.MINUTE: 60_000,
    Unit.HOUR: 3_600_000,
    Unit.DAY: 86_400_000,
    Unit.WEEK: 604_800_000,
}
_MONTHS: Final = {Unit.MONTH: 1, Unit.YEAR: 12}


@dataclass(frozen=True, slots=True)
class Span:
    """A window of time: `start` inclusive, `end` exclusive, both in ms."""

    start: int
    end: int


def to_datetime(ms: int) -> datetime:
    """The instant as an aware UTC datetime, exact to the millisecond."""
    return _EPOCH + timedelta(milliseconds=ms)


def to_ms(moment: datetime) -> int:
    """The aware datetime as ms since the epoch, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def add_periods(anchor: int, period: Period, times: int) -> int:
    """The instant `times` periods after `anchor` (before it when negative), at most MS_MAX.

    Always counted from the anchor, never step by step: 31 Jan + 2 months is 31 Mar.
    """
    fixed = _FIXED_MS.get(period.unit)
    if fixed is not None:
        return min(anchor + fixed * period.count * times, MS_MAX)
    start = to_datetime(anchor)
    months = start.year * 12 + start.month - 1 + _MONTHS[period.unit] * period.count * times
    year, month = divmod(months, 12)
    if year > 9999:
        return MS_MAX
    day = min(start.day, monthrange(year, month + 1)[1])
    return to_ms(start.replace(year=year, month=month + 1, day=day))


def periods_elapsed(anchor: int, period: Period, now: int) -> int:
    """How many whole periods lie between `anchor` and `now`: the n with start(n) <= now < start(n + 1).

    Negative before the anchor.
    """
    fixed = _FIXED_MS.get(period.unit)
    if fixed is not None:
        return (now - anchor) // (fixed * period.count)
    start, end = to_datetime(anchor), to_datetime(now)
    months = (end.year - start.year) * 12 + end.month - start.month
    guess = months // (_MONTHS[period.unit] * period.count)
    while add_periods(anchor, period, guess) > now:
        guess -= 1
    while add_periods(anchor, period, guess + 1) <= now:
        guess += 1
    return guess


def anchored_window(anchor: int, period: Period, now: int) -> Span:
    """The anchor-aligned window of one period that contains `now`."""
    elapsed = periods_elapsed(anchor, period, now)
    return Span(add_periods(anchor, period, elapsed), add_periods(anchor, period, elapsed + 1))
