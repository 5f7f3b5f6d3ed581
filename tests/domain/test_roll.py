"""What time owes an account: fillings, rollover, series; jumped over or stepped through."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditd.domain.catalog import Period, Rollover, Unit
from creditd.domain.fold import fold_all
from creditd.domain.grants import Category, Grant, Recurrence
from creditd.domain.periods import add_periods, to_ms
from creditd.domain.roll import due, give
from creditd.domain.state import AccountState, balance, next_boundary

DAY = 86_400_000


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


START = ms("2030-01-31")


def ids():
    numbers = itertools.count(1)
    return lambda: f"e{next(numbers)}"


def recurring(unit: Unit = Unit.MONTH, count: int = 1, **fields) -> Grant:
    rollover = fields.pop("rollover", None)
    lasts = fields.pop("lasts", None)
    grant = Grant(
        id="g",
        credit="credits",
        amount=100,
        category=Category.PLAN,
        priority=20,
        effective_at=START,
        created_at=START,
        recurrence=Recurrence(Period(unit, count), START, rollover, lasts),
    )
    return replace(grant, **fields)


def state_of(*grants: Grant) -> AccountState:
    state = AccountState("acme")
    for grant in grants:
        state = fold_all(state, give(state, grant, START, ids()))
    return state


def rolled(state: AccountState, now: int) -> AccountState:
    return fold_all(state, due(state, now, ids()))


def stepped(state: AccountState, now: int) -> AccountState:
    while (boundary := next_boundary(state)) <= now:
        state = rolled(rolled(state, boundary - 1), boundary)
    return rolled(state, now)


def remaining(state: AccountState) -> dict[str, tuple[int, int | None]]:
    """What is left of each grant and when it expires."""
    return {
        held.grant.id: (held.remaining, held.grant.expires_at)
        for held in state.grants.values()
        if held.active
    }


@pytest.mark.parametrize(
    ("rollover", "months", "available"),
    [
        (None, 1, 100),
        (None, 12, 100),
        (Rollover(max_micros=40), 1, 140),
        (Rollover(max_micros=40), 12, 140),
        (Rollover(max_micros=250), 2, 300),
        (Rollover(max_micros=250), 12, 350),
        (Rollover(max_percent=50), 1, 150),
        (Rollover(max_percent=50), 3, 250),
        (Rollover(max_percent=33, max_micros=40), 2, 140),
        (Rollover(max_periods=1), 1, 200),
        (Rollover(max_periods=1), 12, 200),
        (Rollover(max_periods=2), 12, 300),
        (Rollover(max_micros=150, max_periods=1), 12, 200),
        (Rollover(), 12, 1300),
    ],
)
def test_months_that_nobody_uses_carry_over_what_the_rollover_allows(rollover, months, available):
    state = state_of(recurring(rollover=rollover))

    after = rolled(state, add_periods(START, Period(Unit.MONTH), months))

    assert balance(after, "credits") == available


def test_a_grant_that_expires_at_its_filling_is_not_filled():
    state = state_of(recurring(expires_at=ms("2030-02-28"), rollover=Rollover()))

    assert balance(rolled(state, ms("2030-02-28")), "credits") == 0


def test_a_series_brings_a_grant_each_period_until_it_ends():
    lasting = recurring(
        lasts=Period(Unit.MONTH, 3), expires_at=ms("2030-04-30"), ends_at=ms("2030-04-30"), until=None
    )
    state = state_of(lasting)

    assert balance(rolled(state, ms("2030-03-31")), "credits") == 300
    assert balance(rolled(state, ms("2030-04-30")), "credits") == 200
    assert balance(rolled(state, ms("2031-01-01")), "credits") == 0


def test_nothing_of_a_series_outlasts_its_subscription():
    ends = ms("2030-04-10")
    lasting = recurring(lasts=Period(Unit.MONTH, 3), expires_at=ends, ends_at=ends, until=ends)

    after = rolled(state_of(lasting), ends - 1)

    assert {expiry for _left, expiry in remaining(after).values()} == {ends}
    assert balance(rolled(after, ends), "credits") == 0


def test_a_grant_that_shrinks_keeps_its_amount_until_it_is_filled():
    state = state_of(recurring(shrinks_to=30, rollover=Rollover(max_micros=10)))

    before, after = rolled(state, ms("2030-02-27")), rolled(state, ms("2030-02-28"))

    assert balance(before, "credits") == 100
    assert balance(after, "credits") == 40
    assert after.grants["g"].grant.amount == 30
    assert after.grants["g"].grant.shrinks_to == 0


def test_idle_fillings_of_many_years_are_one_entry_after_all_that_happened():
    minutely = recurring(Unit.MINUTE)
    other = replace(recurring(), id="x", recurrence=None, expires_at=START + 3 * DAY)

    entries = due(state_of(minutely, other), START + 3650 * DAY + 30_000, ids())

    assert [(entry.grant_id, entry.at) for entry in entries] == [
        ("x", START + 3 * DAY),
        ("g", START + 3650 * DAY),
    ]


grants = st.builds(
    recurring,
    st.sampled_from([Unit.DAY, Unit.WEEK, Unit.MONTH]),
    st.integers(1, 3),
    rollover=st.none()
    | st.builds(Rollover, st.sampled_from([0, 30, 150]), st.sampled_from([0, 50]), st.integers(0, 2)),
    lasts=st.none(),
    amount=st.integers(1, 100),
    effective_at=st.sampled_from([START, START + DAY, START + 45 * DAY]),
    expires_at=st.none() | st.sampled_from([START + 60 * DAY, START + 200 * DAY]),
) | st.builds(
    recurring,
    st.sampled_from([Unit.WEEK, Unit.MONTH]),
    lasts=st.sampled_from([Period(Unit.DAY, 3), Period(Unit.MONTH, 2)]),
    expires_at=st.just(START + 60 * DAY),
    ends_at=st.none() | st.just(START + 100 * DAY),
)


@given(st.lists(grants, min_size=1, max_size=4), st.integers(0, 150), st.integers(0, 300))
def test_a_jump_leaves_what_stepping_through_every_boundary_leaves(given_grants, debt, days):
    state = state_of(*(replace(grant, id=f"g{place}") for place, grant in enumerate(given_grants)))
    state = replace(state, debts={"credits": debt})

    jumped, walked = rolled(state, START + days * DAY), stepped(state, START + days * DAY)

    assert remaining(jumped) == remaining(walked)
    assert jumped.debts == walked.debts
