"""One round: accounts of its own, load, faults, everything mended, and the audit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgpack
from redis.asyncio import Redis
from tests.faults import faults as catalog
from tests.faults.audit import Audit, audit, rows_of
from tests.faults.faults import Fault, Scene
from tests.faults.load import CALLS_CAP, Caller, Load
from tests.faults.stack import Stack

from creditd.v1 import entitlements_pb2 as pb
from creditd.v1 import ledger_pb2
from creditd.v1.ledger_pb2_grpc import LedgerStub

WARM_S = 0.4
RECOVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of a round: when it is injected (s after the load is warm) and how long it lasts."""

    fault: Fault
    at_s: float
    lasts_s: float


@dataclass(slots=True)
class Result:
    """What came of a round. `recovered` has, by fault, the seconds until all servers burned again."""

    number: int
    faults: list[str]
    operations: int = 0
    acknowledged: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    recovered: dict[str, list[float]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    tombstones: int = 0
    drifted: int = 0


def planned(rng: random.Random, known: Sequence[Fault]) -> list[Planned]:
    """A random sequence of two to four faults, which may overlap."""
    return [
        Planned(fault, rng.random() * 1.5, 0.2 + rng.random() * 0.9)
        for fault in rng.sample(known, rng.randint(2, 4))
    ]


class Round:
    """Runs one round on a stack."""

    def __init__(self, stack: Stack, name: str, rng: random.Random, plan: list[Planned]) -> None:
        self.stack, self.rng, self.plan = stack, rng, plan
        self.load = Load(stack, name, rng)
        self.result = Result(0, [item.fault.name for item in plan])
        self._locks: dict[str, asyncio.Lock] = {}
        self._active = 0

    async def run(self) -> Result:
        """All of it; whatever is wrong is in the result."""
        began = time.monotonic()
        load, result = self.load, self.result
        await load.prepare()
        working = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(WARM_S)
            await asyncio.gather(*(self._break(item) for item in self.plan), self._at_least(1.5))
        finally:
            load.stop()
            await working
        await self.stack.heal()
        await self._recover("")
        await load.resolve()
        await self._emptied()
        found = await self._audit()
        result.wrong += load.journal.wrong + found.problems + await self._hot(found)
        for server in self.stack.servers:
            result.wrong += server.crashes
            server.crashes.clear()
        result.operations, result.acknowledged = len(load.journal.ops), load.journal.acknowledged
        result.codes = load.journal.codes
        result.entries = sum(account.sequence for account in found.accounts.values())
        result.tombstones = sum(account.tombstones for account in found.accounts.values())
        result.drifted = sum(account.drifted for account in found.accounts.values())
        result.seconds = time.monotonic() - began
        return result

    async def _at_least(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _break(self, item: Planned) -> None:
        await asyncio.sleep(item.at_s)
        lock = self._locks.setdefault(item.fault.touches, asyncio.Lock())
        async with lock:
            self._active += 1
            try:
                async with item.fault.inject(Scene(self.stack, self.load, self.rng)):
                    await asyncio.sleep(item.lasts_s)
            finally:
                self._active -= 1
        if not self._active:
            await self._recover(item.fault.name)

    async def _recover(self, name: str) -> None:
        """Wait until every server burns; noted unless something else was broken meanwhile."""
        began = time.monotonic()
        caller = Caller(self.stack, self.load.journal)
        alone = True
        try:
            async with asyncio.timeout(RECOVERY_S):
                for server in self.stack.servers:
                    while not await self.load.probe(caller, server):
                        alone = alone and not self._active
                        if not alone and name:
                            return
                        await asyncio.sleep(0.02)
        except TimeoutError:
            self.result.wrong.append(
                f"not recovered {RECOVERY_S:.0f} s after {name or 'everything was mended'}"
            )
        finally:
            await caller.close()
        if name and alone:
            self.result.recovered.setdefault(name, []).append(time.monotonic() - began)

    async def _emptied(self) -> None:
        try:
            async with asyncio.timeout(RECOVERY_S):
                while await self.stack.outbox_depth():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self.result.wrong.append(f"{await self.stack.outbox_depth()} units stay in the outbox")

    async def _audit(self) -> Audit:
        async with self.stack.sql() as connection:
            rows = await rows_of(connection, self.load.names)
        return audit(rows, self.load.journal, calls_cap=CALLS_CAP)

    async def _hot(self, found: Audit) -> list[str]:
        """The hot state and what the servers say of an account are what its ledger adds up to."""
        problems = []
        server = self.rng.choice(self.stack.servers)
        async with self.stack.channel(server) as channel, self.stack.redis() as redis:
            ledger, caller = LedgerStub(channel), Caller(self.stack, self.load.journal)
            for account in found.accounts.values():
                verified = await ledger.VerifyAccount(
                    ledger_pb2.VerifyAccountRequest(account=account.name), timeout=30, wait_for_ready=True
                )
                problems += [f"{account.name}: {difference}" for difference in verified.differences]
                hot = await _hot_balance(redis, account.name)
                stub = caller.uses[self.rng.choice(self.stack.servers).name]
                request = pb.GetBalanceRequest(account=account.name)
                answer = await stub.GetBalance(request, timeout=30, wait_for_ready=True)
                balance = answer.balances[0]
                told = (balance.available_micros, balance.held_micros, balance.debt_micros)
                # Holds that have expired since the audit are released on a touch.
                short = any(
                    op.account == account.name and op.kind == "reserve" and op.asked["ttl"] < 60
                    for op in self.load.journal.ops
                )
                wanted = (account.balance, account.held, account.debt)
                if told != wanted and not short:
                    problems.append(f"{account.name}: GetBalance says {told}, the ledger {wanted}")
                if hot is not None and hot != wanted and not short:
                    problems.append(f"{account.name}: the hot state has {hot}, the ledger {wanted}")
            await caller.close()
        return problems


async def _hot_balance(redis: Redis, account: str) -> tuple[int, int, int] | None:
    """Available, held and debt in the hot state, read as kernel.lua lays it out."""
    from creditd.hot.keys import state_key

    head, packed = await redis.hmget(state_key(account), "m", "$credits")
    run_id = (await redis.info("server"))["run_id"]
    if head is None or packed is None or msgpack.unpackb(head)[1] != run_id:
        return None  # of an earlier life of the server: nothing is decided on it
    _order, available, held, _granted, debt, *_rest = msgpack.unpackb(packed, raw=True)
    return available, held, debt


def alone(fault: Fault | None) -> list[Planned]:
    """A round with one fault, or with none."""
    return [] if fault is None else [Planned(fault, 0.1, 0.8)]


async def one_round(stack: Stack, seed: int, number: int, plan: list[Planned] | None) -> Result:
    """Round `number` of a seed; a random sequence unless a plan is given."""
    rng = random.Random(f"{seed}/{number}")
    known = [fault for fault in catalog.ALL if stack.own_disk or fault.name != catalog.DISK_FULL]
    plan = planned(rng, known) if plan is None else plan
    running = Round(stack, f"s{seed}r{number}", rng, plan)
    running.result.number = number
    try:
        return await running.run()
    except Exception as error:  # whatever it was, it is told with the round's number
        running.result.wrong.append(f"{type(error).__name__}: {error}")
        await stack.heal()
        return running.result
