"""Reservations on real servers: what is held, burned and given back, by whom, and when."""

from __future__ import annotations

import asyncio

import pytest
from tests.engine.conftest import books_balance

from creditd.domain.decide import Mode
from creditd.domain.entries import Kind
from creditd.domain.errors import FailedPrecondition, IdempotencyKeyReused, NotFound
from creditd.engine.control_types import EntryQuery
from creditd.engine.requests import Action, Reservation, Use
from creditd.hot.connection import HotUnavailable
from creditd.hot.keys import state_key

CREDIT = 1_000_000
MINUTE = 60_000


def reserving(quantity=10, *, ttl=5 * MINUTE, feature="chat", key="", **fields) -> Use:
    return Use(
        "acme",
        feature,
        quantity=quantity,
        idempotency_key=key,
        reservation=Reservation(Action.RESERVE, ttl_ms=ttl),
        **fields,
    )


def committing(reservation_id, quantity=None, *, keep_open=False, key="", **fields) -> Use:
    reservation = Reservation(Action.COMMIT, reservation_id, keep_open=keep_open)
    return Use("acme", "", quantity=quantity, idempotency_key=key, reservation=reservation, **fields)


def releasing(reservation_id) -> Use:
    return Use("acme", "", reservation=Reservation(Action.RELEASE, reservation_id))


def extending(reservation_id, quantity=None, *, ttl=None, key="", **fields) -> Use:
    reservation = Reservation(Action.EXTEND, reservation_id, ttl_ms=ttl)
    return Use("acme", "", quantity=quantity, idempotency_key=key, reservation=reservation, **fields)


async def have(engine):
    balances = (await engine.get_balance("acme", "credits")).balances[0].balances
    return balances.available // CREDIT, balances.held // CREDIT


async def entries(engine):
    return list(reversed(await engine.list_entries(EntryQuery("acme", limit=1000))))


@pytest.fixture
async def engine(world):
    await world.account()
    engine = world.engines[0]
    yield engine
    await books_balance(engine)


async def forget_hot(engine):
    await (await engine.hot._connected()).call("FLUSHALL")


