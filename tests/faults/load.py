"""The load: callers that do everything that changes an account, retry with their keys, and sometimes go away."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from tests.faults.journal import ACKED, DENIED, REFUSED, UNKNOWN, Attempt, Facts, Journal, Op
from tests.faults.stack import Server, Stack

from creditd.cli.catalog_file import load_catalog
from creditd.cli.refusals import refusal_of
from creditd.v1 import accounts_pb2 as accounts
from creditd.v1 import catalog_pb2
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.catalog_pb2_grpc import CatalogsStub
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

MICROS: Final = 1_000_000
CALLERS: Final = 12
COLD_ACCOUNTS: Final = 14
CALLS_CAP: Final = 400
"""Units of the feature `calls` that an account may use a day."""
SLACK_S: Final = 1.5
"""How much later than its deadline a call may end: gRPC keeps time itself, this machine is busy."""
SHORT_TTL_S: Final = 2
LONG_TTL_S: Final = 3600

_UNKNOWN_CODES = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
# Refusals that say what the caller must expect: it has gone on without an answer, or the reservation's time was over.
_EXPECTED = {("extend", f"RESERVATION_{ended}") for ended in ("EXPIRED", "COMMITTED", "RELEASED")}


class Caller:
    """A connection to each server, and the calls over it."""

    def __init__(self, stack: Stack, journal: Journal) -> None:
        self._journal = journal
        self._channels = {server.name: stack.channel(server) for server in stack.servers}
        self.uses = {name: EntitlementsStub(channel) for name, channel in self._channels.items()}
        self.accounts = {name: AccountsStub(channel) for name, channel in self._channels.items()}

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def call(
        self, method: Any, request: Any, *, deadline_s: float, vanish_s: float | None = None
    ) -> tuple[str, Any]:
        """The status code and the answer, or the error; `vanish_s` is when the caller goes away."""
        began = time.monotonic()
        call = method(request, timeout=deadline_s)
        waiting = asyncio.ensure_future(_answer(call))
        done, _ = await asyncio.wait({waiting}, timeout=vanish_s)
        if not done:
            call.cancel()
            await asyncio.wait({waiting})
            self._journal.count("vanished")
            return "CANCELLED", None
        code, answer = waiting.result()
        self._journal.count(code)
        took = time.monotonic() - began
        if took > deadline_s + SLACK_S:
            self._journal.wrong.append(f"{code} {took - deadline_s:.2f} s after the deadline")
        if code == "DEADLINE_EXCEEDED" and took < deadline_s - 0.3:
            self._journal.wrong.append(f"DEADLINE_EXCEEDED {deadline_s - took:.2f} s before the deadline")
        return code, answer


async def _answer(call: Awaitable[Any]) -> tuple[str, Any]:
    try:
        return "OK", await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error
    except asyncio.CancelledError:
        return "CANCELLED", None


@dataclass(slots=True)
class _Kept:
    """What a caller may go back to."""

    burned: list[tuple[str, str, int]] = field(default_factory=list)
    held: list[tuple[str, str, int, bool]] = field(default_factory=list)
    grants: list[tuple[str, str]] = field(default_factory=list)


class Load:
    """All callers of one round. Whatever they may do wrong is chosen by `rng`."""

    def __init__(self, stack: Stack, name: str, rng: random.Random) -> None:
        self.stack, self.name, self.rng = stack, name, rng
        self.journal = Journal()
        self.hot = f"{name}-hot"
        self.probed = f"{name}-probed"
        self.cold = [f"{name}-{number}" for number in range(COLD_ACCOUNTS)]
        self.names = [self.hot, self.probed, *self.cold]
        self.vanishing = 0.03
        """Which share of the calls is given up by its caller."""
        self.is_flooded = False
        self._stop = asyncio.Event()
        self._numbers = iter(range(10**9))

    async def prepare(self) -> None:
        """Make the accounts."""
        caller = Caller(self.stack, self.journal)
        first = next(iter(caller.accounts))
        try:
            for account in self.names:
                stub = caller.accounts[first]
                await stub.PutAccount(
                    accounts.PutAccountRequest(account=accounts.Account(id=account)), timeout=30
                )
                subscription = accounts.Subscription(id="plan", plan="faults")
                await stub.PutSubscription(
                    accounts.PutSubscriptionRequest(account=account, subscription=subscription), timeout=30
                )
                credits = 3000 if account == self.hot else 150
                for share in (0.7, 0.3):
                    await self._resolve(caller, self._grant(account, int(credits * share) * MICROS))
        finally:
            await caller.close()

    async def run(self) -> None:
        """Let the callers work until `stop`."""
        await asyncio.gather(*(self._work(random.Random(self.rng.random())) for _ in range(CALLERS)))

    def stop(self) -> None:
        """Let each caller end what it is doing."""
        self._stop.set()

    async def resolve(self) -> None:
        """Ask again, with everything mended, for all whose end somebody must still learn."""
        caller = Caller(self.stack, self.journal)
        todo = [op for op in self.journal.ops if not op.is_settled and not op.asked.get("vanished")]
        groups = {op.group: op for op in todo if op.group}
        singles = [op for op in todo if not op.group] + list(groups.values())
        try:
            for first in range(0, len(singles), 16):
                await asyncio.gather(*(self._resolve(caller, op) for op in singles[first : first + 16]))
        finally:
            await caller.close()

    async def _resolve(self, caller: Caller, op: Op) -> None:
        for _ in range(40):
            await self._attempt(caller, op, self.rng.choice(self.stack.servers), 10.0)
            if op.is_settled:
                return
            await asyncio.sleep(0.1)
        self.journal.wrong.append(f"no answer with everything mended: {op}")

    async def probe(self, caller: Caller, server: Server) -> bool:
        """Whether a server burns right now."""
        op = self._consume(self.probed, 1, pb.MODE_RECORD)
        op.asked["vanished"] = True  # nobody asks again
        await self._attempt(caller, op, server, 1.0)
        return op.facts is not None

    # One caller.

    async def _work(self, rng: random.Random) -> None:
        caller, kept = Caller(self.stack, self.journal), _Kept()
        try:
            while not self._stop.is_set():
                await self._one(caller, kept, rng)
                await asyncio.sleep(rng.random() * 0.01)
        finally:
            await caller.close()

    async def _one(self, caller: Caller, kept: _Kept, rng: random.Random) -> None:
        account = self.hot if rng.random() < 0.4 else rng.choice(self.cold)
        choice = rng.random()
        if choice < 0.12:
            await self._read(caller, account, rng)
        elif choice < 0.22:
            await self._batch(caller, account, rng)
        else:
            op = self._choose(account, kept, rng)
            await self._perform(caller, op, rng)
            self._keep(op, kept, rng)

    def _choose(self, account: str, kept: _Kept, rng: random.Random) -> Op:
        choice = rng.random()
        cost = rng.randint(1, 20) * MICROS + rng.randint(0, 999)
        if choice < 0.22 and kept.held:
            return self._on_hold(kept, rng)
        if choice < 0.30 and kept.burned:
            account, entry, charged = kept.burned.pop(rng.randrange(len(kept.burned)))
            asked = {"entry": entry, "micros": rng.randint(1, charged)}
            return self._op("refund", account, asked)
        if choice < 0.33 and kept.grants:
            account, grant = kept.grants.pop()
            return self.journal.add(Op("void", account, grant, {"grant": grant}))
        # Each of these loads the account, and everybody on it decides again: rare where everybody is.
        control = account if rng.random() < 0.2 else rng.choice(self.cold)
        if choice < 0.36:
            return self._grant(control, cost)
        if choice < 0.39:
            return self._op("purchase", control, {"quantity": rng.randint(1, 2)})
        if choice < 0.55:
            ttl = SHORT_TTL_S if rng.random() < 0.25 else LONG_TTL_S
            return self._op("reserve", account, {"micros": cost, "ttl": ttl})
        if choice < 0.65:
            return self._op("limit", account, {"quantity": rng.randint(1, 5)})
        mode = rng.choices([pb.MODE_ENFORCE, pb.MODE_PARTIAL, pb.MODE_RECORD], [6, 2, 1])[0]
        return self._consume(account, cost, mode)

    def _on_hold(self, kept: _Kept, rng: random.Random) -> Op:
        account, reservation, held, is_short = kept.held.pop(rng.randrange(len(kept.held)))
        choice = rng.random()
        asked = {"reservation": reservation}
        if choice < 0.2:
            kept.held.append((account, reservation, held, is_short))
            return self._op("extend", account, {**asked, "micros": rng.randint(1, 5 * MICROS)})
        if choice < 0.4:
            key = f"\x01settle/{reservation}"
            return self.journal.add(Op("release", account, key, asked))
        more = MICROS if rng.random() < 0.2 else 0
        asked |= {"micros": rng.randint(0, held) + more}
        return self.journal.add(Op("commit", account, f"\x01settle/{reservation}", asked))

    def _keep(self, op: Op, kept: _Kept, rng: random.Random) -> None:
        facts = op.facts
        if facts is None:
            return
        if (
            op.kind == "consume"
            and facts["charged"]
            and rng.random() < (0.1 if op.account == self.hot else 0.4)
        ):
            kept.burned.append((op.account, facts["entry"], facts["charged"]))
        elif op.kind == "reserve" and rng.random() < 0.85:
            is_short = op.asked["ttl"] == SHORT_TTL_S
            kept.held.append((op.account, facts["reservation"], facts["held"], is_short))
        elif op.kind == "grant" and rng.random() < (0.2 if op.account == self.hot else 0.5):
            kept.grants.append((op.account, facts["grant"]))

    async def _perform(self, caller: Caller, op: Op, rng: random.Random) -> None:
        """Try, and try again elsewhere, as a client with a retry policy does."""
        servers = self.stack.servers
        if rng.random() < 0.05:
            pair = rng.sample(servers, 2)
            await asyncio.gather(*(self._attempt(caller, op, server, 2.0) for server in pair))
        for _ in range(3):
            if op.is_settled:
                break
            vanish_s = None
            if rng.random() < self.vanishing:
                vanish_s = rng.random() * 0.03
                op.asked["vanished"] = rng.random() < 0.5
            await self._attempt(
                caller, op, rng.choice(servers), rng.choice((0.5, 1.0, 2.5)), vanish_s=vanish_s
            )
            if op.asked.get("vanished"):
                return
            if not op.is_settled:
                await asyncio.sleep(0.03)
        if op.is_settled and rng.random() < 0.05:
            await self._attempt(caller, op, rng.choice(servers), 2.0)  # a client that has lost the answer

    async def _read(self, caller: Caller, account: str, rng: random.Random) -> None:
        stub = caller.uses[rng.choice(self.stack.servers).name]
        if rng.random() < 0.5:
            request = pb.CheckRequest(account=account, feature="calls", quantity=1)
            code, error = await caller.call(stub.Check, request, deadline_s=1.0)
        else:
            code, error = await caller.call(
                stub.GetBalance, pb.GetBalanceRequest(account=account), deadline_s=1.0
            )
        if code != "OK" and not self._is_allowed(code):
            self.journal.wrong.append(f"a read: {code} {_text(error)}")

    async def _batch(self, caller: Caller, account: str, rng: random.Random) -> None:
        atomic = rng.random() < 0.5
        group = f"{self.name}-b{next(self._numbers)}" if atomic else ""
        ops = [
            self._consume(account, rng.randint(1, 5) * MICROS, pb.MODE_ENFORCE)
            for _ in range(rng.randint(2, 4))
        ]
        for op in ops:
            op.group, op.batch = group, ops
        for _ in range(3):
            await self._attempt(caller, ops[0], rng.choice(self.stack.servers), 2.0, batch=ops)
            if all(op.is_settled for op in ops):
                return
            await asyncio.sleep(0.03)

    # Operations.

    def _op(self, kind: str, account: str, asked: dict[str, Any]) -> Op:
        return self.journal.add(Op(kind, account, f"{self.name}-k{next(self._numbers)}", asked))

    def _consume(self, account: str, cost: int, mode: int) -> Op:
        return self._op("consume", account, {"micros": cost, "mode": mode})

    def _grant(self, account: str, micros: int) -> Op:
        return self._op("grant", account, {"micros": micros})

    async def _attempt(
        self,
        caller: Caller,
        op: Op,
        server: Server,
        deadline_s: float,
        *,
        vanish_s: float | None = None,
        batch: list[Op] | None = None,
    ) -> None:
        batch = batch or (op.batch if op.group else None)
        began, wall = time.monotonic(), time.time()
        uses, control = caller.uses[server.name], caller.accounts[server.name]
        if batch:
            items = [consume_request(each) for each in batch]
            method, request = uses.BatchConsume, pb.BatchConsumeRequest(items=items, atomic=bool(op.group))
        else:
            method, request = _REQUESTS[op.kind](op, uses, control)
        code, answer = await caller.call(method, request, deadline_s=deadline_s, vanish_s=vanish_s)
        results = self._of_batch(batch, code, answer) if batch else [(op, *self._judge(op, code, answer))]
        for each, said, outcome, facts in results:
            each.attempts.append(Attempt(began, time.monotonic(), server.name, said, outcome, facts, wall))

    def _of_batch(self, batch: list[Op], code: str, answer: Any) -> list[tuple[Op, str, str, Facts]]:
        if code != "OK":
            return [(op, *self._judge(op, code, answer)) for op in batch]
        found: list[tuple[Op, str, str, Facts]] = []
        for op, result in zip(batch, answer.results, strict=True):
            if result.WhichOneof("result") == "response":
                found.append((op, *self._judge(op, "OK", result.response)))
                continue
            name = _CODES[result.error.code]
            if result.error.reason == "BATCH_ABORTED":
                found.append((op, name, DENIED, {}))
            else:
                found.append((op, *self._judge(op, name, result.error)))
        return found

    def _judge(self, op: Op, code: str, answer: Any) -> tuple[str, str, Facts]:
        """The code, what it means for the operation, and the facts of the answer."""
        if code == "OK":
            facts = facts_of(op, answer)
            return (code, DENIED, {}) if facts is None else (code, ACKED, facts)
        if code in _UNKNOWN_CODES:
            return code, UNKNOWN, {}
        reason = answer.reason if isinstance(answer, pb.Error) else refusal_of(answer).reason
        if (op.kind, reason) in _EXPECTED:
            return code, REFUSED, {}
        if not self._is_allowed(code):
            self.journal.wrong.append(f"{code} {_text(answer)} to {op}")
            return code, REFUSED, {}
        return code, UNKNOWN, {}

    def _is_allowed(self, code: str) -> bool:
        return code in _UNKNOWN_CODES or (self.is_flooded and code == "RESOURCE_EXHAUSTED")


_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


def _text(error: Any) -> str:
    return str(error.details()) if isinstance(error, grpc.RpcError) else str(error).replace("\n", " ")


def consume_request(op: Op) -> pb.ConsumeRequest:
    """A Consume, or an item of a batch."""
    asked = op.asked
    if op.kind == "limit":
        return pb.ConsumeRequest(
            account=op.account, feature="calls", quantity=asked["quantity"], idempotency_key=op.key
        )
    return pb.ConsumeRequest(
        account=op.account,
        feature="work",
        cost_micros=asked["micros"],
        mode=asked["mode"],
        idempotency_key=op.key,
    )


def _reserve(op: Op, uses: Any, _control: Any) -> tuple[Any, Any]:
    request = pb.ReserveRequest(
        account=op.account,
        feature="work",
        cost_micros=op.asked["micros"],
        ttl=Duration(seconds=op.asked["ttl"]),
        idempotency_key=op.key,
    )
    return uses.Reserve, request


def _extend(op: Op, uses: Any, _control: Any) -> tuple[Any, Any]:
    asked = op.asked
    request = pb.ExtendRequest(
        account=op.account,
        reservation_id=asked["reservation"],
        cost_micros=asked["micros"],
        idempotency_key=op.key,
    )
    return uses.Extend, request


def _commit(op: Op, uses: Any, _control: Any) -> tuple[Any, Any]:
    asked = op.asked
    request = pb.CommitRequest(
        account=op.account, reservation_id=asked["reservation"], cost_micros=asked["micros"]
    )
    return uses.Commit, request


def _release(op: Op, uses: Any, _control: Any) -> tuple[Any, Any]:
    return uses.Release, pb.ReleaseRequest(account=op.account, reservation_id=op.asked["reservation"])


def _refund(op: Op, uses: Any, _control: Any) -> tuple[Any, Any]:
    request = pb.RefundRequest(
        account=op.account,
        entry_id=op.asked["entry"],
        amount_micros=op.asked["micros"],
        idempotency_key=op.key,
    )
    return uses.Refund, request


def _create_grant(op: Op, _uses: Any, control: Any) -> tuple[Any, Any]:
    grant = {"account": op.account, "credit": "credits", "amount_micros": op.asked["micros"]}
    return control.CreateGrant, accounts.CreateGrantRequest(grant=grant, idempotency_key=op.key)


def _void(op: Op, _uses: Any, control: Any) -> tuple[Any, Any]:
    return control.VoidGrant, accounts.VoidGrantRequest(account=op.account, id=op.asked["grant"])


def _purchase(op: Op, _uses: Any, control: Any) -> tuple[Any, Any]:
    request = accounts.PurchaseBundleRequest(
        account=op.account, bundle="pack", quantity=op.asked["quantity"], idempotency_key=op.key
    )
    return control.PurchaseBundle, request


_REQUESTS: Final[dict[str, Callable[[Op, Any, Any], tuple[Any, Any]]]] = {
    "consume": lambda op, uses, _control: (uses.Consume, consume_request(op)),
    "limit": lambda op, uses, _control: (uses.Consume, consume_request(op)),
    "reserve": _reserve,
    "extend": _extend,
    "commit": _commit,
    "release": _release,
    "refund": _refund,
    "grant": _create_grant,
    "void": _void,
    "purchase": _purchase,
}


def facts_of(op: Op, answer: Any) -> Facts | None:
    """What an answer says that every replay must repeat; None for a denial."""
    kind = op.kind
    if kind in {"grant", "purchase", "void"}:
        return {"grant": answer.id, "micros": answer.amount_micros}
    if kind == "release":
        return {"released": answer.released_micros}
    if kind == "refund":
        return {
            "entry": answer.entry_id,
            "sequence": answer.sequence,
            "refunded": answer.refunded_micros,
        }
    if kind == "commit":
        return {
            "entry": answer.entry_id,
            "sequence": answer.sequence,
            "charged": answer.charged_micros,
            "released": answer.released_micros,
        }
    if not answer.allowed:
        return None
    if kind in {"reserve", "extend"}:
        return {"reservation": answer.reservation_id, "held": answer.held_micros}
    facts = {"entry": answer.entry_id, "sequence": answer.sequence, "charged": answer.charged_micros}
    return facts | {"overage": answer.overage_micros}


async def sell(stack: Stack) -> None:
    """Put the catalog of the suite in place."""
    catalog = load_catalog(Path(__file__).with_name("catalog.yaml")).message
    # Dated back, so that it is in force on replicas whose clocks are behind, too.
    stack.servers[0].order(clock_ms=-60_000)
    await asyncio.sleep(0.2)
    async with stack.channel(stack.servers[0]) as channel:
        request = catalog_pb2.ApplyCatalogRequest(catalog=catalog, note="faults")
        await CatalogsStub(channel).ApplyCatalog(request, timeout=30, wait_for_ready=True)
    stack.servers[0].order(clock_ms=0)
