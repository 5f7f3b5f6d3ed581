"""The accounts that are decided for most, in bounded memory.

The sketch is Space-Saving (A. Metwally, D. Agrawal, A. El Abbadi: Efficient computation of frequent and top-k elements
in data streams, ICDT 2005): a fixed number of counters; an element without one takes over the smallest. Windows are
made of panes with a sketch each, whose counts and errors add up (P. Agarwal et al.: Mergeable summaries, PODS 2012).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

COUNTERS: Final = 256
PANES: Final = 6
PANE_MS: Final = 10_000


class Tally:
    """What a sketch knows of one element since it was given its counter.

    `count` includes `missed`, the smallest count when the element took it over: so many may have been another's.
    """

    __slots__ = ("burned", "count", "denials", "missed")

    def __init__(self, missed: int) -> None:
        self.count = missed
        self.missed = missed
        self.denials = 0
        self.burned = 0


class SpaceSaving:
    """At most `size` counters, and what is certain of every element.

    With `total` elements noted:

    - true count <= `count` <= true count + `missed`, and `missed` <= total / size;
    - an element without a counter occurred at most `smallest` <= total / size times.
    """

    __slots__ = ("_heap", "_size", "tallies", "total")

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, str]] = []
        self.tallies: dict[str, Tally] = {}
        self.total = 0

    def note(self, element: str) -> Tally:
        """Count one occurrence; returns the element's tally, for what else is known of it."""
        self.total += 1
        tally = self.tallies.get(element)
        if tally is None:
            tally = self._admit(element)
        tally.count += 1
        return tally

    @property
    def smallest(self) -> int:
        """The most that an element without a counter can have occurred."""
        return self._settled_top()[0] if len(self.tallies) >= self._size else 0

    def _admit(self, element: str) -> Tally:
        if len(self.tallies) < self._size:
            tally = Tally(0)
            heapq.heappush(self._heap, (0, element))
        else:
            count, evicted = self._settled_top()
            del self.tallies[evicted]
            tally = Tally(count)
            heapq.heapreplace(self._heap, (count, element))
        self.tallies[element] = tally
        return tally

    def _settled_top(self) -> tuple[int, str]:
        """The smallest counter. The heap has counts as they were when last looked at, which only grow since."""
        while True:
            count, element = self._heap[0]
            current = self.tallies[element].count
            if count == current:
                return count, element
            heapq.heapreplace(self._heap, (current, element))


@dataclass(frozen=True, slots=True)
class Hot:
    """An account's figures in the window: at least `decisions`, at most `missed_max` more. Amounts in micros."""

    account: str
    decisions: int
    missed_max: int
    denials: int
    burned: int


@dataclass(frozen=True, slots=True)
class HotWindow:
    """The hottest accounts of the last `length_ms`, and all decisions of that time."""

    length_ms: int
    decisions: int
    accounts: tuple[Hot, ...]


class Hottest:
    """Counts decisions by account over the last minute: five whole panes of ten seconds and the present one.

    With N decisions in the window, no figure is off by more than N / 256, and every account with more than that is
    known.
    """

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._began = wall_ms()
        self._pane = self._began // PANE_MS
        self._sketch = SpaceSaving(COUNTERS)
        self._earlier: deque[tuple[int, SpaceSaving]] = deque(maxlen=PANES - 1)

    def note(self, account: str, *, denied: bool, burned: int) -> None:
        """Count a decision; `burned` in micros."""
        pane = self._wall_ms() // PANE_MS
        if pane != self._pane:
            self._turn_to(pane)
        tally = self._sketch.note(account)
        if denied:
            tally.denials += 1
        else:
            tally.burned += burned

    def window(self, accounts_max: int) -> HotWindow:
        """The hottest accounts now."""
        now = self._wall_ms()
        pane = now // PANE_MS
        if pane != self._pane:
            self._turn_to(pane)
        sketches = [sketch for number, sketch in self._earlier if pane - PANES < number < pane]
        sketches.append(self._sketch)
        known = {account for sketch in sketches for account in sketch.tallies}
        found = [_merged(account, sketches) for account in known]
        found.sort(key=lambda hot: (-hot.decisions, hot.account))
        begin = max((pane - PANES + 1) * PANE_MS, self._began)
        return HotWindow(
            max(0, now - begin), sum(sketch.total for sketch in sketches), tuple(found[:accounts_max])
        )

    def _turn_to(self, pane: int) -> None:
        self._earlier.append((self._pane, self._sketch))
        self._pane = pane
        self._sketch = SpaceSaving(COUNTERS)


def _merged(account: str, sketches: list[SpaceSaving]) -> Hot:
    decisions = missed = denials = burned = 0
    for sketch in sketches:
        tally = sketch.tallies.get(account)
        if tally is None:
            missed += sketch.smallest
        else:
            decisions += tally.count - tally.missed
            missed += tally.missed
            denials += tally.denials
            burned += tally.burned
    return Hot(account, decisions, missed, denials, burned)
