"""Counters -> ServerStats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration

from creditd import __version__
from creditd.engine.commit import CommitMeters
from creditd.engine.histogram import BOUNDS_US, Histogram
from creditd.engine.hottest import HotWindow
from creditd.engine.load import LoadCause
from creditd.engine.meters import DecisionMeter
from creditd.engine.stats import Snapshot
from creditd.rpc.codec_values import timestamp_to_proto
from creditd.rpc.entitlements import SERVICE
from creditd.rpc.meters import CallMeter, CallMeters
from creditd.v1 import diagnostics_pb2 as pb
from creditd.v1 import entitlements_pb2


def _duration(microseconds: int) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(microseconds)
    return duration


_BOUNDS: Final = [_duration(bound) for bound in BOUNDS_US]


def server_stats(snapshot: Snapshot, meters: CallMeters, transport: str) -> pb.ServerStats:
    """The answer of GetServerStats."""
    loads, decisions = snapshot.loads, snapshot.decisions
    deciding = {
        f"{SERVICE}/Check": decisions.check,
        f"{SERVICE}/Consume": decisions.consume,
        f"{SERVICE}/BatchCheck": decisions.batch_check,
        f"{SERVICE}/BatchConsume": decisions.batch_consume,
        f"{SERVICE}/Reserve": decisions.reserve,
        f"{SERVICE}/Commit": decisions.commit,
    }
    return pb.ServerStats(
        instance_id=snapshot.instance_id,
        version=__version__,
        transport=transport,
        started_at=timestamp_to_proto(snapshot.started_at),
        now=timestamp_to_proto(snapshot.now),
        rpcs=[_rpc(name, meter, deciding.get(name)) for name, meter in sorted(meters.rpcs.items())],
        latency_bounds=_BOUNDS,
        hottest=_hottest(snapshot.hottest),
        outbox_depth=snapshot.outbox_depth,
        commits=_commits(snapshot.commits, snapshot.queued),
        hot_store_reachable=snapshot.outbox_depth is not None,
        ledger_reachable=snapshot.ledger_reachable,
        cached_policies=snapshot.cached_policies,
        loads=pb.LoadStats(**{str(cause): loads.get(cause, 0) for cause in LoadCause}),
    )


def _rpc(name: str, meter: CallMeter, decisions: DecisionMeter | None) -> pb.RpcStats:
    stats = pb.RpcStats(
        rpc=name,
        calls=_statuses(meter.calls),
        item_errors=_statuses(meter.item_errors),
        latency=_histogram(meter.latency),
    )
    if decisions is not None:
        stats.replays = decisions.replays
        stats.decisions.extend(
            pb.ReasonCount(reason=entitlements_pb2.Reason.Value(f"REASON_{reason}"), count=count)
            for reason, count in sorted(decisions.reasons.items())
        )
    return stats


def _statuses(counts: Mapping[int, int]) -> list[pb.StatusCount]:
    return [pb.StatusCount(code=code, count=count) for code, count in sorted(counts.items())]


def _histogram(histogram: Histogram) -> pb.LatencyHistogram:
    return pb.LatencyHistogram(counts=histogram.counts, sum=_duration(round(histogram.sum_s * 1e6)))


def _hottest(window: HotWindow) -> pb.HottestAccounts:
    return pb.HottestAccounts(
        window=_duration(round(window.seconds * 1e6)),
        decisions=window.decisions,
        accounts=[
            pb.HotAccount(
                account=hot.account,
                decisions=hot.decisions,
                decisions_missed_max=hot.missed_max,
                denials=hot.denials,
                burned_micros=hot.burned,
            )
            for hot in window.accounts
        ],
    )


def _commits(meters: CommitMeters, queued: int) -> pb.CommitStats:
    return pb.CommitStats(
        queued=queued,
        units=meters.units,
        flights=meters.flights,
        failed_attempts=meters.failed_attempts,
        last_flight_units=meters.last_units,
        last_flight_latency=_duration(round(meters.last_s * 1e6)) if meters.flights else None,
        latency=_histogram(meters.latency),
    )
