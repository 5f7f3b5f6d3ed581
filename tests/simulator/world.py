"""The simulated world: stores, replicas, callers and what befalls them, all from one seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from contextvars import copy_context
from hashlib import blake2b
from typing import Any

from tests.simulator import statements
from tests.simulator.catalog import catalog
from tests.simulator.intents import Intent, KnownHold, Wishes, done, expected_refusal
from tests.simulator.loop import SimLoop
from tests.simulator.nemesis import Nemesis
from tests.simulator.postgres import Server
from tests.simulator.replica import Replica
from tests.simulator.valkey import Network, Node, Stores
from tests.simulator.weather import Weather

from creditd.domain.accounts import Account
from creditd.domain.errors import CreditdError, IdempotencyKeyReused, Overloaded, Unavailable
from creditd.engine.control_types import SubscriptionChange
from creditd.engine.requests import Action, Ruling

EPOCH_MS = 1_800_000_000_000
DEADLINE_S = 10.0
_HANDLERS = statements.by_text()


class World:
    """One seed's world. `ops` intents are carried out by callers, then everything heals and settles."""

    def __init__(self, seed: int, ops: int, stores: Stores) -> None:
        self.seed = seed
        self.source = random.Random(seed)
        source = self.source
        self.loop = SimLoop(random.Random(source.getrandbits(64)))
        self.outside = copy_context()
        self.tail: deque[str] = deque(maxlen=10_000)
        self.digest = blake2b(digest_size=16)
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.jump_ms = 0
        self.weather = Weather(random.Random(source.getrandbits(64)))
        self.postgres = Server(
            self.loop, self.weather, self.outside, self.trace, _HANDLERS, timeout_s=source.choice((1.0, 5.0))
        )
        self.network = Network(self.loop, self.weather, self.outside, self.trace)
        self.network.route = lambda process: self.routes.get(process.name, self.nodes[0])
        self.nodes = [Node("n0", stores.database(0), source)]
        self.spare = Node("n1", stores.database(1), source)
        self.routes: dict[str, Node] = {}
        self.pool_max = source.choice((2, 4, 8))
        self.flight_max = source.choice((1, 4, 64))
        self.accounts = [f"acc{number}" for number in range(source.choice((1, 2, 3)))]
        self.replicas: list[Replica] = []
        self.wishes = Wishes(self, random.Random(source.getrandbits(64)))
        self.ops = ops
        self.under_way = 0
        self.nemesis = Nemesis(self, random.Random(source.getrandbits(64)))
        self._callers = source.choice((2, 5, 8))
        self._think_s = source.choice((0.05, 0.2, 0.5))
        self._hurry = source.choice((0.0, 0.1, 0.4))
        self.postgres.on_committed = lambda account, sequence: self.trace("landed", account, sequence)

    # Services.

    def wall_ms(self) -> int:
        """The true time in ms."""
        return EPOCH_MS + int(self.loop.now * 1000) + self.jump_ms

    def trace(self, *what: Any) -> None:
        """Note an event."""
        if what[0] == "nemesis":
            self.counts[what[1]] += 1
        line = f"{self.loop.now:9.4f} " + " ".join(map(str, what))
        self.tail.append(line)
        self.digest.update(line.encode())

    def violation(self, what: str) -> None:
        """Note what must never be."""
        self.trace("VIOLATION", what)
        self.violations.append(what)

    # The life of the world.

    async def live(self) -> None:
        """Set up, let callers and the nemesis loose, then heal."""
        for number in range(self.source.choice((2, 3))):
            self.replicas.append(Replica(self, f"r{number}", self.source.getrandbits(64)))
        for replica in self.replicas:
            await self._boot(replica)
        first = self.replicas[0].engine
        if first is None:
            raise RuntimeError("no replica")
        await first.apply_catalog(catalog(), dry_run=False, effective_at=None, expected_version=None, note="")
        for account in self.accounts:
            await first.put_account(Account(account, 0), etag="")
            plan = self.source.choice(("small", "small", "big", "payg"))
            await first.put_subscription(SubscriptionChange(account, "sub", plan))
        # The catalog has been in force for a while, also by clocks that are slow.
        self.jump_ms += 20_000
        self.weather.calm = False
        nemesis = self.loop.create_task(self.nemesis.rage(), name="nemesis", context=self.outside.copy())
        callers = [
            self.loop.create_task(self._caller(f"c{number}"), name="caller", context=self.outside.copy())
            for number in range(self._callers)
        ]
        for caller in callers:
            await caller
        self.nemesis.stop = True
        await nemesis
        await self.nemesis.heal()

    async def _boot(self, replica: Replica) -> None:
        await self.wait_for(replica.process.spawn(replica.boot()), f"{replica.name} starts", 60.0)

    async def wait_for(self, task: asyncio.Task[Any], what: str, within_s: float) -> None:
        """Wait for something that must come to an end, whatever happens meanwhile."""
        finished, _ = await asyncio.wait({task}, timeout=within_s)
        if not finished:
            self.violation(f"stuck: {what} took more than {within_s} s")
        elif not task.cancelled() and task.exception() is not None:
            self.violation(f"{what}: {task.exception()!r}")

    async def restart(self, replica: Replica) -> Replica:
        """Another process in a dead one's place."""
        fresh = Replica(self, replica.name, self.source.getrandbits(64))
        fresh.skew_ms = replica.skew_ms
        self.replicas[self.replicas.index(replica)] = fresh
        fresh.process.spawn(fresh.boot())
        return fresh

    async def _caller(self, name: str) -> None:
        source = self.source
        while len(self.wishes.all) < self.ops:
            await asyncio.sleep(source.expovariate(1.0) * self._think_s)
            if len(self.wishes.all) >= self.ops:
                return
            intent = self.wishes.next()
            if intent.keyed and source.random() < self._hurry:
                # A caller that does not wait for its own first attempt.
                await asyncio.gather(self.carry_out(name, intent), self.carry_out(name + "'", intent))
            else:
                await self.carry_out(name, intent)

    async def carry_out(self, name: str, intent: Intent, *, attempts: int = 4) -> None:
        """Send an intent until it is answered, and now and then once more."""
        source = self.source
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(source.random() * self._think_s * 2)
            answered = await self.send(name, intent)
            if not intent.keyed or (answered and source.random() < 0.85):
                return

    async def send(self, name: str, intent: Intent) -> bool:
        """One attempt; whether it was answered."""
        serving = [replica for replica in self.replicas if replica.serves]
        if not serving:
            await asyncio.sleep(0.3)
            return False
        replica = self.source.choice(serving)
        self.trace(name, replica.name, intent.number, intent.name, intent.account)
        acked_before = intent.acked
        outcome = await self._call(replica, intent)
        self.note(name, intent, outcome)
        # A question that is asked again may have another answer.
        asks = intent.name == "look"
        if acked_before and not asks and isinstance(outcome, Ruling) and not outcome.allowed:
            self.violation(f"intent {intent.number} ({intent.name}) was denied after it was acknowledged")
        return outcome is not None

    def note(self, name: str, intent: Intent, outcome: Any) -> None:
        """Keep what a caller was told; check what must hold from that instant on."""
        if outcome is None or isinstance(outcome, (Unavailable, Overloaded)):
            intent.unknown += 1
            self.trace(name, intent.number, "unknown", "" if outcome is None else outcome)
        elif isinstance(outcome, CreditdError):
            intent.refusals.append(outcome)
            self.trace(name, intent.number, "refused", outcome.reason)
            if isinstance(outcome, IdempotencyKeyReused) or not expected_refusal(intent, outcome):
                self.violation(f"intent {intent.number} ({intent.name}) was refused: {outcome!r}")
        else:
            intent.answers.append(outcome)
            items = outcome if isinstance(outcome, list) and intent.uses else [outcome]
            for item in items:
                if isinstance(item, Ruling):
                    self.trace(name, intent.number, item.reason, item.charged, item.sequence, item.replayed)
                    self._must_be_durable(intent, item)
                    self._learn(intent, item)

    def _must_be_durable(self, intent: Intent, ruling: Ruling) -> None:
        """What is acknowledged is in the ledger at that instant."""
        if not ruling.allowed or not ruling.entry_id:
            return
        record = self.postgres.records[intent.account if not intent.atomic else intent.uses[0].account]
        accounts = {use.account for use in intent.uses} or {intent.account}
        for account in accounts:
            record = self.postgres.records[account]
            row = record.entries.get(ruling.sequence)
            if row is not None and row["id"] == ruling.entry_id:
                return
        self.violation(f"intent {intent.number}: acknowledged, not in the ledger: {ruling.entry_id}")

    def _learn(self, intent: Intent, ruling: Ruling) -> None:
        if not ruling.allowed or not intent.uses:
            return
        reservation = intent.uses[0].reservation
        if reservation is None:
            return
        if reservation.action is Action.RESERVE:
            if all(hold.id != ruling.reservation_id for hold in self.wishes.holds):
                use = intent.uses[0]
                self.wishes.holds.append(
                    KnownHold(ruling.reservation_id, intent.account, use.feature, use.quantity or 1)
                )
        elif reservation.is_final:
            for hold in self.wishes.holds:
                if hold.id == reservation.id:
                    hold.ended = True

    async def _call(self, replica: Replica, intent: Intent) -> Any:
        """A call over the network: its result, a CreditdError, or None for not known."""
        weather, loop = self.weather, self.loop
        await asyncio.sleep(weather.delay())
        engine = replica.engine
        if engine is None or not replica.process.alive or weather.happens(weather.rpc_lost):
            return None
        told: asyncio.Future[Any] = loop.create_future()

        def gone() -> None:
            if not told.done():
                told.set_result(None)

        replica.on_crash.append(gone)
        task = replica.process.spawn(self._served(intent, engine), name=f"intent {intent.number}")

        def reply(finished: asyncio.Task[Any]) -> None:
            if not finished.cancelled() and not told.done():
                loop.call_later(weather.delay(), _tell, told, finished.result())

        task.add_done_callback(reply, context=self.outside)
        patience = DEADLINE_S
        if weather.happens(weather.caller_leaves):
            patience = weather.delay() * self.source.choice((1, 3, 10))
        finished, _ = await asyncio.wait({told}, timeout=patience)
        replica.on_crash.remove(gone) if gone in replica.on_crash else None
        if not finished:
            self.trace("caller of", intent.number, "leaves")
            if replica.process.alive:
                task.cancel()
            return None
        if weather.happens(weather.rpc_unanswered):
            return None
        return told.result()

    async def _served(self, intent: Intent, engine: Any) -> Any:
        """What a servicer does: errors are answers; what is no CreditdError is a bug."""
        try:
            return await intent.send(engine)
        except CreditdError as error:
            return error
        except Exception as error:
            self.violation(f"intent {intent.number} ({intent.name}) failed: {error!r}")
            return None

    def close(self) -> None:
        """Give back what the world has of the real one."""
        self.loop.dispose()
        for node in {self.nodes[0], self.spare}:
            node.close()


def _tell(told: asyncio.Future[Any], result: Any) -> None:
    if not told.done():
        told.set_result(result)


__all__ = ["World", "done"]
