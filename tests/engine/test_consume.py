"""Consume and Check on real servers: what is decided, what lands, what callers are told."""

from __future__ import annotations

import asyncio

import pytest

from creditd.domain.decide import Mode
from creditd.domain.entries import Kind
from creditd.domain.errors import (
    FailedPrecondition,
    IdempotencyKeyReused,
    InvalidArgument,
    NotFound,
    OutOfRange,
)
from creditd.engine.control_types import EntryQuery, SubscriptionChange
from creditd.engine.requests import Use

CREDIT = 1_000_000
DAY = 86_400_000


async def available(engine, account="acme"):
    view = await engine.get_balance(account, "credits")
    return view.balances[0].balances.available


async def entries(engine, account="acme"):
    return list(reversed(await engine.list_entries(EntryQuery(account, limit=1000))))


async def test_consume_burns_the_price_and_lands_one_entry(world, engine):
    await world.account()

    ruling = await engine.consume(Use("acme", "chat", quantity=7, idempotency_key="k1"))

    assert (ruling.allowed, ruling.reason, ruling.charged) == (True, "COVERED", 7 * CREDIT)
    assert ruling.balances.available == 93 * CREDIT
    assert ruling.allocations == (("sub/plan/0/1", 7 * CREDIT),)
    log = await entries(engine)
    assert [entry.kind for entry in log] == [Kind.GRANT, Kind.CONSUME]
    assert log[-1].id == ruling.entry_id
    assert sum(entry.amount for entry in log) == await available(engine) == 93 * CREDIT


async def test_check_tells_the_cost_and_what_is_affordable_and_changes_nothing(world, engine):
    await world.account()

    ruling = await engine.check(Use("acme", "chat", quantity=7, attributes={"model": "big"}))

    assert (ruling.allowed, ruling.charged, ruling.affordable) == (True, 14 * CREDIT, 50)
    assert len(await entries(engine)) == 1


async def test_denial_says_what_is_missing_and_leaves_no_entry(world, engine):
    await world.account()

    ruling = await engine.consume(Use("acme", "chat", quantity=101, idempotency_key="k"))

    assert (ruling.allowed, ruling.reason) == (False, "INSUFFICIENT_CREDITS")
    assert ruling.shortfall == CREDIT
    assert len(await entries(engine)) == 1


async def test_denied_key_may_succeed_after_a_top_up(world, engine):
    await world.account()
    use = Use("acme", "chat", quantity=101, idempotency_key="k")
    assert not (await engine.consume(use)).allowed

    await world.grant(CREDIT, "topup")

    ruling = await engine.consume(use)
    assert ruling.allowed
    assert not ruling.replayed


async def test_replay_gets_the_first_answer_and_burns_once(world, engine):
    await world.account()
    use = Use("acme", "chat", quantity=3, idempotency_key="k")

    first, *others = await asyncio.gather(*(engine.consume(use) for _ in range(20)))

    answers = {(r.entry_id, r.sequence, r.charged, r.balances.available) for r in (first, *others)}
    assert len(answers) == 1
    assert sum(not r.replayed for r in (first, *others)) == 1
    assert await available(engine) == 97 * CREDIT


async def test_replay_after_the_hot_store_is_lost_and_from_another_replica(world, engine):
    await world.account()
    use = Use("acme", "chat", quantity=3, idempotency_key="k")
    first = await engine.consume(use)
    other = await world.replica()
    connection = await other.hot._connected()
    await connection.call("FLUSHALL")

    again = await other.consume(use)

    assert again.replayed
    assert (again.entry_id, again.sequence, again.balances) == (
        first.entry_id,
        first.sequence,
        first.balances,
    )
    assert await available(other) == 97 * CREDIT
    check = await other.verify_account("acme", repair=False)
    assert check.consistent, check.differences


