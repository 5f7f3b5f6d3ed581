"""Refunds on real servers: in parts, never more than was burned, to the grants that paid."""

from __future__ import annotations

import asyncio

import pytest
from tests.engine.conftest import books_balance

from creditd.domain.accounts import Account
from creditd.domain.decide import Mode
from creditd.domain.entries import Kind
from creditd.domain.errors import FailedPrecondition, IdempotencyKeyReused, NotFound
from creditd.domain.grants import Category
from creditd.engine.control_types import EntryQuery, SubscriptionChange
from creditd.engine.requests import Action, Refund, Reservation, Use

CREDIT = 1_000_000
MINUTE = 60_000
ALLOWANCE = "sub/plan/0/1"


def refunding(entry_id, amount=None, key="r") -> Refund:
    return Refund("acme", entry_id, None if amount is None else amount * CREDIT, key, "sorry")


async def available(engine):
    return (await engine.get_balance("acme", "credits")).balances[0].balances.available // CREDIT


async def remaining(engine):
    state = await engine.ledger.read("acme")
    return {held.grant.id: held.remaining // CREDIT for held in state.grants.values()}


@pytest.fixture
async def engine(world):
    await world.account()
    engine = world.engines[0]
    yield engine
    await books_balance(engine)


async def test_refund_gives_back_all_that_is_left_of_what_was_burned(engine):
    burn = await engine.consume(Use("acme", "chat", quantity=30))

    part = await engine.refund(refunding(burn.entry_id, 10, "a"))
    rest = await engine.refund(refunding(burn.entry_id, None, "b"))

    assert (part.released, part.balances.available) == (10 * CREDIT, 80 * CREDIT)
    assert (rest.released, rest.balances.available) == (20 * CREDIT, 100 * CREDIT)
    entries = await engine.list_entries(EntryQuery("acme", limit=2))
    assert [(entry.kind, entry.reverses) for entry in entries] == [(Kind.REFUND, burn.entry_id)] * 2
    assert await available(engine) == 100


async def test_parts_never_exceed_what_was_burned_however_many_ask_at_once(world, engine):
    other = await world.replica()
    burn = await engine.consume(Use("acme", "chat", quantity=30))

    outcomes = await asyncio.gather(
        *((engine, other)[n % 2].refund(refunding(burn.entry_id, 7, f"k{n}")) for n in range(10)),
        return_exceptions=True,
    )

    refused = [each for each in outcomes if isinstance(each, FailedPrecondition)]
    assert len(refused) == 6
    assert {each.reason for each in refused} == {"REFUND_TOO_LARGE"}
    assert await available(engine) == 98
    await engine.refund(refunding(burn.entry_id))
    with pytest.raises(FailedPrecondition) as caught:
        await engine.refund(refunding(burn.entry_id, None, "more"))
    assert caught.value.reason == "NOTHING_TO_REFUND"


async def test_refund_is_done_once_under_its_key(engine):
    burn = await engine.consume(Use("acme", "chat", quantity=30))

    first = await engine.refund(refunding(burn.entry_id, 10))
    again = await engine.refund(refunding(burn.entry_id, 10))

    assert (again.replayed, again.entry_id, again.released) == (True, first.entry_id, 10 * CREDIT)
    assert again.balances == first.balances
    with pytest.raises(IdempotencyKeyReused):
        await engine.refund(refunding(burn.entry_id, 11))
    assert await available(engine) == 80


async def test_credits_go_back_to_the_grants_that_paid_the_last_one_first(world, engine):
    await world.grant(20 * CREDIT, "first", priority=1)
    burn = await engine.consume(Use("acme", "chat", quantity=50))
    assert await remaining(engine) == {ALLOWANCE: 70, "first": 0}

    await engine.refund(refunding(burn.entry_id, 35))

    assert await remaining(engine) == {ALLOWANCE: 100, "first": 5}


async def test_what_a_grant_paid_that_is_gone_comes_back_without_expiry(world, engine, clock):
    await world.grant(20 * CREDIT, "short", priority=1, expires_at=clock.now + MINUTE, features=("chat",))
    burn = await engine.consume(Use("acme", "chat", quantity=50))
    clock.advance(MINUTE)

    refund = await engine.refund(refunding(burn.entry_id))

    assert refund.released == 50 * CREDIT
    assert await available(engine) == 120
    state = await engine.ledger.read("acme")
    fresh = [held for held in state.grants.values() if held.grant.category is Category.REFUND]
    assert [(held.remaining // CREDIT, held.grant.expires_at) for held in fresh] == [(20, None)]
    assert fresh[0].grant.features == ("chat",)


async def test_refund_of_what_was_recorded_lowers_the_debt_first(engine):
    burn = await engine.consume(Use("acme", "chat", quantity=130, mode=Mode.RECORD))

    refund = await engine.refund(refunding(burn.entry_id, 40))

    assert (refund.balances.debt, refund.balances.available) == (0, 10 * CREDIT)
    assert await remaining(engine) == {ALLOWANCE: 10}


async def test_debt_that_was_paid_meanwhile_comes_back_as_credits(world, engine):
    burn = await engine.consume(Use("acme", "chat", quantity=130, mode=Mode.RECORD))
    await world.grant(50 * CREDIT, "topup")
    assert await available(engine) == 20

    await engine.refund(refunding(burn.entry_id, 30))

    assert await available(engine) == 50


async def test_overage_counts_less_while_its_window_is_on(world, engine):
    await world.engines[0].put_account(Account("payg", 0), etag="")
    await engine.put_subscription(SubscriptionChange("payg", "sub", "payg"))
    burn = await engine.consume(Use("payg", "chat", quantity=4))
    assert burn.overage == 4 * CREDIT

    refund = await engine.refund(Refund("payg", burn.entry_id, 3 * CREDIT, "r"))

    assert (refund.released, refund.overage_used) == (3 * CREDIT, CREDIT)
    assert (await engine.consume(Use("payg", "chat", quantity=4))).allowed
    assert not (await engine.consume(Use("payg", "chat", quantity=1))).allowed


async def test_commit_can_be_refunded_held_part_and_excess_alike(engine):
    held = await engine.reserve(
        Use("acme", "chat", quantity=20, reservation=Reservation(Action.RESERVE, ttl_ms=MINUTE))
    )
    commit = Reservation(Action.COMMIT, held.reservation_id)
    done = await engine.on_reservation(Use("acme", "", quantity=50, reservation=commit))

    refund = await engine.refund(refunding(done.entry_id))

    assert refund.released == 50 * CREDIT
    assert await available(engine) == 100


async def test_held_overage_can_be_refunded(world, engine):
    await engine.put_account(Account("payg", 0), etag="")
    await engine.put_subscription(SubscriptionChange("payg", "sub", "payg"))
    reserve = Reservation(Action.RESERVE, ttl_ms=MINUTE)
    held = await engine.reserve(Use("payg", "chat", quantity=5, reservation=reserve))
    assert not (await engine.reserve(Use("payg", "chat", quantity=1, reservation=reserve))).allowed
    commit = Reservation(Action.COMMIT, held.reservation_id)
    done = await engine.on_reservation(Use("payg", "", quantity=3, reservation=commit))
    assert (done.overage, done.released, done.overage_used) == (3 * CREDIT, 2 * CREDIT, 3 * CREDIT)

    refund = await engine.refund(Refund("payg", done.entry_id, None, "r"))

    assert (refund.released, refund.overage_used) == (3 * CREDIT, 0)
    check = await engine.verify_account("payg", repair=False)
    assert check.consistent, check.differences


async def test_what_burned_nothing_cannot_be_refunded(engine):
    counted = await engine.consume(Use("acme", "calls"))

    with pytest.raises(FailedPrecondition) as caught:
        await engine.refund(refunding(counted.entry_id))
    with pytest.raises(NotFound) as missing:
        await engine.refund(refunding("nope"))

    assert caught.value.reason == "NOTHING_TO_REFUND"
    assert missing.value.reason == "ENTRY_NOT_FOUND"
