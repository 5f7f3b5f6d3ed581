"""What the process has done since its start, and how it is now: the engine's part of GetServerStats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from creditd.engine.commit import CommitMeters, Committer
from creditd.engine.hottest import HotWindow
from creditd.engine.load import LoadCause, Loader
from creditd.engine.meters import DecisionMeters
from creditd.engine.policies import Policies
from creditd.engine.probe import Probe
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters, to be read at once, and the gauges. Instants in ms; `outbox_depth` None: the hot store is away."""

    instance_id: str
    started_at: int
    now: int
    decisions: DecisionMeters
    hottest: HotWindow
    commits: CommitMeters
    queued: int
    loads: Mapping[LoadCause, int]
    cached_policies: int
    outbox_depth: int | None
    ledger_reachable: bool


class EngineStats:
    """Reads the counters, and asks the stores how they are: at most once a second, whoever wants to know."""

    def __init__(
        self,
        ledger: Ledger,
        hot: HotStore,
        *,
        decisions: DecisionMeters,
        committer: Committer,
        loader: Loader,
        policies: Policies,
        instance_id: str,
        wall_ms: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._decisions = decisions
        self._committer = committer
        self._loader = loader
        self._policies = policies
        self._instance_id = instance_id
        self._wall_ms = wall_ms
        self._started_at = wall_ms()

        async def outbox_depth() -> int:
            return sum(await hot.outbox_depths())

        async def ping() -> bool:
            await ledger.ping()
            return True

        self._outbox = Probe(outbox_depth, clock)
        self._ledger = Probe(ping, clock)

    async def snapshot(self, *, hottest_max: int) -> Snapshot:
        """Everything, with the `hottest_max` hottest accounts."""
        outbox_depth, ledger_reachable = await asyncio.gather(self._outbox.latest(), self._ledger.latest())
        return Snapshot(
            instance_id=self._instance_id,
            started_at=self._started_at,
            now=self._wall_ms(),
            decisions=self._decisions,
            hottest=self._decisions.hottest.window(hottest_max),
            commits=self._committer.meters,
            queued=self._committer.depth,
            loads=self._loader.loads,
            cached_policies=self._policies.size,
            outbox_depth=outbox_depth,
            ledger_reachable=bool(ledger_reachable),
        )

    async def close(self) -> None:
        """Ask nothing any more."""
        await self._outbox.close()
        await self._ledger.close()