async def test_reserve_takes_out_of_what_is_available_until_the_commit_burns_and_returns_the_rest(engine):
    held = await engine.reserve(reserving(30))

    assert (held.allowed, held.reason, held.reserved) == (True, "COVERED", 30 * CREDIT)
    assert held.expires_at == 1_800_000_000_000 + 5 * MINUTE
    assert await have(engine) == (70, 30)

    done = await engine.on_reservation(committing(held.reservation_id, 12))

    assert (done.charged, done.released, done.overage) == (12 * CREDIT, 18 * CREDIT, 0)
    assert done.allocations == (("sub/plan/0/1", 12 * CREDIT),)
    assert (done.balances.available, done.balances.held) == (88 * CREDIT, 0)
    assert await have(engine) == (88, 0)
    log = await entries(engine)
    assert [entry.kind for entry in log] == [Kind.GRANT, Kind.RESERVE, Kind.COMMIT]
    assert [entry.amount // CREDIT for entry in log] == [100, -30, 18]
    assert {entry.reservation_id for entry in log[1:]} == {held.reservation_id}


async def test_what_is_held_cannot_be_spent_and_a_denied_reserve_holds_nothing(engine):
    await engine.reserve(reserving(95))

    denied = await engine.reserve(reserving(6))
    burn = await engine.consume(Use("acme", "chat", quantity=6))

    assert (denied.allowed, denied.reason, denied.reservation_id) == (False, "INSUFFICIENT_CREDITS", "")
    assert denied.shortfall == CREDIT
    assert not burn.allowed
    assert await have(engine) == (5, 95)


async def test_commit_above_the_hold_burns_the_rest_as_recorded(engine):
    held = await engine.reserve(reserving(90))

    done = await engine.on_reservation(committing(held.reservation_id, 130))

    assert (done.charged, done.released) == (130 * CREDIT, 0)
    assert done.balances.debt == 30 * CREDIT
    assert await have(engine) == (-30, 0)


async def test_commit_without_a_quantity_burns_what_was_reserved(engine):
    held = await engine.reserve(reserving(7, attributes={"model": "big"}))

    done = await engine.on_reservation(committing(held.reservation_id))

    assert done.charged == held.reserved == 14 * CREDIT


async def test_commit_prices_with_the_attributes_given(engine):
    held = await engine.reserve(reserving(10))

    done = await engine.on_reservation(committing(held.reservation_id, 4, attributes={"model": "big"}))

    assert (done.charged, done.released) == (8 * CREDIT, 2 * CREDIT)


async def test_external_rate_commits_the_cost_given_or_all_that_is_held(engine):
    first = await engine.reserve(reserving(None, feature="metered", cost_micros=9 * CREDIT))
    second = await engine.reserve(reserving(None, feature="metered", cost_micros=9 * CREDIT))

    one = await engine.on_reservation(committing(first.reservation_id, cost_micros=4 * CREDIT))
    other = await engine.on_reservation(committing(second.reservation_id))

    assert (one.charged, other.charged) == (4 * CREDIT, 9 * CREDIT)


async def test_release_gives_all_back_and_is_idempotent(engine):
    held = await engine.reserve(reserving(30))

    first = await engine.on_reservation(releasing(held.reservation_id))
    again = await engine.on_reservation(releasing(held.reservation_id))
    await forget_hot(engine)
    later = await engine.on_reservation(releasing(held.reservation_id))

    assert (first.released, first.balances.available, first.replayed) == (30 * CREDIT, 100 * CREDIT, False)
    assert again.replayed
    assert later.replayed
    assert {again.released, later.released} == {30 * CREDIT}
    assert await have(engine) == (100, 0)


async def test_second_commit_is_the_first_answer_whatever_it_says(engine):
    held = await engine.reserve(reserving(30))

    first = await engine.on_reservation(committing(held.reservation_id, 10))
    again = await engine.on_reservation(committing(held.reservation_id, 20))
    await forget_hot(engine)
    later = await engine.on_reservation(committing(held.reservation_id, 25))

    assert again.replayed
    assert later.replayed
    assert {r.entry_id for r in (first, again, later)} == {first.entry_id}
    assert {r.charged for r in (first, again, later)} == {10 * CREDIT}


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_has_ended_in_one_way_cannot_end_in_the_other(engine, is_lost):
    one, other = await engine.reserve(reserving(1)), await engine.reserve(reserving(1))
    await engine.on_reservation(committing(one.reservation_id))
    await engine.on_reservation(releasing(other.reservation_id))
    if is_lost:
        await forget_hot(engine)

    cases = [
        (releasing(one.reservation_id), "RESERVATION_COMMITTED"),
        (extending(one.reservation_id, 1), "RESERVATION_COMMITTED"),
        (committing(one.reservation_id, 1, keep_open=True, key="late"), "RESERVATION_COMMITTED"),
        (committing(other.reservation_id), "RESERVATION_RELEASED"),
        (extending(other.reservation_id, ttl=MINUTE, key="e"), "RESERVATION_RELEASED"),
    ]
    for use, reason in cases:
        with pytest.raises(FailedPrecondition) as caught:
            await engine.on_reservation(use)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    "use",
    [committing("nope", 1), committing("nope", 1, keep_open=True), releasing("nope"), extending("nope", 1)],
)
async def test_unknown_reservation_is_not_found(engine, use):
    with pytest.raises(NotFound) as caught:
        await engine.on_reservation(use)
    assert caught.value.reason == "RESERVATION_NOT_FOUND"


async def test_hold_expires_at_the_very_millisecond(engine, clock):
    held = await engine.reserve(reserving(30, ttl=MINUTE))
    clock.advance(MINUTE - 1)
    assert await have(engine) == (70, 30)

    clock.advance(1)

    assert await have(engine) == (100, 0)
    assert (await engine.consume(Use("acme", "chat", quantity=100))).allowed
    released = (await entries(engine))[-2]
    assert (released.kind, released.at, released.note) == (Kind.RELEASE, held.expires_at, "expired")


async def test_commit_after_expiry_still_records_the_usage(engine, clock):
    held = await engine.reserve(reserving(30, ttl=MINUTE))
    clock.advance(MINUTE)

    done = await engine.on_reservation(committing(held.reservation_id, 20))
    again = await engine.on_reservation(committing(held.reservation_id, 20))

    assert (done.charged, done.released, done.replayed) == (20 * CREDIT, 0, False)
    assert again.replayed
    assert await have(engine) == (80, 0)
    entry = (await entries(engine))[-1]
    assert (entry.kind, entry.reservation_id) == (Kind.COMMIT, held.reservation_id)