async def test_late_replay_gives_back_without_making_the_account_cold(world, engine):
    await world.account()
    use = Use("acme", "chat", quantity=3, idempotency_key="k")
    first = await engine.consume(use)
    connection = await engine.hot._connected()
    for key in await connection.call("KEYS", "creditd:*:k:*"):
        await connection.call("DEL", key)  # as after their minutes
    epoch = (await engine.hot.read("acme")).epoch

    again = await asyncio.gather(*(engine.consume(use) for _ in range(10)))

    assert {ruling.entry_id for ruling in again} == {first.entry_id}
    assert (await engine.hot.read("acme")).epoch == epoch
    assert await available(engine) == 97 * CREDIT
    check = await engine.verify_account("acme", repair=False)
    assert check.consistent, check.differences


async def test_replay_of_what_was_applied_is_answered_even_when_credits_have_run_out(world, engine):
    await world.account()
    use = Use("acme", "chat", quantity=60, idempotency_key="k")
    first = await engine.consume(use)
    await engine.consume(Use("acme", "chat", quantity=40))
    connection = await engine.hot._connected()
    await connection.call("FLUSHALL")

    again = await engine.consume(use)

    assert again.replayed
    assert again.entry_id == first.entry_id


async def test_key_with_another_request_is_refused(world, engine):
    await world.account()
    await engine.consume(Use("acme", "chat", quantity=3, idempotency_key="k"))
    other = Use("acme", "chat", quantity=4, idempotency_key="k")

    with pytest.raises(IdempotencyKeyReused):
        await engine.consume(other)
    connection = await engine.hot._connected()
    await connection.call("FLUSHALL")
    with pytest.raises(IdempotencyKeyReused):
        await engine.consume(other)
    assert await available(engine) == 97 * CREDIT


async def test_64_callers_drain_exactly_what_is_there(world, engine):
    await world.account()
    gate = asyncio.Semaphore(64)

    async def one(number):
        async with gate:
            return await engine.consume(Use("acme", "chat", quantity=1, idempotency_key=f"k{number}"))

    rulings = await asyncio.gather(*(one(number) for number in range(200)))

    allowed = [ruling for ruling in rulings if ruling.allowed]
    assert len(allowed) == 100
    assert sorted(ruling.sequence for ruling in allowed) == list(range(2, 102))
    assert await available(engine) == 0


async def test_partial_burns_what_is_there(world, engine):
    await world.account()

    ruling = await engine.consume(Use("acme", "chat", quantity=150, mode=Mode.PARTIAL))

    assert (ruling.reason, ruling.charged, ruling.shortfall) == (
        "PARTIALLY_COVERED",
        100 * CREDIT,
        50 * CREDIT,
    )


async def test_record_makes_debt_that_the_next_grant_pays_first(world, engine):
    await world.account()

    ruling = await engine.consume(Use("acme", "chat", quantity=130, mode=Mode.RECORD))
    assert (ruling.reason, ruling.charged, ruling.balances.debt) == ("RECORDED", 130 * CREDIT, 30 * CREDIT)
    assert await available(engine) == -30 * CREDIT
    await world.grant(50 * CREDIT, "topup")

    assert await available(engine) == 20 * CREDIT
    assert sum(entry.amount for entry in await entries(engine)) == 20 * CREDIT
    assert (await engine.verify_account("acme", repair=False)).consistent


async def test_overage_is_counted_up_to_its_cap(world, engine):
    await world.account(plan="payg")

    first = await engine.consume(Use("acme", "chat", quantity=4))
    second = await engine.consume(Use("acme", "chat", quantity=2))

    assert (first.reason, first.overage, first.overage_used) == ("IN_OVERAGE", 4 * CREDIT, 4 * CREDIT)
    assert (second.reason, second.shortfall) == ("OVERAGE_CAP_REACHED", CREDIT)


async def test_limit_counts_in_its_window_and_starts_anew_in_the_next(world, engine, clock):
    await world.account()
    assert [(await engine.consume(Use("acme", "calls"))).reason for _ in range(4)] == [
        *["WITHIN_LIMIT"] * 3,
        "LIMIT_EXCEEDED",
    ]

    clock.advance(DAY)

    ruling = await engine.consume(Use("acme", "calls"))
    assert (ruling.limit.used, ruling.limit.remaining) == (1, 2)
    assert ruling.limit.resets_at == clock.now + DAY


