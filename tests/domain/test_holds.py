"""What holds take, burn, keep and give back, as tables; and what time does to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from creditd.domain.catalog import BurnOrder, Period, Unit
from creditd.domain.decide import (
    Charge,
    Draw,
    Mode,
    Operation,
    Outcome,
    OverageRoom,
    decide,
)
from creditd.domain.entries import CounterChange, Effects, Entry, GrantChange, Kind
from creditd.domain.fold import BrokenLedger, fold, fold_all
from creditd.domain.grants import Category, Grant, Recurrence
from creditd.domain.holds import Join, settle, share
from creditd.domain.roll import due
from creditd.domain.state import (
    AccountState,
    Balances,
    Counter,
    GrantState,
    Hold,
    HoldCharge,
    HoldOverage,
    HoldPart,
    Segment,
    SegmentCredit,
    SegmentGrant,
    next_boundary,
    open_segment,
)

HOLD = Hold(
    "h",
    sequence=4,
    expires_at=1_000,
    credit="ai",
    feature="chat",
    parts=(HoldPart("a", 10), HoldPart("gone", 5, lapsed=True), HoldPart("b", 10)),
    overage=(HoldOverage("o:ai", 0, 2_000, 6, carry_debt=True),),
    usage={"in": 20, "out": 11},
)


@pytest.mark.parametrize(
    ("cost", "burned", "overage", "returns", "lapsed"),
    [
        (0, (), 0, (("a", 10), ("b", 10)), (("gone", 5),)),
        (4, (("a", 4),), 0, (("a", 6), ("b", 10)), (("gone", 5),)),
        (13, (("a", 10), ("gone", 3)), 0, (("b", 10),), (("gone", 2),)),
        (25, (("a", 10), ("gone", 5), ("b", 10)), 0, (), ()),
        (28, (("a", 10), ("gone", 5), ("b", 10)), 3, (), ()),
        (99, (("a", 10), ("gone", 5), ("b", 10)), 6, (), ()),
    ],
)
def test_a_commit_burns_in_burn_order_and_returns_the_rest(cost, burned, overage, returns, lapsed) -> None:
    step = settle(HOLD, cost=cost, units=0, usage={}, keep_open=False)

    assert (step.burned, step.overage, step.returns, step.lapsed) == (burned, overage, returns, lapsed)
    assert step.after is None
    assert step.owed == overage
    assert step.held == HOLD.micros == 31
    assert step.charged + step.released == 31
    lowered = [change.delta for change in step.counts]
    assert lowered == ([overage - 6] if overage < 6 else [])


@pytest.mark.parametrize(
    ("cost", "left"),
    [(0, 31), (4, 27), (13, 18), (28, 3), (99, 0)],
)
def test_a_part_keeps_what_it_does_not_cover(cost, left) -> None:
    step = settle(HOLD, cost=cost, units=0, usage={"in": 15, "new": 3}, keep_open=True)

    assert step.after is not None
    assert step.after.micros == left
    assert step.released == 0
    assert not step.raises
    assert step.after.usage == {"in": 5, "out": 11}


@pytest.mark.parametrize(
    ("applied", "units", "keep_open", "deltas", "after"),
    [
        ((5,), 5, False, {}, None),
        ((5,), 3, False, {0: -2}, None),
        ((5,), 8, False, {0: 3}, None),
        ((5,), 0, False, {0: -5}, None),
        ((5,), 3, True, {}, (2,)),
        ((5,), 8, True, {0: 3}, (0,)),
        ((5, 4), 7, False, {100: -2}, None),
        ((5, 4), 12, False, {100: 3}, None),
        ((5, 4), 2, False, {0: -3, 100: -4}, None),
    ],
)
def test_units_count_in_the_windows_that_they_were_reserved_in(
    applied, units, keep_open, deltas, after
) -> None:
    """A second charge is what an Extend in a later window has counted; earlier ones cover first."""
    charges = tuple(
        HoldCharge(f"slide@{place}", 100 * place, 100 * place + 100, count)
        for place, count in enumerate(applied)
    )
    hold = replace(HOLD, parts=(), overage=(), charges=charges)

    step = settle(hold, cost=0, units=units, usage={}, keep_open=keep_open)

    assert {change.start: change.delta for change in step.counts} == deltas
    assert (None if step.after is None else tuple(c.applied for c in step.after.charges)) == after


def test_a_budget_counts_what_is_really_burned() -> None:
    charges = (HoldCharge("b:team", 0, 0, 31, micros=True), HoldCharge("l:x", 0, 0, 2))
    hold = replace(HOLD, charges=charges)

    less = settle(hold, cost=20, units=2, usage={}, keep_open=False)
    more = settle(hold, cost=40, units=2, usage={}, keep_open=False)

    assert [change.delta for change in less.counts if change.key == "b:team"] == [-11]
    assert [change.delta for change in more.counts if change.key == "b:team"] == [9]
    assert CounterChange("b:team", 0, 0, 20) in less.counted


def test_what_comes_back_pays_the_debt_first() -> None:
    assert share((("a", 5), ("b", 7)), 0) == ((("a", 5), ("b", 7)), ())
    assert share((("a", 5), ("b", 7)), 6) == ((("b", 6),), (("a", 5), ("b", 1)))
    assert share((("a", 5),), 9) == ((), (("a", 5),))


def segment(**fields) -> Segment:
    grants = (SegmentGrant("a", 10), SegmentGrant("b", 10))
    credit = SegmentCredit(BurnOrder.OLDEST_FIRST, Balances(available=20, granted=20), grants)
    return Segment(
        **({"sequence": 7, "at": 5, "end": 500, "policy_version": 1} | fields), credits={"ai": credit}
    )


def take(draw: Draw, on: Segment, now: int = 10):
    return decide(on, Operation(now, 1, (replace(draw, order=BurnOrder.OLDEST_FIRST),)))


RESERVE = Draw("chat", credit="ai", amount=15, hold=Join(Hold("h", 0, 300, "ai", "chat")))


def test_a_reserve_moves_from_available_to_held_and_ends_the_segment_with_the_hold() -> None:
    decision = take(RESERVE, segment())

    after = decision.segment
    assert after.holds["h"] == replace(
        Hold("h", 8, 300, "ai", "chat"), parts=(HoldPart("a", 10), HoldPart("b", 5))
    )
    have = after.credits["ai"].balances
    assert (have.available, have.held, after.end, after.raised) == (5, 15, 300, 0)


def test_overage_that_is_held_is_counted_but_not_owed() -> None:
    room = OverageRoom("o:ai", 0, 400, 10, carry_debt=True)

    decision = take(replace(RESERVE, amount=26, overage=room), segment())

    after = decision.segment
    have = after.credits["ai"].balances
    assert (have.available, have.held, have.debt) == (0, 26, 0)
    assert after.counters["o:ai"] == Counter(0, 400, 6)
    commit = settle(after.holds["h"], cost=24, units=0, usage={}, keep_open=False)
    burned = take(Draw("chat", Mode.RECORD, "ai", hold=commit), after, now=20).segment
    have = burned.credits["ai"].balances
    assert (have.available, have.held, have.debt) == (-4, 0, 4)
    assert burned.counters["o:ai"] == Counter(0, 400, 4)
    assert burned.raised == burned.sequence


@pytest.mark.parametrize("sequence", [0, 7, 9])
def test_a_hold_that_has_changed_since_is_not_worked_on(sequence) -> None:
    after = take(RESERVE, segment()).segment
    stale = replace(after.holds["h"], sequence=sequence)

    for step in (Join(stale), settle(stale, cost=0, units=0, usage={}, keep_open=False)):
        decision = take(Draw("chat", Mode.RECORD, "ai", hold=step), after, now=20)
        assert (decision.outcome, decision.segment) == (Outcome.HOLD, after)


def test_an_extend_that_is_denied_leaves_everything_as_it_was() -> None:
    after = take(RESERVE, segment()).segment
    longer = replace(after.holds["h"], expires_at=400)

    decision = take(replace(RESERVE, amount=6, hold=Join(longer)), after, now=20)

    assert (decision.outcome, decision.segment) == (Outcome.DENIED, after)


def test_a_window_that_is_over_is_left_alone() -> None:
    charge = Charge("l:day", 0, 100, cap=10)
    held = take(replace(RESERVE, units=4, charges=(charge,)), segment()).segment
    step = settle(held.holds["h"], cost=0, units=1, usage={}, keep_open=False)

    during = take(Draw("chat", Mode.RECORD, "ai", hold=step), held, now=99)
    after = take(Draw("chat", Mode.RECORD, "ai", hold=step), held, now=100)

    assert during.segment.counters["l:day"].used == 1
    assert after.segment.counters["l:day"].used == 4
    assert (during.drawn[0].counted, after.drawn[0].counted) == ((-3,), (0,))


def grant(grant_id: str, **fields) -> Grant:
    return Grant(grant_id, "ai", 10, Category.PURCHASE, 30, effective_at=0, created_at=0, **fields)


def ids():
    numbers = iter(range(100))
    return lambda: f"due-{next(numbers)}"


def held_state(**fields) -> AccountState:
    return AccountState(
        "acme",
        sequence=4,
        at=50,
        grants={
            "a": GrantState(grant("a", **fields), 0, active=True),
            "b": GrantState(grant("b"), 0, active=True),
        },
        holds={"h": Hold("h", 4, 300, "ai", "chat", parts=(HoldPart("a", 10), HoldPart("b", 10)))},
    )


def test_a_hold_is_released_at_its_instant() -> None:
    state = held_state()

    assert next_boundary(state) == 300
    assert due(state, 299, ids()) == []
    (entry,) = due(state, 300, ids())
    after = fold(state, entry)
    assert (entry.kind, entry.at, entry.amount, entry.reservation_id) == (Kind.RELEASE, 300, 20, "h")
    assert not after.holds
    assert {held.remaining for held in after.grants.values()} == {10}


def test_a_hold_returns_before_its_grant_expires_at_the_same_instant() -> None:
    entries = due(held_state(expires_at=300), 300, ids())

    assert [(entry.kind, entry.amount) for entry in entries] == [(Kind.RELEASE, 20), (Kind.EXPIRE, -10)]


def test_what_would_return_to_an_expired_grant_is_lost() -> None:
    state = held_state(expires_at=200)
    entries = due(state, 300, ids())

    assert [(entry.kind, entry.amount) for entry in entries] == [(Kind.EXPIRE, 0), (Kind.RELEASE, 10)]
    assert entries[1].effects.lapsed == (("a", 10),)
    between = fold(state, entries[0])
    assert between.holds["h"].parts == (HoldPart("a", 10, lapsed=True), HoldPart("b", 10))
    assert between.holds["h"].sequence == 5


def test_what_was_held_before_a_filling_does_not_outlive_it() -> None:
    """The period of the credits is over: a grant never has more than its amount."""
    day = Recurrence(Period(Unit.MINUTE), 0)
    state = replace(
        held_state(recurrence=day),
        holds={"h": replace(held_state().holds["h"], expires_at=90_000)},
    )

    after = fold_all(state, due(state, 90_000, ids()))

    assert after.grants["a"].remaining == 10
    assert after.grants["b"].remaining == 10
    assert not after.holds


def test_a_grant_that_is_held_whole_stays_in_the_segment() -> None:
    opened = open_segment(held_state(), now=60, policy_version=1, orders={"ai": BurnOrder.OLDEST_FIRST})

    assert [(each.id, each.remaining) for each in opened.credits["ai"].grants] == [("a", 0), ("b", 0)]
    assert opened.credits["ai"].balances.held == 20
    assert opened.end == 300


def test_a_ledger_that_settles_a_hold_twice_is_broken() -> None:
    state = held_state()
    entry = Entry(
        "c",
        "acme",
        5,
        Kind.COMMIT,
        60,
        "ai",
        effects=Effects(grants=(GrantChange("a", 10),), closed="h"),
    )

    state = fold(state, entry)

    with pytest.raises(BrokenLedger, match="hold h, which is not open"):
        fold(state, replace(entry, id="d", sequence=6))
