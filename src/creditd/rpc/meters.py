"""Counters of calls by RPC, status and duration: pure additions, no locks, nothing that waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from creditd.engine.histogram import Histogram


class CallMeter:
    """What became of one RPC's calls; statuses are codes of google.rpc.Code."""

    __slots__ = ("calls", "item_errors", "latency")

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}
        self.item_errors: dict[int, int] = {}
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
        meter = self.rpcs.get(rpc) or self.of(rpc)
        calls = meter.calls
        calls[code] = calls.get(code, 0) + 1
        meter.latency.note(self.clock() - began)

    def item_failed(self, rpc: str, code: int) -> None:
        """Count an item of a batch that failed on its own."""
        errors = self.of(rpc).item_errors
        errors[code] = errors.get(code, 0) + 1
