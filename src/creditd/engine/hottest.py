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
PANE_S: Final = 10.0


class Tally:
    """What a sketch knows of one element since it was given its counter.

    `count` includes `missed`, the smallest count when the element took it over: so many may have been another's.
    """

    __slots__ = ("burned", "count", "denials", "missed")

    def __init__(self) -> None:
        self.count = self.missed = self.denials = self.burned = 0


class SpaceSaving:
    """At most `size` counters, and what is certain of every element.

    With `total` elements noted:

    - true count <= `count` <= true count + `missed`, and `missed` <= total / size;
    - an element without a counter occurred at most `smallest` <= total / size times.
    """

    __slots__ = ("_heap", "_size", "tallies")

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, str]] = []
        self.tallies: dict[str, Tally] = {}

    def note(self, element: str) -> Tally:
        """Count one occurrence; returns the element's tally, for what else is known of it."""
        tally = self.tallies.get(element)
        if tally is None:
            tally = self._admit(element)
        tally.count += 1
        return tally

    @property
    def total(self) -> int:
        """How many were noted: each raised one counter by one, and none was ever lowered."""
        return sum(tally.count for tally in self.tallies.values())

    @property
    def smallest(self) -> int:
        """The most that an element without a counter can have occurred."""
        return self._smallest()[0] if len(self.tallies) >= self._size else 0

    def _admit(self, element: str) -> Tally:
        if len(self.tallies) < self._size:
            tally = Tally()
            heapq.heappush(self._heap, (0, element))
        else:
            count, evicted = self._smallest()
            tally = self.tallies.pop(evicted)
            tally.missed = count
            tally.denials = tally.burned = 0
            heapq.heapreplace(self._heap, (count, element))
        self.tallies[element] = tally
        return tally

    def _smallest(self) -> tuple[int, str]:
        """The smallest counter. The heap has each count as it was when last looked at, and counts only grow."""
        heap, tallies = self._heap, self.tallies
        while True:
            top = heap[0]
            count = tallies[top[1]].count
            if count == top[0]:
                return top
            heapq.heapreplace(heap, (count, top[1]))


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
    """The hottest accounts of the last `seconds`, and all decisions of that time."""

    seconds: float
    decisions: int
    accounts: tuple[Hot, ...]


class Hottest:
    """Counts decisions by account over the last minute: five whole panes of ten seconds and the present one.

    With N decisions in the window, no figure is off by more than N / 256, and every account with more than that is
    known.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = self._pane_began = clock()
        self._pane_ends = self._pane_began + PANE_S
        self._sketch = SpaceSaving(COUNTERS)
        self._earlier: deque[tuple[float, SpaceSaving]] = deque(maxlen=PANES - 1)

    def note(self, account: str) -> Tally:
        """Count a decision; returns the account's tally in the present pane."""
        now = self._clock()
        if now >= self._pane_ends:
            self._turn(now)
        return self._sketch.note(account)

    def window(self, accounts_max: int) -> HotWindow:
        """The hottest accounts now."""
        now = self._clock()
        if now >= self._pane_ends:
            self._turn(now)
        begin = max(self._pane_began - (PANES - 1) * PANE_S, self._began)
        sketches = [sketch for began, sketch in self._earlier if began >= begin]
        sketches.append(self._sketch)
        decisions: dict[str, int] = {}
        for sketch in sketches:
            for account, tally in sketch.tallies.items():
                decisions[account] = decisions.get(account, 0) + tally.count - tally.missed
        hottest = heapq.nsmallest(accounts_max, decisions, key=lambda account: (-decisions[account], account))
        smallest = [sketch.smallest for sketch in sketches]
        total = sum(sketch.total for sketch in sketches)
        return HotWindow(
            now - begin, total, tuple(_merged(account, sketches, smallest) for account in hottest)
        )

    def _turn(self, now: float) -> None:
        """Begin a new pane; panes begin at whole multiples, also after a pause."""
        self._earlier.append((self._pane_began, self._sketch))
        self._pane_began += (now - self._pane_began) // PANE_S * PANE_S
        self._pane_ends = self._pane_began + PANE_S
        self._sketch = SpaceSaving(COUNTERS)


def _merged(account: str, sketches: list[SpaceSaving], smallest: list[int]) -> Hot:
    decisions = missed = denials = burned = 0
    for sketch, most in zip(sketches, smallest, strict=True):
        tally = sketch.tallies.get(account)
        if tally is None:
            missed += most
        else:
            decisions += tally.count - tally.missed
            missed += tally.missed
            denials += tally.denials
            burned += tally.burned
    return Hot(account, decisions, missed, denials, burned)
