"""The counters of a use, kept from one use to the next, are those that it would touch if it were the first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditd.domain.catalog import BudgetRule, BurnOrder, Feature, FeatureType, Limit, Period, Unit, Window
from creditd.domain.charging import PLANS_MAX, charge_plan
from creditd.domain.draws import Charge, Charges, form_of
from creditd.domain.policy import BudgetPolicy, FeaturePolicy, LimitRule
from creditd.domain.rates import RateTable
from creditd.domain.windows import WindowRule

START = 1_893_456_000_000
HOUR = 3_600_000
FEATURE = Feature("chat", FeatureType.CREDIT, credit="credits")
PERIODS = (None, Period(Unit.MINUTE, 1), Period(Unit.HOUR, 1), Period(Unit.MONTH, 1))


def policy(limits: list[WindowRule], budgets: list[BudgetPolicy]) -> FeaturePolicy:
    rules = tuple(
        LimitRule(f"l:chat:{place}", 10, window, Limit(max=10, per=window.per), "plan/pro")
        for place, window in enumerate(limits)
    )
    return FeaturePolicy(
        FEATURE,
        RateTable(FEATURE),
        "",
        "plan/pro",
        None,
        rules,
        tuple(budgets),
        None,
        BurnOrder.OLDEST_FIRST,
        START,
    )


def budget(place: int, scope: str, value: str, window: WindowRule, per_draw: int) -> BudgetPolicy:
    rule = BudgetRule(
        "credits", cap_micros=0 if per_draw else 9, per=window.per, scope=scope, max_per_draw_micros=per_draw
    )
    return BudgetPolicy(f"b{place}", rule, value, window)


windows = st.builds(
    WindowRule,
    st.sampled_from(PERIODS),
    st.sampled_from(Window),
    st.sampled_from(("", "America/New_York")),
    st.just(START - 5 * HOUR - 7),
)
budgets = st.lists(
    st.tuples(
        st.sampled_from(("account", "subject", "metadata:team", "metadata:subject")),
        st.sampled_from(("", "red")),
        windows,
        st.sampled_from((0, 0, 5, 7)),
    ),
    max_size=4,
)
uses = st.lists(
    st.tuples(
        st.integers(-HOUR, 3 * HOUR) | st.integers(0, 40 * 24 * HOUR),
        st.sampled_from(("", "ann", "red")),
        st.sampled_from(({}, {"team": "red"}, {"team": "blue", "subject": "red"})),
    ),
    max_size=12,
)


@given(st.lists(windows, max_size=4), budgets, uses)
def test_a_kept_plan_is_the_one_that_would_be_made_anew(limits, rules, used):
    kept = policy(limits, [budget(place, *rule) for place, rule in enumerate(rules)])

    for offset, subject, metadata in used:
        now = START + offset
        plan = charge_plan(kept, subject, metadata, now)
        anew = charge_plan(replace(kept), subject, metadata, now)
        assert (plan.charges, plan.cap, plan.cap_by) == (anew.charges, anew.cap, anew.cap_by)


def test_plans_of_many_subjects_are_bounded():
    kept = policy([], [budget(0, "subject", "", WindowRule(None, Window.ANCHORED, "", START), 0)])

    for number in range(3 * PLANS_MAX):
        charge_plan(kept, f"s{number}", {}, START)

    assert len(kept.plans) == PLANS_MAX


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_made_of_charges_is_kept_only_with_shared_ones(shared):
    charges: tuple[Charge, ...] = (Charge("l", 0, 0, 1),)
    if shared:
        charges = Charges(charges)
    made: list[int] = []

    def make(items: tuple[Charge, ...]) -> int:
        made.append(len(items))
        return len(items)

    assert [form_of(charges, make), form_of(charges, make)] == [1, 1]
    assert made == ([1] if shared else [1, 1])