async def test_gauge_goes_down_again_and_never_below_zero(world, engine):
    await world.account()
    for _ in range(2):
        assert (await engine.consume(Use("acme", "jobs"))).allowed
    assert (await engine.consume(Use("acme", "jobs"))).reason == "LIMIT_EXCEEDED"

    released = await engine.consume(Use("acme", "jobs", quantity=-5))

    assert released.limit.used == 0
    assert (await engine.consume(Use("acme", "jobs"))).limit.used == 1
    assert (await engine.verify_account("acme", repair=False)).consistent


async def test_boolean_and_config_features_answer_by_plan(world, engine):
    await world.account()

    assert (await engine.check(Use("acme", "sso"))).reason == "ENTITLED"
    assert (await engine.check(Use("acme", "window"))).value == 128_000
    assert (await engine.check(Use("acme", "secret"))).reason == "NOT_ENTITLED"


async def test_future_grant_becomes_available_and_expires_to_the_millisecond(world, engine, clock):
    await world.account(plan="payg")
    await world.grant(
        10 * CREDIT, "promo", effective_at=clock.now + 1000, expires_at=clock.now + 2000, priority=1
    )
    seen = []
    for step in (999, 1, 999, 1):
        clock.advance(step)
        seen.append(await available(engine))

    assert seen == [0, 10 * CREDIT, 10 * CREDIT, 0]
    kinds = [entry.kind for entry in await entries(engine)]
    assert kinds == [Kind.GRANT, Kind.GRANT, Kind.EXPIRE]
    assert (await engine.verify_account("acme", repair=False)).consistent


async def test_soonest_expiry_burns_first(world, engine, clock):
    await world.account(plan="payg")
    await world.grant(5 * CREDIT, "late", expires_at=clock.now + 2 * DAY)
    await world.grant(5 * CREDIT, "soon", expires_at=clock.now + DAY)

    ruling = await engine.consume(Use("acme", "chat", quantity=6))

    assert ruling.allocations == (("soon", 5 * CREDIT), ("late", CREDIT))


async def test_external_rate_burns_the_given_cost(world, engine):
    await world.account()

    assert (await engine.consume(Use("acme", "metered", cost_micros=123))).charged == 123
    with pytest.raises(InvalidArgument):
        await engine.consume(Use("acme", "metered"))


async def test_atomic_batch_is_all_or_none(world, engine):
    await world.account()
    uses = [Use("acme", "chat", quantity=60, idempotency_key="a"), Use("acme", "calls", idempotency_key="b")]

    first = await engine.batch_consume(uses, atomic=True)
    again = await engine.batch_consume(uses, atomic=True)
    short = await engine.batch_consume([Use("acme", "calls"), Use("acme", "chat", quantity=41)], atomic=True)

    assert [ruling.allowed for ruling in first] == [True, True]
    assert [ruling.sequence for ruling in first] == [2, 3]
    assert [(r.replayed, r.sequence) for r in again] == [(True, 2), (True, 3)]
    assert isinstance(short[0], FailedPrecondition)
    assert short[1].reason == "INSUFFICIENT_CREDITS"
    assert (await engine.check(Use("acme", "calls"))).limit.used == 1
    with pytest.raises(IdempotencyKeyReused):
        await engine.batch_consume(uses[:1], atomic=True)


async def test_unknown_account_feature_and_rate_are_told_apart(world, engine):
    await world.account()
    with pytest.raises(NotFound, match="account"):
        await engine.consume(Use("nobody", "chat"))
    with pytest.raises(NotFound, match="feature"):
        await engine.check(Use("acme", "nothing"))
    with pytest.raises(FailedPrecondition) as refused:
        await engine.check(Use("acme", "chat", usage={"words": 3}))
    assert refused.value.reason == "NO_RATE"


async def test_negative_quantity_is_only_for_gauges(world, engine):
    await world.account()
    for feature in ("chat", "calls", "sso"):
        with pytest.raises(InvalidArgument):
            await engine.consume(Use("acme", feature, quantity=-1))


