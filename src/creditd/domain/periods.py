"""Calendar arithmetic on millisecond instants: periods, anchored windows.

Months follow the anchor's day, clamped to the month's end: 31 Jan, 28 Feb, 31 Mar. All in UTC, calendar windows
apart.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

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


SLIDING_PARTS: Final = 12
"""Sub-buckets of a sliding window: use counts for at least the window's length and at most a twelfth longer."""

_SLIDING_MS: Final = _FIXED_MS | {Unit.MONTH: 30 * 86_400_000, Unit.YEAR: 365 * 86_400_000}


def sliding_ms(period: Period) -> int:
    """The length of a sliding window in ms; a month counts 30 days, a year 365."""
    return _SLIDING_MS[period.unit] * period.count


def calendar_window(time_zone: str, period: Period, now: int) -> Span:
    """The calendar window of one period that contains `now`, in an IANA time zone ("" = UTC).

    Years, months, days, hours and minutes begin as the local clock shows; weeks on Monday. Several of them are counted
    from the year 0, from January, from 1970 and from midnight. A local time that the clock skips is the instant of
    the skip; an hour that it shows twice is one window.
    """
    zone = ZoneInfo(time_zone or "UTC")
    local = to_datetime(now).astimezone(zone).replace(tzinfo=None)
    start, end = _naive_window(local, period)
    return Span(_instant(start, zone), MS_MAX if end is None else _instant(end, zone))


def _instant(naive: datetime, zone: ZoneInfo) -> int:
    return to_ms(naive.replace(tzinfo=zone).astimezone(UTC))


def _naive_window(local: datetime, period: Period) -> tuple[datetime, datetime | None]:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if period.unit in _MONTHS:
        length = _MONTHS[period.unit] * period.count
        # Months of several years are counted from the year 0, those of less from January.
        base = 0 if length >= 12 else local.year * 12
        index = (local.year * 12 + local.month - 1 - base) // length
        return _month(base + index * length) or midnight, _month(_after(base, index, length))
    if period.unit in {Unit.DAY, Unit.WEEK}:
        days = period.count * (7 if period.unit is Unit.WEEK else 1)
        first = _FIRST_MONDAY if period.unit is Unit.WEEK else _FIRST_DAY
        start = midnight - timedelta(days=(midnight - first).days % days)
        return start, _later(start, timedelta(days=days))
    length_ms = timedelta(milliseconds=_FIXED_MS[period.unit] * period.count)
    start = midnight + (local - midnight) // length_ms * length_ms
    end = _later(start, length_ms)
    return start, end if end is None else min(end, midnight + timedelta(days=1))


def _after(base: int, index: int, length: int) -> int:
    """The month that a window of `length` months ends before; windows of less than a year end with the year."""
    following = base + (index + 1) * length
    return following if length >= 12 else min(following, base + 12)


def _month(months: int) -> datetime | None:
    year, month = divmod(months, 12)
    if year > 9999:
        return None
    return datetime(max(year, 1), month + 1 if year else 1, 1)  # noqa: DTZ001 - local time, placed by its caller


def _later(start: datetime, length: timedelta) -> datetime | None:
    try:
        return start + length
    except OverflowError:
        return None


_FIRST_DAY: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - local time
_FIRST_MONDAY: Final = datetime(1970, 1, 5)  # noqa: DTZ001 - local time