async def test_commit_after_expiry_of_what_was_spent_meanwhile_becomes_debt(engine, clock):
    held = await engine.reserve(reserving(30, ttl=MINUTE))
    clock.advance(MINUTE)
    await engine.consume(Use("acme", "chat", quantity=95))

    done = await engine.on_reservation(committing(held.reservation_id))

    assert done.charged == 30 * CREDIT
    assert done.balances.debt == 25 * CREDIT


async def test_release_and_extend_after_expiry(engine, clock):
    held = await engine.reserve(reserving(30, ttl=MINUTE))
    clock.advance(MINUTE)

    released = await engine.on_reservation(releasing(held.reservation_id))
    with pytest.raises(FailedPrecondition) as caught:
        await engine.on_reservation(extending(held.reservation_id, ttl=MINUTE))

    assert (released.replayed, released.released) == (True, 30 * CREDIT)
    assert caught.value.reason == "RESERVATION_EXPIRED"


async def test_stream_settles_in_parts_and_keeps_the_rest_held(engine):
    held = await engine.reserve(reserving(30))

    parts = [
        await engine.on_reservation(committing(held.reservation_id, 8, keep_open=True, key=f"part-{n}"))
        for n in range(3)
    ]
    assert [part.released for part in parts] == [0, 0, 0]
    assert [part.reserved // CREDIT for part in parts] == [22, 14, 6]
    assert await have(engine) == (70, 6)
    last = await engine.on_reservation(committing(held.reservation_id, 5))

    assert (last.charged, last.released) == (5 * CREDIT, CREDIT)
    assert await have(engine) == (71, 0)


async def test_part_is_burned_once_under_its_key_also_when_the_hot_store_was_lost(engine):
    held = await engine.reserve(reserving(30))
    part = committing(held.reservation_id, 8, keep_open=True, key="part")

    first = await engine.on_reservation(part)
    again = await engine.on_reservation(part)
    await forget_hot(engine)
    later = await engine.on_reservation(part)

    assert again.replayed
    assert later.replayed
    assert {r.entry_id for r in (first, again, later)} == {first.entry_id}
    assert await have(engine) == (70, 22)
    with pytest.raises(IdempotencyKeyReused):
        await engine.on_reservation(committing(held.reservation_id, 9, keep_open=True, key="part"))
    await engine.on_reservation(releasing(held.reservation_id))
    assert (await engine.on_reservation(part)).replayed


async def test_part_that_is_replayed_late_leaves_the_hold_as_it_is(engine):
    held = await engine.reserve(reserving(30))
    part = committing(held.reservation_id, 8, keep_open=True, key="part")
    first = await engine.on_reservation(part)
    connection = await engine.hot._connected()
    for key in await connection.call("KEYS", "creditd:*:k:*"):
        await connection.call("DEL", key)  # as after their minutes

    again = await asyncio.gather(*(engine.on_reservation(part) for _ in range(5)))

    assert {ruling.entry_id for ruling in again} == {first.entry_id}
    assert await have(engine) == (70, 22)
    done = await engine.on_reservation(committing(held.reservation_id, 22))
    assert done.charged == 22 * CREDIT


async def test_reserve_is_done_once_under_its_key_also_late(engine):
    use = reserving(30, key="k")
    first = await engine.reserve(use)
    again = await engine.reserve(use)
    connection = await engine.hot._connected()
    for key in await connection.call("KEYS", "creditd:*:k:*"):
        await connection.call("DEL", key)
    late = await asyncio.gather(*(engine.reserve(use) for _ in range(5)))

    assert again.replayed
    assert {r.reservation_id for r in (first, again, *late)} == {first.reservation_id}
    assert {(r.reserved, r.expires_at) for r in (first, again, *late)} == {(first.reserved, first.expires_at)}
    assert await have(engine) == (70, 30)


async def test_extend_holds_more_and_for_longer(engine, clock):
    held = await engine.reserve(reserving(30, ttl=MINUTE))
    clock.advance(MINUTE - 1)

    more = await engine.on_reservation(extending(held.reservation_id, 20, key="e"))
    longer = await engine.on_reservation(extending(held.reservation_id, ttl=2 * MINUTE))
    replay = await engine.on_reservation(extending(held.reservation_id, 20, key="e"))
    clock.advance(MINUTE)

    assert (more.allowed, more.reserved, more.expires_at) == (True, 50 * CREDIT, held.expires_at)
    assert (longer.reserved, longer.expires_at) == (50 * CREDIT, held.expires_at - 1 + 2 * MINUTE)
    assert replay.replayed
    assert await have(engine) == (50, 50)
    done = await engine.on_reservation(committing(held.reservation_id))
    assert done.charged == 50 * CREDIT


async def test_denied_extend_leaves_the_hold_as_it_was(engine):
    held = await engine.reserve(reserving(60))

    denied = await engine.on_reservation(extending(held.reservation_id, 50, ttl=60 * MINUTE))

    assert (denied.allowed, denied.reason, denied.shortfall) == (False, "INSUFFICIENT_CREDITS", 10 * CREDIT)
    assert await have(engine) == (40, 60)
    hold = (await engine.ledger.read("acme")).holds[held.reservation_id]
    assert (hold.micros, hold.expires_at) == (60 * CREDIT, held.expires_at)


async def test_what_returns_to_a_grant_that_has_expired_is_expired(world, engine, clock):
    await world.grant(50 * CREDIT, "short", expires_at=clock.now + MINUTE, priority=1)
    held = await engine.reserve(reserving(70))
    clock.advance(MINUTE)
    assert await have(engine) == (80, 70)

    done = await engine.on_reservation(committing(held.reservation_id, 20))

    # 20 of the 50 of `short` are burned, 30 are lost with it, 20 return to the allowance.
    assert (done.charged, done.released) == (20 * CREDIT, 50 * CREDIT)
    assert await have(engine) == (100, 0)
    entry = (await entries(engine))[-1]
    assert entry.effects.lapsed == (("short", 30 * CREDIT),)


async def test_hold_and_grant_that_end_together_return_first_and_expire_then(world, engine, clock):
    await world.grant(50 * CREDIT, "short", expires_at=clock.now + MINUTE, priority=1)
    await engine.reserve(reserving(20, ttl=MINUTE))
    clock.advance(MINUTE)

    assert await have(engine) == (100, 0)
    assert [entry.kind for entry in (await entries(engine))[-2:]] == [Kind.RELEASE, Kind.EXPIRE]
    assert (await entries(engine))[-1].amount == -50 * CREDIT


async def test_grant_that_is_held_whole_gets_back_what_is_released(world, engine):
    held = await engine.reserve(reserving(100))
    await forget_hot(engine)
    assert await have(engine) == (0, 100)

    await engine.on_reservation(releasing(held.reservation_id))

    assert await have(engine) == (100, 0)
    assert (await engine.consume(Use("acme", "chat", quantity=100))).allowed


async def test_what_is_released_pays_the_debt_first(engine):
    held = await engine.reserve(reserving(100))
    await engine.consume(Use("acme", "chat", quantity=30, mode=Mode.RECORD))
    assert await have(engine) == (-30, 100)

    done = await engine.on_reservation(committing(held.reservation_id, 60))

    assert (done.released, done.balances.available, done.balances.debt) == (40 * CREDIT, 10 * CREDIT, 0)
    assert not (await engine.consume(Use("acme", "chat", quantity=11))).allowed


async def test_limits_count_what_is_held_then_what_was_used(engine):
    held = await engine.reserve(reserving(3, feature="calls"))
    assert (held.limit.used, held.limit.remaining) == (3, 0)
    assert not (await engine.consume(Use("acme", "calls"))).allowed

    done = await engine.on_reservation(committing(held.reservation_id, 1))

    assert (done.limit.used, done.limit.remaining) == (1, 2)
    assert (await engine.consume(Use("acme", "calls", quantity=2))).allowed


async def test_gauge_goes_down_when_a_hold_is_released(engine):
    held = await engine.reserve(reserving(2, feature="jobs"))
    assert not (await engine.reserve(reserving(1, feature="jobs"))).allowed

    await engine.on_reservation(releasing(held.reservation_id))

    assert (await engine.reserve(reserving(2, feature="jobs"))).allowed


async def test_usage_counts_in_the_window_that_it_was_reserved_in(engine, clock):
    clock.now = (await engine.check(Use("acme", "calls"))).limit.resets_at - 1
    before = await engine.reserve(reserving(2, feature="calls"))
    clock.advance(1)

    done = await engine.on_reservation(committing(before.reservation_id, 1))

    assert done.limit.used == 0
    assert (await engine.consume(Use("acme", "calls", quantity=3))).allowed


async def test_64_committers_of_one_reservation_burn_it_once(world, engine):
    other = await world.replica()
    held = await engine.reserve(reserving(50))

    rulings = await asyncio.gather(
        *((engine, other)[n % 2].on_reservation(committing(held.reservation_id, 10 + n)) for n in range(64))
    )

    assert len({ruling.entry_id for ruling in rulings}) == 1
    assert sum(not ruling.replayed for ruling in rulings) == 1
    assert [entry.kind for entry in await entries(engine)].count(Kind.COMMIT) == 1
    assert (await have(engine))[1] == 0


async def test_commit_and_release_at_once_end_it_in_one_way(world, engine):
    other = await world.replica()
    for _ in range(10):
        held = await engine.reserve(reserving(5))
        outcomes = await asyncio.gather(
            engine.on_reservation(committing(held.reservation_id, 1)),
            other.on_reservation(releasing(held.reservation_id)),
            return_exceptions=True,
        )
        refused = [each for each in outcomes if isinstance(each, FailedPrecondition)]
        assert len(refused) == 1, outcomes


async def test_what_another_replica_has_yet_to_land_is_landed_before_a_reservation_is_called_ended(
    world, engine
):
    other = await world.replica()
    held = await engine.reserve(reserving(5))
    lands, append = asyncio.Event(), other.committer._append
    decided = asyncio.Event()

    async def slow(units):
        decided.set()
        await lands.wait()
        return await append(units)

    other.committer._append = slow
    release = asyncio.create_task(other.on_reservation(releasing(held.reservation_id)))
    await decided.wait()
    try:
        with pytest.raises(FailedPrecondition, match="released"):
            await engine.on_reservation(committing(held.reservation_id, 1))
    finally:
        lands.set()
    assert (await release).allowed


async def test_parts_of_many_streams_at_once_keep_every_hold(world, engine):
    other = await world.replica()
    held = await engine.reserve(reserving(60))

    async def stream(number):
        replica = (engine, other)[number % 2]
        use = committing(held.reservation_id, 1, keep_open=True, key=f"p{number}")
        return await replica.on_reservation(use)

    parts = await asyncio.gather(*(stream(number) for number in range(50)))

    assert len({part.entry_id for part in parts}) == 50
    assert await have(engine) == (40, 10)


async def test_hot_store_lost_between_reserve_and_commit(engine):
    held = await engine.reserve(reserving(30))
    await forget_hot(engine)

    done = await engine.on_reservation(committing(held.reservation_id, 12))

    assert (done.charged, done.released) == (12 * CREDIT, 18 * CREDIT)
    assert await have(engine) == (88, 0)


async def test_everything_goes_without_the_hot_store(world, engine, monkeypatch):
    async def away():
        raise HotUnavailable("away", sent=False)

    with monkeypatch.context() as patch:
        patch.setattr(engine.hot, "_connected", away)
        held = await engine.reserve(reserving(30, key="r"))
        again = await engine.reserve(reserving(30, key="r"))
        more = await engine.on_reservation(extending(held.reservation_id, 10))
        part = await engine.on_reservation(committing(held.reservation_id, 5, keep_open=True, key="p"))
        done = await engine.on_reservation(committing(held.reservation_id, 12))
        replay = await engine.on_reservation(committing(held.reservation_id, 12))
        with pytest.raises(FailedPrecondition):
            await engine.on_reservation(releasing(held.reservation_id))
        with pytest.raises(NotFound):
            await engine.on_reservation(releasing("nope"))

    assert (again.replayed, again.reservation_id) == (True, held.reservation_id)
    assert more.reserved == 40 * CREDIT
    assert (part.charged, part.reserved) == (5 * CREDIT, 35 * CREDIT)
    assert (done.charged, done.released) == (12 * CREDIT, 23 * CREDIT)
    assert replay.replayed
    await forget_hot(engine)
    assert await have(engine) == (83, 0)


async def test_internal_keys_are_not_for_callers(engine):
    held = await engine.reserve(reserving(30))
    await engine.on_reservation(committing(held.reservation_id))

    assert (await entries(engine))[-1].idempotency_key.startswith("\x01")


async def test_verification_compares_holds(engine):
    held = await engine.reserve(reserving(30))
    connection = await engine.hot._connected()
    await connection.call("HDEL", state_key("acme"), f"!{held.reservation_id}")

    check = await engine.verify_account("acme", repair=True)

    assert not check.consistent
    assert f"hold {held.reservation_id}" in check.differences[0]
    assert (await engine.on_reservation(committing(held.reservation_id, 30))).charged == 30 * CREDIT
