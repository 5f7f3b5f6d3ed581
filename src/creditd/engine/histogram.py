"""A histogram of durations with exponential buckets: some hundred nanoseconds a note, quantiles within 19%."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_US: Final = tuple(round(10 * 2 ** (step / 4)) for step in range(93))
"""Upper bounds, inclusive, of all buckets but the last, in microseconds: 10 µs to 84 s."""

_BOUNDS_S: Final = tuple(bound / 1e6 for bound in BOUNDS_US)


class Histogram:
    """Counts durations by bucket: `counts[i]` are those up to `BOUNDS_US[i]`, the last one those beyond all."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        self.sum_s = 0.0

    def note(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
