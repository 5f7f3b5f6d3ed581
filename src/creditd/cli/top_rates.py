"""From two answers of GetServerStats to what happened between them: rates and quantiles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from creditd.cli.use import reason_text
from creditd.v1 import diagnostics_pb2 as pb

DENIED_FROM: Final = 20
"""Reasons from here on are denials."""

_PREFIX: Final = "creditd.v1."
_OWN: Final = "creditd.v1.Diagnostics/"


@dataclass(frozen=True, slots=True)
class RpcRate:
    """Calls of one RPC in the interval. Latencies in seconds, None when no call ended."""

    name: str
    calls_per_s: float
    errors_per_s: float
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class Commits:
    """What went into the ledger in the interval. Latencies of the ledger alone, in seconds."""

    units_per_s: float
    flights_per_s: float
    failed_attempts: int
    p50_s: float | None
    p99_s: float | None

    @property
    def units_per_flight(self) -> float | None:
        """How many units shared a commit; None when there was none."""
        return self.units_per_s / self.flights_per_s if self.flights_per_s else None


@dataclass(frozen=True, slots=True)
class Interval:
    """What a server did in the `seconds` between two answers.

    `rpcs` are those that were ever called, without Diagnostics itself, busiest first; `denials` those of the interval
    by reason, most frequent first.
    """

    seconds: float
    allowed_per_s: float
    denied_per_s: float
    replays_per_s: float
    rpcs: tuple[RpcRate, ...]
    denials: tuple[tuple[str, float], ...]
    commits: Commits

    @property
    def decisions_per_s(self) -> float:
        """Allowed and denied ones together, each item of a batch on its own."""
        return self.allowed_per_s + self.denied_per_s


def interval_of(before: pb.ServerStats, after: pb.ServerStats) -> Interval | None:
    """What happened between two answers.

    When the process was started anew in between, its counters began at zero: then it is what happened since its
    start. None when there is nothing to tell: no time has passed, or another process answered that is older than
    the first answer, as behind a load balancer.
    """
    if before.instance_id != after.instance_id:
        if _ms(after.started_at) < _ms(before.now):
            return None
        before = pb.ServerStats(now=after.started_at)
    seconds = (_ms(after.now) - _ms(before.now)) / 1000
    if seconds <= 0:
        return None
    bounds = [bound.ToMicroseconds() / 1e6 for bound in after.latency_bounds]
    earlier = {item.rpc: item for item in before.rpcs}
    pairs = [
        (earlier.get(item.rpc, pb.RpcStats()), item) for item in after.rpcs if not item.rpc.startswith(_OWN)
    ]
    reasons: dict[int, int] = {}
    for old, new in pairs:
        for reason, count in _difference(_reasons(old), _reasons(new)).items():
            reasons[reason] = reasons.get(reason, 0) + count
    denials = [
        (reason_text(reason), count / seconds)
        for reason, count in reasons.items()
        if reason >= DENIED_FROM and count
    ]
    return Interval(
        seconds=seconds,
        allowed_per_s=sum(count for reason, count in reasons.items() if reason < DENIED_FROM) / seconds,
        denied_per_s=sum(count for reason, count in reasons.items() if reason >= DENIED_FROM) / seconds,
        replays_per_s=sum(new.replays - old.replays for old, new in pairs) / seconds,
        rpcs=tuple(
            sorted(
                (_rpc(old, new, bounds, seconds) for old, new in pairs),
                key=lambda rate: (-rate.calls_per_s, rate.name),
            )
        ),
        denials=tuple(sorted(denials, key=lambda denial: (-denial[1], denial[0]))),
        commits=_commits(before.commits, after.commits, bounds, seconds),
    )


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The duration that `share` of all are below: the place within its bucket is taken as even.

    None when there are none. What lies beyond the last bound counts as the last bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    passed = 0
    for place, count in enumerate(counts):
        if count and passed + count >= rank:
            if place >= len(bounds):
                break
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * max(0.0, rank - passed) / count
        passed += count
    return bounds[-1]


def _rpc(old: pb.RpcStats, new: pb.RpcStats, bounds: Sequence[float], seconds: float) -> RpcRate:
    calls = _difference(_statuses(old.calls), _statuses(new.calls))
    item_errors = _difference(_statuses(old.item_errors), _statuses(new.item_errors))
    latency = _subtract(old.latency.counts, new.latency.counts)
    return RpcRate(
        name=new.rpc.removeprefix(_PREFIX),
        calls_per_s=sum(calls.values()) / seconds,
        errors_per_s=(sum(calls.values()) - calls.get(0, 0) + sum(item_errors.values())) / seconds,
        p50_s=quantile(bounds, latency, 0.50),
        p99_s=quantile(bounds, latency, 0.99),
    )


def _commits(old: pb.CommitStats, new: pb.CommitStats, bounds: Sequence[float], seconds: float) -> Commits:
    latency = _subtract(old.latency.counts, new.latency.counts)
    return Commits(
        units_per_s=(new.units - old.units) / seconds,
        flights_per_s=(new.flights - old.flights) / seconds,
        failed_attempts=new.failed_attempts - old.failed_attempts,
        p50_s=quantile(bounds, latency, 0.50),
        p99_s=quantile(bounds, latency, 0.99),
    )


def _statuses(counts: Iterable[pb.StatusCount]) -> dict[int, int]:
    return {item.code: item.count for item in counts}


def _reasons(stats: pb.RpcStats) -> dict[int, int]:
    return {item.reason: item.count for item in stats.decisions}


def _difference(old: dict[int, int], new: dict[int, int]) -> dict[int, int]:
    return {key: count - old.get(key, 0) for key, count in new.items()}


def _subtract(old: Sequence[int], new: Sequence[int]) -> list[int]:
    return [count - (old[place] if place < len(old) else 0) for place, count in enumerate(new)]


def _ms(instant: Timestamp) -> int:
    return instant.ToMilliseconds()