async def test_balance_beyond_the_exact_range_is_refused_and_nothing_changes(world, engine):
    await world.account()
    with pytest.raises(OutOfRange):
        await world.grant(9_000_000_000_000_000, "huge")
    assert await available(engine) == 100 * CREDIT


async def test_rate_change_applies_on_every_replica_once_it_is_acknowledged(world, engine):
    from dataclasses import replace

    from tests.engine.conftest import CATALOG

    from creditd.domain.catalog import MeterPrice, Rate

    await world.account()
    other = await world.replica()
    assert (await other.check(Use("acme", "chat"))).charged == CREDIT
    chat = replace(CATALOG.features[0], rates=(Rate((MeterPrice("tokens", 3 * CREDIT),)),))
    changed = replace(CATALOG, features=(chat, *CATALOG.features[1:]))

    applied = await engine.apply_catalog(
        changed, dry_run=False, effective_at=None, expected_version=1, note="dearer"
    )

    ruling = await other.consume(Use("acme", "chat"))
    assert (applied.version, ruling.charged, ruling.catalog_version) == (2, 3 * CREDIT, 2)


async def test_suspension_and_cancellation_bind_on_every_replica_at_once(world, engine):
    from creditd.domain.accounts import Account, SubscriptionStatus

    await world.account()
    other = await world.replica()
    assert (await other.check(Use("acme", "sso"))).allowed

    await engine.put_account(Account("acme", 0, suspended=True), etag="")
    assert (await other.check(Use("acme", "chat"))).reason == "ACCOUNT_SUSPENDED"
    assert (await other.consume(Use("acme", "chat"))).reason == "ACCOUNT_SUSPENDED"

    await engine.put_account(Account("acme", 0), etag="")
    await engine.put_subscription(SubscriptionChange("acme", "sub", "", status=SubscriptionStatus.PAUSED))
    assert (await other.consume(Use("acme", "chat"))).reason == "SUBSCRIPTION_INACTIVE"


async def test_decisions_go_on_from_the_ledger_when_the_hot_store_is_away(world, engine, valkey_server):
    await world.account()
    await engine.consume(Use("acme", "chat", quantity=10, idempotency_key="a"))
    await valkey_server.stop()
    try:
        burned = await engine.consume(Use("acme", "chat", quantity=10, idempotency_key="b"))
        again = await engine.consume(Use("acme", "chat", quantity=10, idempotency_key="a"))
        short = await engine.consume(Use("acme", "chat", quantity=100, idempotency_key="c"))
        checked = await engine.check(Use("acme", "chat", quantity=1))
    finally:
        await valkey_server.start()

    assert (burned.charged, burned.balances.available) == (10 * CREDIT, 80 * CREDIT)
    assert again.replayed
    assert short.reason == "INSUFFICIENT_CREDITS"
    assert checked.affordable == 80
    after = await engine.consume(Use("acme", "chat", quantity=5))
    assert after.balances.available == 75 * CREDIT


async def test_with_the_hot_store_away_a_replica_prices_by_the_newest_catalog(world, engine, valkey_server):
    """The script, which turns away a replica that is behind, is not asked on this path."""
    from dataclasses import replace

    from tests.engine.conftest import CATALOG

    from creditd.domain.catalog import MeterPrice, Rate

    await world.account()
    other = await world.replica()
    assert (await other.check(Use("acme", "chat"))).charged == CREDIT
    chat = replace(CATALOG.features[0], rates=(Rate((MeterPrice("tokens", 3 * CREDIT),)),))
    changed = replace(CATALOG, features=(chat, *CATALOG.features[1:]))
    await valkey_server.stop()
    try:
        await engine.apply_catalog(
            changed, dry_run=False, effective_at=None, expected_version=None, note="dearer"
        )
        burned = await other.consume(Use("acme", "chat", idempotency_key="k"))
    finally:
        await valkey_server.start()

    assert (burned.charged, burned.catalog_version) == (3 * CREDIT, 2)
