"""Limits and budgets as counters: which window of which counter a use at an instant touches."""

from __future__ import annotations

from dataclasses import dataclass, field

from creditd.domain.catalog import Period, Window
from creditd.domain.decide import Charge
from creditd.domain.periods import (
    MS_MAX,
    SLIDING_PARTS,
    Span,
    add_periods,
    anchored_window,
    calendar_window,
    sliding_ms,
)


@dataclass(slots=True)
class WindowRule:
    """How a counter's windows lie in time; `per` None = it never ends. `anchor` (ms) places ANCHORED ones.

    `key` tells windows of one feature apart; it is part of a counter's key, so that it must never change. The window of
    the last use is kept: the next use most often lies in it, and a calendar costs more than the rest of a decision.
    """

    per: Period | None
    kind: Window
    time_zone: str
    anchor: int
    key: str = field(init=False)
    _last: Span | None = field(init=False, default=None, compare=False)

    def __post_init__(self) -> None:
        self.key = _key(self.per, self.kind, self.time_zone)

    def span(self, now: int) -> Span:
        """The window that contains `now`; (0, 0) when it never ends. For SLIDING: the sub-bucket, until it is over."""
        if self.per is None:
            return _NEVER_ENDS
        if self.kind is Window.FIRST_USE:
            return Span(now, min(add_periods(now, self.per, 1), MS_MAX))
        if self.kind is Window.SLIDING:
            width = self.part_ms
            start = now // width * width
            return Span(start, min(start + (SLIDING_PARTS + 1) * width, MS_MAX))
        last = self._last
        if last is not None and last.start <= now < last.end:
            return last
        if self.kind is Window.CALENDAR:
            self._last = calendar_window(self.time_zone, self.per, now)
        else:
            self._last = anchored_window(self.anchor, self.per, now)
        return self._last

    def same(self, now: int) -> Span:
        """The instants, `now` among them, at which a use touches its counter in the same way."""
        if self.per is None:
            return _ALWAYS
        if self.kind is Window.FIRST_USE:
            return Span(now, now + 1)
        span = self.span(now)
        return Span(span.start, span.start + self.part_ms) if self.kind is Window.SLIDING else span

    @property
    def part_ms(self) -> int:
        """The length of a sub-bucket of a sliding window, in ms."""
        return 0 if self.per is None else -(-sliding_ms(self.per) // SLIDING_PARTS)

    def charge(self, key: str, now: int, cap: int, *, soft: bool = False, micros: bool = False) -> Charge:
        """The counter `key` as a use at `now` touches it."""
        span = self.span(now)
        if self.per is None or self.kind is not Window.SLIDING:
            opens = self.per is not None and self.kind is Window.FIRST_USE
            return Charge(key, span.start, span.end, cap, soft, micros, opens)
        # A ring of sub-counters, one more than there are parts: the oldest is still counted while a piece of it is.
        ring, width = SLIDING_PARTS + 1, self.part_ms
        number = span.start // width
        also = tuple(
            (f"{key}@{earlier % ring}", earlier * width)
            for earlier in range(max(0, number - SLIDING_PARTS), number)
        )
        return Charge(f"{key}@{number % ring}", span.start, span.end, cap, soft, micros, False, also)


_NEVER_ENDS = Span(0, 0)
_ALWAYS = Span(-MS_MAX, MS_MAX)


def _key(per: Period | None, kind: Window, time_zone: str) -> str:
    if per is None:
        return "gauge"
    base = f"{per.count}{per.unit.value.lower()}"
    if kind is Window.ANCHORED:
        return base
    zone = f":{time_zone}" if kind is Window.CALENDAR and time_zone else ""
    return f"{base}:{kind.value.lower()}{zone}"
