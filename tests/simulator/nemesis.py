"""What befalls the world: processes die, stores go away, forget and split, clocks go wrong, time passes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulator.world import World


class Nemesis:
    """Strikes at random instants until it is told to stop. Each seed has its own mix of blows."""

    def __init__(self, world: World, source: random.Random) -> None:
        self.world = world
        self.source = source
        self.stop = False
        self._blows: list[Callable[[], Awaitable[None]]] = [
            self.crash,
            self.crash,
            self.pause,
            self.flush,
            self.evict,
            self.forget_records,
            self.snapshot,
            self.snapshot,
            self.rewind,
            self.fail_over,
            self.reunite,
            self.hot_away,
            self.hot_full,
            self.forget_scripts,
            self.cut_hot,
            self.ledger_restarts,
            self.ledger_away,
            self.ledger_read_only,
            self.skew,
            self.time_passes,
            self.reap,
            self.checkpoint,
        ]
        kept = source.choice((4, 8, len(self._blows), len(self._blows)))
        self._blows = source.sample(self._blows, kept)
        self._pause_s = source.choice((0.3, 1.0, 4.0, 1e9))

    async def rage(self) -> None:
        """Strike until `stop`."""
        source = self.source
        while not self.stop:
            left = source.expovariate(1.0) * self._pause_s
            while left > 0 and not self.stop:
                await asyncio.sleep(min(left, 0.5))
                left -= 0.5
            if not self.stop:
                blow = source.choice(self._blows)
                self.world.trace("nemesis", blow.__name__)
                await blow()

    async def heal(self) -> None:
        """Everything works again, and stays so."""
        world = self.world
        world.weather.calm = True
        world.postgres.down = world.postgres.read_only = False
        for node in (*world.nodes, world.spare):
            node.up, node.full = True, False
        await self.reunite()
        for replica in list(world.replicas):
            if not replica.process.alive:
                await world.restart(replica)
            elif replica.process.paused:
                replica.process.resume()
            replica.skew_ms = 0
        world.trace("healed")

    # Processes.

    async def crash(self) -> None:
        world, source = self.world, self.source
        replica = source.choice(world.replicas)
        if replica.process.alive:
            world.trace("crash", replica.name)
            replica.crash()
            self._later(source.random() * 3, self._restart)
        else:
            await world.restart(replica)

    async def _restart(self) -> None:
        for replica in list(self.world.replicas):
            if not replica.process.alive:
                await self.world.restart(replica)

    async def pause(self) -> None:
        replica = self.source.choice(self.world.replicas)
        if replica.process.alive and not replica.process.paused:
            process = replica.process
            process.pause()

            async def go_on() -> None:
                if process.alive and process.paused:
                    process.resume()

            self._later(self.source.choice((0.2, 3.0, 12.0)) * self.source.random(), go_on)

    async def skew(self) -> None:
        replica = self.source.choice(self.world.replicas)
        replica.skew_ms = self.source.choice((0, self.source.randrange(-5_000, 5_000)))

    async def reap(self) -> None:
        """A reaper that finds what has only just been decided."""
        for replica in self.world.replicas:
            if replica.serves and not replica.process.paused:
                replica.process.spawn(replica.reap_now())
                return

    async def checkpoint(self) -> None:
        for replica in self.world.replicas:
            if replica.engine is not None and replica.serves:
                account = self.source.choice(self.world.accounts)
                replica.process.spawn(replica.checkpoint_now(account))
                return

    # The hot store.

    async def flush(self) -> None:
        self.world.nodes[0].ask("FLUSHDB")

    async def evict(self) -> None:
        """Some states go, as idle ones do."""
        self._remove(b":s:")

    async def forget_records(self) -> None:
        """Idempotency records run out."""
        self._remove(b":k:")

    def _remove(self, part: bytes) -> None:
        node = self.source.choice(self.world.nodes)
        keys = [key for key in node.keys(part) if self.source.random() < 0.7]
        if keys:
            node.ask("DEL", *keys)

    async def snapshot(self) -> None:
        node = self.source.choice(self.world.nodes)
        node.snapshots.append(node.dump())

    async def rewind(self) -> None:
        """A restart with an older snapshot, or with nothing."""
        node = self.source.choice(self.world.nodes)
        node.load(self.source.choice(node.snapshots) if node.snapshots else None)
        node.new_run()

    async def fail_over(self) -> None:
        """A replica of the store is promoted, with writes missing; the old one may go on for those who see it."""
        world, source = self.world, self.source
        if len(world.nodes) == 2:
            await self.reunite()
            return
        old, new = world.nodes[0], world.spare
        new.up, new.full = True, False
        new.snapshots = list(old.snapshots)
        recent = source.choice(old.snapshots[-2:]) if old.snapshots and source.random() < 0.7 else old.dump()
        new.load(recent)
        new.new_run()
        world.nodes = [new, old]
        world.spare = old
        split = source.random() < 0.6
        for replica in world.replicas:
            if split and source.random() < 0.5:
                world.routes[replica.name] = old
            else:
                world.routes.pop(replica.name, None)
        if not split:
            await self.reunite()
            return
        for link in list(old.links):
            if not any(
                link.is_of(replica.process) and world.routes.get(replica.name) is old
                for replica in world.replicas
            ):
                link.reset()

    async def reunite(self) -> None:
        """Everybody sees the present primary; what only the old one knew is gone."""
        world = self.world
        if len(world.nodes) == 2:
            old = world.nodes.pop()
            world.spare = old
            world.routes.clear()
            for link in list(old.links):
                link.reset()
            old.ask("FLUSHDB")

    async def hot_away(self) -> None:
        node = self.source.choice(self.world.nodes)
        node.up = False
        for link in list(node.links):
            link.reset()

        async def back() -> None:
            node.up = True
            if self.source.random() < 0.3:
                node.new_run()

        self._later(self.source.random() * self.source.choice((0.5, 6.0)), back)

    async def hot_full(self) -> None:
        node = self.source.choice(self.world.nodes)
        node.full = True

        async def back() -> None:
            node.full = False

        self._later(self.source.random() * 3, back)

    async def forget_scripts(self) -> None:
        self.world.nodes[0].ask("SCRIPT", "FLUSH")

    async def cut_hot(self) -> None:
        for node in self.world.nodes:
            for link in list(node.links):
                if self.source.random() < 0.5:
                    link.reset()

    # The ledger.

    async def ledger_restarts(self) -> None:
        self.world.postgres.drop_all(finish=self.source.random() < 0.5)

    async def ledger_away(self) -> None:
        server = self.world.postgres
        server.down = True
        server.drop_all(finish=self.source.random() < 0.5)

        async def back() -> None:
            server.down = False

        self._later(self.source.random() * self.source.choice((0.5, 8.0)), back)

    async def ledger_read_only(self) -> None:
        server = self.world.postgres
        server.read_only = True

        async def back() -> None:
            server.read_only = False

        self._later(self.source.random() * 2, back)

    # Time.

    async def time_passes(self) -> None:
        """Over refills, expiries and windows' ends, all at once."""
        jump = self.source.choice((10_000, 60_000, 1_800_000, 3_600_000, 5_400_000))
        self.world.jump_ms += jump

    def _later(self, delay: float, work: Callable[[], Awaitable[None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay)
            if not self.stop:
                self.world.trace("nemesis", work.__name__)
                await work()

        self.world.loop.create_task(wait(), name="nemesis", context=self.world.outside.copy())
