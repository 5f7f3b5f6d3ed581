"""A hot state that the ledger has left behind, as a replica could not tell the hot store, answers nothing wrong."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from tests.engine.conftest import CREDIT, books_balance

from creditd.domain.errors import NotFound
from creditd.embedded.process import free_port
from creditd.engine.control_types import GrantDraft, SubscriptionChange
from creditd.engine.requests import Action, Reservation, Use


@pytest.fixture
async def cut_off(world):
    """A replica that reaches the ledger but not the hot store."""
    return await world.replica(f"redis://127.0.0.1:{free_port()}/0")


async def warm(world, engine) -> None:
    await world.account()
    await engine.get_balance("acme", "credits")


def reserve(key: str) -> Use:
    reservation = Reservation(Action.RESERVE, ttl_ms=60_000)
    return Use("acme", "chat", quantity=5, idempotency_key=key, reservation=reservation)


def on(reservation_id: str, action: Action) -> Use:
    return Use("acme", "", quantity=2, reservation=Reservation(action, id=reservation_id))


async def test_a_reservation_that_was_opened_beside_the_hot_store_is_found_by_others(world, engine, cut_off):
    await warm(world, engine)
    opened = await cut_off.reserve(reserve("r"))

    committed = await engine.on_reservation(on(opened.reservation_id, Action.COMMIT))

    assert committed.charged == 2 * CREDIT
    await books_balance(engine)


async def test_a_reservation_that_never_was_is_not_found(world, engine):
    await warm(world, engine)

    with pytest.raises(NotFound):
        await engine.on_reservation(on("0" * 32, Action.COMMIT))


async def test_a_denial_knows_of_a_grant_that_was_made_beside_the_hot_store(world, engine, cut_off):
    await warm(world, engine)
    draft = GrantDraft("acme", "more", "credits", 500 * CREDIT)
    await cut_off.create_grant(draft, idempotency_key="")

    for key in ("k", ""):
        answer = await engine.consume(Use("acme", "chat", quantity=200, idempotency_key=key))
        assert answer.allowed, answer.reason
    await books_balance(engine)


async def test_a_denial_on_the_newest_state_loads_nothing(world, engine):
    await warm(world, engine)
    loads = engine.loader.loads.total()

    answer = await engine.consume(Use("acme", "chat", quantity=200, idempotency_key="k"))

    assert (answer.allowed, answer.reason) == (False, "INSUFFICIENT_CREDITS")
    assert engine.loader.loads.total() == loads


async def test_a_refusal_knows_of_a_plan_that_was_given_beside_the_hot_store(world, engine, cut_off):
    await world.account(plan="payg")
    await engine.consume(Use("acme", "chat", quantity=1, idempotency_key="warm"))
    assert not (await engine.consume(Use("acme", "sso"))).allowed
    await cut_off.put_subscription(SubscriptionChange("acme", "second", "pro"))

    assert (await engine.consume(Use("acme", "sso"))).allowed


async def test_a_balance_knows_of_what_was_burned_beside_the_hot_store(world, engine, cut_off):
    await warm(world, engine)
    before = (await engine.get_balance("acme", "credits")).balances[0].balances.available
    await cut_off.consume(Use("acme", "chat", quantity=7, idempotency_key="k"))

    after = (await engine.get_balance("acme", "credits")).balances[0].balances.available

    assert after == before - 7 * CREDIT


async def test_a_full_hot_store_lets_go_of_what_is_outdated(world, engine):
    await warm(world, engine)
    async with Redis.from_url(world.url) as client:
        await client.config_set("maxmemory", "1")
        try:
            # By the ledger, which the hot store can't be told.
            opened = await engine.reserve(reserve("r"))
            assert (await engine.check(Use("acme", "chat", quantity=1))).allowed
            committed = await engine.on_reservation(on(opened.reservation_id, Action.COMMIT))
            balance = (await engine.get_balance("acme", "credits")).balances[0].balances
        finally:
            await client.config_set("maxmemory", "0")
    dropped = await engine.loader.outdate()

    assert committed.charged == 2 * CREDIT
    assert (balance.available, balance.held) == (98 * CREDIT, 0)
    assert dropped <= 1
    assert await engine.loader.outdate() == 0
    await books_balance(engine)


async def test_an_outdated_state_is_dropped_once_the_hot_store_can_be_told(world, engine):
    await warm(world, engine)
    async with Redis.from_url(world.url) as client:
        await client.config_set("maxmemory", "1")
        await engine.consume(Use("acme", "chat", quantity=3, idempotency_key="k"))
        await client.config_set("maxmemory", "0")
    assert not (await engine.verify_account("acme", repair=False)).consistent

    assert await engine.loader.outdate() == 1

    await books_balance(engine)


async def test_a_caller_that_leaves_between_commit_and_hot_store_leaves_no_old_state(
    world, engine, monkeypatch
):
    await warm(world, engine)
    putting = asyncio.Event()

    async def put(*_arguments: object) -> bool:
        putting.set()
        await asyncio.Event().wait()
        return True

    with monkeypatch.context() as paused:
        paused.setattr(engine.hot, "put", put)
        draft = GrantDraft("acme", "more", "credits", 500 * CREDIT)
        giving = asyncio.create_task(engine.create_grant(draft, idempotency_key=""))
        await putting.wait()
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
    assert not (await engine.verify_account("acme", repair=False)).consistent

    assert await engine.loader.outdate() == 1

    await books_balance(engine)
    assert (await engine.get_balance("acme", "credits")).balances[0].balances.available == 600 * CREDIT
