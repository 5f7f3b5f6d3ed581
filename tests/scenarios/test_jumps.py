"""A jump over many boundaries gives the same as stepping through each of them: the same account, played twice.

Each case makes an account of random grants and subscriptions with random uses and changes at random instants. One twin
is looked at at every boundary in between, to the millisecond before it and on it; the other only where something is
done. What they are told, and what they have at the end, must be equal.
"""

from __future__ import annotations

import random
from datetime import UTC
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from tests.scenarios.conservation import check_books
from tests.scenarios.steps import catalog_of, request_of
from tests.scenarios.test_scenarios import applied, message_of

from creditd.domain.periods import to_ms
from creditd.v1 import accounts_pb2, catalog_pb2, entitlements_pb2, ledger_pb2, test_clocks_pb2

CASES = 8
ACTIONS = 10
START = 1_893_456_000_000 + 30 * 86_400_000  # 2030-01-31, so that months end early
STEPS_MAX = 24
GRANTS_LOOKED_AT = 1000

CATALOG = {
    "credits": [{"key": "credits"}],
    "features": [
        {
            "key": "chat",
            "type": "credit",
            "credit": "credits",
            "default_value": True,
            "rates": [{"prices": [{"meter": "units", "credits": 1}]}],
        },
        {
            "key": "image",
            "type": "credit",
            "credit": "credits",
            "default_value": True,
            "rates": [{"prices": [{"meter": "units", "credits": 1}]}],
        },
    ],
    "add_ons": [{"key": "pack", "allowances": [{"credit": "credits", "amount": 6, "every": "week"}]}],
    "plans": [
        {"key": "jump-basic", "allowances": [{"credit": "credits", "amount": 20, "every": "month"}]},
        {
            "key": "jump-rolling",
            "allowances": [
                {
                    "credit": "credits",
                    "amount": 10,
                    "every": "month",
                    "rollover": {"max": 15, "max_periods": 2},
                    "per_seat": True,
                }
            ],
        },
        {
            "key": "jump-lasting",
            "allowances": [
                {"credit": "credits", "amount": 7, "every": "2 weeks", "expires_after": "month"},
                {"credit": "credits", "amount": 3},
            ],
        },
        {
            "key": "jump-trial",
            "trial": {"length": "10 days", "allowances": [{"credit": "credits", "amount": 4}]},
            "allowances": [
                {"credit": "credits", "amount": 9, "every": "month", "rollover": {"max_percent": 50}}
            ],
        },
    ],
}
PLANS = [plan["key"] for plan in CATALOG["plans"]]
UNITS = ["HOUR", "DAY", "WEEK", "MONTH", "MONTH"]


def a_grant(draw: random.Random, number: int, now: int) -> dict[str, Any]:
    grant: dict[str, Any] = {"id": f"g{number}", "credit": "credits", "amount": draw.randint(1, 30)}
    if draw.random() < 0.3:
        grant["effective_at"] = text(now + draw.choice([86_400_000, 31 * 86_400_000, 3_600_001]))
    if draw.random() < 0.4:
        grant["expires_at"] = text(now + draw.randint(40, 120) * 86_400_000)
    if draw.random() < 0.3:
        grant["features"] = [draw.choice(["chat", "image"])]
    if draw.random() < 0.7:
        unit = draw.choice(UNITS)
        recurrence: dict[str, Any] = {"every": {"unit": unit, "count": draw.randint(1, 3)}}
        if unit != "HOUR" and draw.random() < 0.6:
            recurrence["rollover"] = draw.choice(
                [{"max": 25}, {"max_percent": 50}, {"max": 40, "max_periods": 2}, {"max_periods": 1}]
            )
        grant["recurrence"] = recurrence
    return {"CreateGrant": {"grant": grant}}


def a_subscription(draw: random.Random, now: int) -> dict[str, Any]:
    subscription: dict[str, Any] = {"id": draw.choice(["s", "t"]), "plan": draw.choice(PLANS)}
    subscription["seats"] = draw.randint(1, 3)
    if draw.random() < 0.3:
        subscription["add_ons"] = [{"add_on": "pack", "quantity": draw.randint(1, 2)}]
    if draw.random() < 0.2:
        subscription["cancel_at"] = text(now + draw.randint(5, 90) * 86_400_000)
    mode = draw.choice(["CARRY_USAGE", "FRESH", "PRORATE", "AT_PERIOD_END", "UNSPECIFIED"])
    return {"PutSubscription": {"subscription": subscription, "mode": mode}}


def an_action(draw: random.Random, number: int, now: int) -> dict[str, Any]:
    kind = draw.choices(["grant", "subscription", "use", "record", "void", "reset"], [4, 3, 6, 1, 1, 1])[0]
    if kind == "grant":
        return a_grant(draw, number, now)
    if kind == "subscription":
        return a_subscription(draw, now)
    if kind == "void":
        return {"VoidGrant": {"id": f"g{draw.randint(0, number)}"}}
    if kind == "reset":
        return {"ResetUsage": {"idempotency_key": f"r{number}", "move_anchor": draw.random() < 0.5}}
    mode = "RECORD" if kind == "record" else draw.choice(["ENFORCE", "PARTIAL"])
    use = {"feature": draw.choice(["chat", "image"]), "quantity": draw.randint(0, 25), "mode": mode}
    return {"Consume": use}


