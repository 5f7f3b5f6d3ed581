"""The write protocol under random schedules, with the real SQL and the real scripts.

Two databases of one Valkey stand for two nodes with run ids of their own. A schedule mixes burns and reservations (with
retries under the same key, also concurrent; holds extended, settled in parts, committed and released by several at
once, and expiring), lost and doubtful appends, dead writers, reapers, flushes, restarts from an older
snapshot and a promoted replica with writes missing. Whatever happens: no more is burned than was granted, and what was
acknowledged is in the ledger once. No hold is lost, none ends twice, and every credit is somewhere.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest
from tests.engine.conftest import CREDIT
from tests.scenarios.conservation import conserved

from creditd.domain.decide import Mode
from creditd.domain.entries import Entry, Kind, expiry_key
from creditd.domain.errors import CreditdError, Unavailable
from creditd.domain.state import AccountState
from creditd.engine.control_types import EntryQuery
from creditd.engine.engine import Engine, EngineSettings
from creditd.engine.requests import Action, Reservation, Use
from creditd.hot.connection import Address, open_connection
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger
from creditd.workers.reaper import Reaper

SCHEDULES = int(os.environ.get("TEST_SCHEDULES", "150"))

DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('DUMP', key)
end
return found
"""


class Node:
    """One hot store: a database, and the run id that connections to it are told."""

    def __init__(self, url: str, database: int) -> None:
        self.url = url.rsplit("/", 1)[0] + f"/{database}"
        self.number = database
        self.restarts = 0
        self.snapshot: dict[bytes, bytes] = {}

    @property
    def run_id(self) -> str:
        return f"node-{self.number}-run-{self.restarts}"


class NodeStore(HotStore):
    """A HotStore whose server's run id is its node's."""

    def __init__(self, node: Node, **settings) -> None:
        super().__init__(node.url, **settings)
        self.node = node

    async def _connected(self):
        connection = await super()._connected()
        connection.run_id = self.node.run_id
        return connection


