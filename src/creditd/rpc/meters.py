"""Counters of calls by RPC, status and duration: pure additions, no locks, nothing that waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from creditd.engine.histogram import Histogram


class CallMeter:
    """What became of one RPC's calls; statuses are codes of google.rpc.Code."""

    __slots__ = ("calls", "item_errors", "latency")

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.item_errors: Counter[int] = Counter()
        self.latency = Histogram()


class CallMeters:
    """The calls of one server since its start, by full name: creditd.v1.Entitlements/Check."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.rpcs: dict[str, CallMeter] = {}

    def of(self, rpc: str) -> CallMeter:
        """The counters of an RPC."""
        meter = self.rpcs.get(rpc)
        if meter is None:
            meter = self.rpcs[rpc] = CallMeter()
        return meter

    def ended(self, rpc: str, code: int, began: float) -> None:
        """Count a call that began at `began`, by `clock`, and ended now."""
        meter = self.of(rpc)
        meter.calls[code] += 1
        meter.latency.note(self.clock() - began)

    def item_failed(self, rpc: str, code: int) -> None:
        """Count an item of a batch that failed on its own."""
        self.of(rpc).item_errors[code] += 1
