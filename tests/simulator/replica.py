"""A creditd process: a real engine with its workers, in a process of the simulated machine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.simulator.loop import Process
from tests.simulator.postgres import SimConnections

from creditd.domain.errors import Unavailable
from creditd.engine.engine import Engine, EngineSettings
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger
from creditd.workers.checkpoints import Checkpointer
from creditd.workers.loop import Worker
from creditd.workers.reaper import Reaper

if TYPE_CHECKING:
    from tests.simulator.world import World

CHECKPOINT_EVERY = 24
REAPER_AGE_MS = 5_000


class Replica:
    """One server process; after a crash another one takes its name."""

    def __init__(self, world: World, name: str, seed: int) -> None:
        self.world = world
        self.name = name
        self.process = Process(world.loop, name)
        self.skew_ms = 0
        self.engine: Engine | None = None
        self.connections: SimConnections | None = None
        self.on_crash: list[Callable[[], None]] = []
        self._source = random.Random(seed)
        self._workers: list[Worker] = []

    @property
    def serves(self) -> bool:
        """Whether it can be called."""
        return self.process.alive and self.engine is not None

    def wall_ms(self) -> int:
        """Its clock, which may be wrong."""
        return self.world.wall_ms() + self.skew_ms

    async def boot(self) -> None:
        """As `creditd.app.open_engine`: retried by whoever looks after processes until the ledger is there."""
        world = self.world
        self.connections = SimConnections(world.postgres, pool_max=world.pool_max)
        ledger = Ledger(
            self.connections,
            nonce=lambda: self._source.getrandbits(53),
            checkpoint_every=CHECKPOINT_EVERY,
        )
        hot = HotStore(
            "unix:///simulated",
            timeout_s=1.0,
            record_ttl_ms=300_000,
            idle_ttl_ms=0,
            wall_ms=self.wall_ms,
        )
        engine = Engine(
            ledger,
            hot,
            settings=EngineSettings(flight_max=world.flight_max),
            wall_ms=self.wall_ms,
            random_bits=self._source.getrandbits,
            clock=world.loop.time,
        )
        while True:
            try:
                await engine.start()
                break
            except Unavailable:
                await asyncio.sleep(0.5)
        try:
            await hot.connect()
            await engine.catalog_control.announce(engine.catalogs.revision)
        except HotUnavailable:
            pass
        self._start_workers(engine)
        self.engine = engine

    def _start_workers(self, engine: Engine) -> None:
        reaper = Reaper(engine, age_ms=REAPER_AGE_MS, wall_ms=self.wall_ms)
        checkpointer = Checkpointer(engine, every=CHECKPOINT_EVERY)

        async def watch_catalog() -> None:
            if await engine.catalogs.refresh():
                await engine.catalog_control.announce(engine.catalogs.revision)

        for worker in (
            Worker("reaper", self._loud(reaper.sweep), interval_s=3.0),
            Worker("checkpoints", self._loud(checkpointer.sweep), interval_s=4.0),
            Worker("catalog-watch", self._loud(watch_catalog), interval_s=7.0),
        ):
            worker.start()
            self._workers.append(worker)

    def _loud(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """A worker forgives any error; the simulator only those of stores that are away."""

        async def watched() -> None:
            try:
                await work()
            except Unavailable:
                raise
            except Exception as error:
                self.world.violation(f"a worker of {self.name} failed: {error!r}")
                raise

        return watched

    async def reap_now(self, *, age_ms: int = 0) -> None:
        """A sweep of the reaper, over what is `age_ms` old."""
        if self.engine is not None:
            reaper = Reaper(self.engine, age_ms=age_ms, wall_ms=self.wall_ms)
            with suppress(Unavailable):
                await self._loud(reaper.sweep)()

    async def checkpoint_now(self, account: str) -> None:
        """A checkpoint of an account, due or not."""
        if self.engine is not None:
            with suppress(Unavailable):
                await self.engine.ledger.checkpoint(account)

    def crash(self) -> None:
        """As SIGKILL."""
        self.process.crash()
        if self.connections is not None:
            self.connections.crashed(lambda: self._source.uniform(0.0, 0.2) * self._source.choice((1, 20)))
        for link in [each for node in self.world.nodes for each in node.links]:
            if link.is_of(self.process):
                link.abort()
        told, self.on_crash = self.on_crash, []
        for tell in told:
            tell()