class Schedule:
    def __init__(self, world, ledger: Ledger, source: random.Random, account: str) -> None:
        self.world, self.ledger, self.source, self.account = world, ledger, source, account
        self.nodes = [Node(world.url, 0)]
        self.engines: list[Engine] = []
        self.tasks: dict[asyncio.Task[None], Engine] = {}
        self.acked: list[tuple[str, str]] = []
        self.held: list[tuple[str, int]] = []
        self.ended: set[str] = set()

    async def engine(self, node: Node) -> Engine:
        hot = NodeStore(node, timeout_s=5, record_ttl_ms=60_000, idle_ttl_ms=0, wall_ms=self.world.clock)
        engine = Engine(
            self.ledger,
            hot,
            settings=EngineSettings(flight_max=4),
            wall_ms=self.world.clock,
            random_bits=self.source.getrandbits,
        )
        engine.committer._append = self.shaky
        await engine.start()
        self.engines.append(engine)
        return engine

    async def shaky(self, units):
        """An append that may be late, lost before it happens, or done without telling."""
        for _ in range(self.source.randrange(4)):
            await asyncio.sleep(0)
        fate = self.source.random()
        if fate < 0.1:
            raise Unavailable("lost before")
        outcomes = await self.ledger.append(units)
        if fate < 0.2:
            raise Unavailable("lost after")
        return outcomes

    def burn(self) -> None:
        number = self.source.randrange(14)
        amount = 1 + number % 5
        key = "" if number == 13 else f"k{number}"
        feature = "jobs" if number == 12 else "chat"
        mode = Mode.PARTIAL if number == 11 else Mode.ENFORCE
        use = Use(
            self.account,
            feature,
            quantity=amount if feature == "chat" else 1,
            idempotency_key=key,
            mode=mode,
        )
        engine = self.source.choice(self.engines)
        self.tasks[asyncio.create_task(self._burn(engine, use))] = engine

    def reserve(self) -> None:
        number = self.source.randrange(9)
        use = Use(
            self.account,
            "jobs" if number == 8 else "chat",
            quantity=1 if number == 8 else 1 + number % 5,
            idempotency_key="" if number == 7 else f"r{number}",
            reservation=Reservation(Action.RESERVE, ttl_ms=self.source.choice((2_000, 60_000))),
        )
        engine = self.source.choice(self.engines)
        self.tasks[asyncio.create_task(self._burn(engine, use))] = engine

    def work_on_hold(self) -> None:
        """Extend, settle or end one of the holds that callers were told of, perhaps one that has ended."""
        reservation_id, quantity = self.source.choice(self.held)
        kind = self.source.choice(("extend", "part", "commit", "commit", "release"))
        # A part burns 1, once: what is committed at the end is within the hold, and only late usage makes debt.
        key, used, ttl = "", self.source.randrange(quantity), None
        if kind == "release":
            reservation = Reservation(Action.RELEASE, reservation_id)
        elif kind == "extend":
            used, ttl = 1, 60_000
            key = self.source.choice(("", f"e{reservation_id}"))
            reservation = Reservation(Action.EXTEND, reservation_id, ttl_ms=ttl)
        else:
            used = used if kind == "commit" else 1
            key = f"p{reservation_id}" if kind == "part" else ""
            reservation = Reservation(Action.COMMIT, reservation_id, keep_open=kind == "part")
        use = Use(self.account, "", quantity=used, idempotency_key=key, reservation=reservation)
        engine = self.source.choice(self.engines)
        self.tasks[asyncio.create_task(self._burn(engine, use))] = engine

    async def _burn(self, engine: Engine, use: Use) -> None:
        reservation = use.reservation
        try:
            if reservation is not None and reservation.id:
                ruling = await engine.on_reservation(use)
            else:
                ruling = await engine.consume(use)
        except CreditdError:
            return
        if not ruling.allowed:
            return
        self.acked.append((use.idempotency_key, ruling.entry_id))
        if reservation is None:
            return
        if reservation.action is Action.RESERVE:
            self.held.append((ruling.reservation_id, use.quantity or 0))
        elif reservation.is_final:
            self.ended.add(reservation.id)

    def step(self) -> None:
        chance = self.source.random()
        if chance < 0.4:
            self.burn()
        elif chance < 0.65 or not self.held:
            self.reserve()
        elif chance < 0.95:
            self.work_on_hold()
        else:
            self.world.clock.advance(1_000)

    async def disturb(self) -> None:
        source = self.source
        node = source.choice(self.nodes)
        kind = source.choice(("flush", "snapshot", "rewind", "promote", "demote", "reap", "die", "vanish"))
        if kind == "flush":
            await self._raw(node, "FLUSHDB")
        elif kind == "snapshot":
            node.snapshot = await self._dump(node)
        elif kind == "rewind" and node.snapshot:
            node.restarts += 1
            await self._restore(node, node.snapshot)
        elif kind == "promote" and len(self.nodes) == 1:
            replica = Node(self.world.url, 1 - node.number)
            await self._restore(replica, await self._dump(node))
            self.nodes.append(replica)
            await self.engine(replica)
        elif kind == "demote" and len(self.nodes) == 2:
            gone = self.nodes.pop(source.randrange(2))
            for engine in [item for item in self.engines if item.hot.node is gone]:
                self.die(engine)
            if not self.engines:
                await self.engine(self.nodes[0])
        elif kind == "reap":
            engine = source.choice(self.engines)
            await Reaper(engine, age_ms=0, wall_ms=self.world.clock).sweep()
        elif kind == "die":
            self.die(source.choice(self.engines))
            if not self.engines:
                await self.engine(source.choice(self.nodes))
        elif kind == "vanish" and self.tasks:
            source.choice(list(self.tasks)).cancel()

    def die(self, engine: Engine) -> None:
        """The process ends where it stands: nothing more is sent, nothing is cleaned up."""
        self.engines.remove(engine)
        for task, owner in self.tasks.items():
            if owner is engine:
                task.cancel()
        engine.committer._task.cancel()
        for task in engine.committer._side_tasks:
            task.cancel()
        for load in engine.loader._loading.values():
            load.cancel()
        if engine.hot._connection is not None:
            engine.hot._connection.close()
        engine.hot._closed = True

    async def _raw(self, node: Node, *command):
        connection = await open_connection(Address.parse(node.url), 5)
        try:
            return await connection.call(*command)
        finally:
            connection.close()

    async def _dump(self, node: Node) -> dict[bytes, bytes]:
        """Of one instant, as a real snapshot is."""
        flat = await self._raw(node, "EVAL", DUMP, 0)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def _restore(self, node: Node, keys) -> None:
        """In one step: a server that restarts has its snapshot from its first reply on."""
        connection = await open_connection(Address.parse(node.url), 5)
        try:
            replies = [connection.call("MULTI"), connection.call("FLUSHDB")]
            replies += [connection.call("RESTORE", key, 0, value) for key, value in keys.items()]
            await asyncio.gather(*replies, connection.call("EXEC"))
        finally:
            connection.close()