def a_story(seed: int) -> list[tuple[int, dict[str, Any]]]:
    """Actions at instants; the last one is a look a year after the first."""
    draw = random.Random(seed)
    now = START
    story: list[tuple[int, dict[str, Any]]] = []
    for number in range(ACTIONS):
        story.append((now, an_action(draw, number, now)))
        now += draw.choice([0, 1, 3_600_000, 12 * 86_400_000, 28 * 86_400_000, 70 * 86_400_000])
    return [*story, (now + 200 * 86_400_000, {})]


def text(ms: int) -> str:
    moment = Timestamp()
    moment.FromMilliseconds(ms)
    return moment.ToJsonString()


class Twin:
    """One of the two accounts, on a clock of its own."""

    def __init__(self, api: Any, name: str) -> None:
        self.api, self.name, self.now = api, name, START

    async def begin(self) -> None:
        clock = test_clocks_pb2.TestClock(id=self.name)
        clock.now.FromMilliseconds(START)
        await self.api.clocks.CreateTestClock(test_clocks_pb2.CreateTestClockRequest(test_clock=clock))
        account = accounts_pb2.Account(id=self.name, test_clock=self.name)
        await self.api.accounts.PutAccount(accounts_pb2.PutAccountRequest(account=account))

    async def move(self, to: int) -> None:
        request = test_clocks_pb2.AdvanceTestClockRequest(id=self.name)
        request.now.FromMilliseconds(to)
        await self.api.clocks.AdvanceTestClock(request)
        self.now = to

    async def step(self, to: int) -> None:
        """Go there by every boundary in between, as far as `STEPS_MAX` of them go."""
        for _ in range(STEPS_MAX):
            boundary = await self.next_boundary()
            if boundary is None or boundary >= to:
                break
            if boundary - 1 > self.now:
                await self.move(boundary - 1)
                await self.look()
            await self.move(boundary)
            await self.look()
        await self.move(to)

    async def next_boundary(self) -> int | None:
        balance = (await self.look()).balances[0]
        grants = await self.grants()
        instants = [to_ms(grant.effective_at.ToDatetime(tzinfo=None).replace(tzinfo=UTC)) for grant in grants]
        for name in ("next_expiry", "next_refill"):
            if balance.HasField(name):
                instants.append(getattr(balance, name).ToMilliseconds())
        return min((instant for instant in instants if instant > self.now), default=None)

    async def look(self) -> entitlements_pb2.GetBalanceResponse:
        request = entitlements_pb2.GetBalanceRequest(account=self.name)
        return await self.api.entitlements.GetBalance(request)

    async def grants(self) -> list[Any]:
        request = accounts_pb2.ListGrantsRequest(
            account=self.name, include_inactive=True, page_size=GRANTS_LOOKED_AT
        )
        answer = await self.api.accounts.ListGrants(request)
        return [item.grant for item in answer.grants]

    async def do(self, action: dict[str, Any]) -> Any:
        """The answer without what names the account or the entries, or the error's code."""
        for rpc, fields in action.items():
            service = self.api.entitlements if rpc == "Consume" else self.api.accounts
            message = message_of(rpc)
            request = request_of(message.DESCRIPTOR, {**fields, **self.own(fields)}, message)
            try:
                return plain(await getattr(service, rpc)(request), self.name)
            except grpc.aio.AioRpcError as error:
                return error.code().name
        return plain(await self.look(), self.name)

    def own(self, fields: dict[str, Any]) -> dict[str, Any]:
        if "grant" in fields:
            return {"grant": {**fields["grant"], "account": self.name}}
        return {"account": self.name}


VARYING = {"sequence", "entryId", "entry_id", "id", "grantId", "asOfSequence", "createdAt"}


def plain(answer: Any, name: str) -> Any:
    """An answer without ids and sequences: who is looked at more often has more entries."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in VARYING}
        if isinstance(value, list):
            return [strip(item) for item in value]
        return value.replace(name, "account") if isinstance(value, str) else value

    return strip(MessageToDict(answer))


@pytest.mark.parametrize("seed", range(CASES))
async def test_a_jump_over_many_boundaries_gives_the_same_as_stepping_through_each(shared_server, seed):
    api, ledger = shared_server
    applied.clear()
    await api.catalogs.ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=catalog_of(CATALOG)))
    jumping, stepping = Twin(api, f"jump-{seed}"), Twin(api, f"step-{seed}")
    await jumping.begin()
    await stepping.begin()
    for place, (instant, action) in enumerate(a_story(seed)):
        if instant > jumping.now:
            await jumping.move(instant)
            await stepping.step(instant)
        jumped, stepped = await jumping.do(action), await stepping.do(action)

        assert jumped == stepped, f"seed {seed}, action {place}: {action}"
        jumped, stepped = await jumping.do({}), await stepping.do({})
        assert jumped == stepped, f"seed {seed}, after action {place}: {action}"
    for twin in (jumping, stepping):
        entries = list(reversed(await ledger.list_entries(twin.name, limit=100_000)))
        check_books(entries, await ledger.read(twin.name, from_start=True))
        verified = await api.ledger.VerifyAccount(ledger_pb2.VerifyAccountRequest(account=twin.name))
        assert verified.consistent, list(verified.differences)