@pytest.mark.timeout(900)
async def test_no_schedule_burns_more_than_was_granted_or_loses_what_was_acknowledged(world):
    """150 schedules of about 40 steps; TEST_SCHEDULES runs more."""
    ledger = await Ledger.connect(world.dsn, timeout_s=10)
    for seed in range(SCHEDULES):
        source = random.Random(seed)
        account = f"acc-{seed}"
        await world.account(account, plan="pro")
        await world.engines[0].void_grant(account, "sub/plan/0/1", reason="a small one instead")
        await world.grant(20 * CREDIT, "g", account)
        schedule = Schedule(world, ledger, source, account)
        for _ in range(2):
            await schedule.engine(schedule.nodes[0])
        for _ in range(40):
            if source.random() < 0.75:
                schedule.step()
            else:
                await schedule.disturb()
            for _ in range(source.randrange(6)):
                await asyncio.sleep(0)
        await settle(schedule)
        await judge(world, ledger, schedule, seed)
    await ledger.close()


async def settle(schedule: Schedule) -> None:
    """What is under way ends; then the survivors land what the dead left."""
    async with asyncio.timeout(60):
        await asyncio.gather(*schedule.tasks, return_exceptions=True)
    for engine in schedule.engines:
        await Reaper(engine, age_ms=0, wall_ms=schedule.world.clock).sweep()
    for engine in list(schedule.engines):
        while engine.committer.depth:
            await asyncio.sleep(0.001)
        await asyncio.gather(*engine.committer._side_tasks, return_exceptions=True)


def judge_holds(schedule: Schedule, entries: list[Entry], state: AccountState, seed: int) -> None:
    """A hold ends once, and those that ended for a caller are not open. Only usage told after expiry makes debt."""
    ends = Counter(entry.effects.closed for entry in entries if entry.effects.closed)
    assert all(times == 1 for times in ends.values()), f"seed {seed}: {ends}"
    assert not state.holds.keys() & schedule.ended, (
        f"seed {seed}: open, though a caller was told that it ended"
    )
    assert {hold_id for hold_id, _quantity in schedule.held} <= ends.keys() | state.holds.keys(), (
        f"seed {seed}"
    )
    keys = {entry.idempotency_key for entry in entries}
    late = [
        entry
        for entry in entries
        if entry.kind is Kind.COMMIT and expiry_key(entry.reservation_id) in keys and entry.effects.held == 0
    ]
    owed = sum(entry.effects.debt for entry in late)
    assert sum(state.debts.values()) <= owed, f"seed {seed}: overspent"
    made = sum(entry.effects.debt for entry in entries if entry.effects.debt > 0)
    assert made <= owed, f"seed {seed}: overspent"


async def judge(world, ledger: Ledger, schedule: Schedule, seed: int) -> None:
    account = schedule.account
    survivor = schedule.engines[0]
    await survivor.loader.load(account)  # fills holes, as the next touch of a lost account would
    state = await ledger.read(account, from_start=True)  # raises BrokenLedger when a grant is overdrawn
    entries = await survivor.list_entries(EntryQuery(account, limit=1000))
    assert state.sequence == len(entries), f"seed {seed}: holes"
    conserved(list(reversed(entries)), state)
    judge_holds(schedule, entries, state, seed)
    assert sum(counter.used for key, counter in state.counters.items() if key.startswith("l:jobs")) <= 2
    ids = Counter(entry.id for entry in entries)
    for key, entry_id in schedule.acked:
        assert ids[entry_id] == 1, f"seed {seed}: acknowledged {key} is {ids[entry_id]} times in the ledger"
    keys = Counter(entry.idempotency_key for entry in entries if entry.idempotency_key)
    assert all(times == 1 for times in keys.values()), f"seed {seed}: {keys}"
    check = await survivor.verify_account(account, repair=False)
    assert check.consistent, f"seed {seed}: {check.differences}"
    for engine in list(schedule.engines):
        schedule.die(engine)
