from __future__ import annotations

import time
from dataclasses import replace

from creditd.domain.amounts import Rounding
from creditd.domain.catalog import (
    Allowance,
    Catalog,
    CreditType,
    Entitlement,
    Feature,
    FeatureType,
    Limit,
    MeterPrice,
    Money,
    Period,
    Plan,
    Rate,
    Unit,
)
from creditd.domain.catalog_diff import Action, Change, diff_catalogs, next_plan_versions


def rate(micros: int, per: int = 1, *, above: dict[str, int] | None = None, **match: str) -> Rate:
    return Rate((MeterPrice("input_tokens", micros, per),), match, above=above or {})


def chat(*rates: Rate) -> Catalog:
    feature = Feature("chat", FeatureType.CREDIT, credit="credits", rates=rates)
    return Catalog(credits=(CreditType("credits"),), features=(feature,))


def summaries(old: Catalog, new: Catalog) -> list[str]:
    return [change.summary for change in diff_catalogs(old, new)]


def plans(*plans: Plan) -> Catalog:
    return Catalog(plans=plans)


def test_a_changed_price_is_told_in_credits() -> None:
    changes = diff_catalogs(chat(rate(325, model="gpt-4o")), chat(rate(250, model="gpt-4o")))

    assert changes == [
        Change(
            "feature",
            "chat",
            Action.CHANGED,
            "price of input_tokens for model=gpt-4o: 0.000325 → 0.00025 credits",
        )
    ]


def test_other_units_of_the_same_price_are_told() -> None:
    assert summaries(chat(rate(250)), chat(rate(250_000, 1000))) == [
        "price of input_tokens: 0.00025 credits per 1 → 0.25 credits per 1,000"
    ]


def test_rounding_cost_minimum_and_thresholds_are_told() -> None:
    old = chat(Rate((MeterPrice("a", 1), MeterPrice("b", 1))), rate(1, above={"input_tokens": 200_000}))
    new = chat(
        Rate(
            (MeterPrice("b", 1, rounding=Rounding.DOWN), MeterPrice("c", 2, unit_cost=Money("USD", 1))),
            minimum_micros=10_000,
        )
    )

    (summary,) = summaries(old, new)

    assert summary.split("; ") == [
        "rounding of b: up → down",
        "new price of c 0.000002 credits",
        "no more price of a",
        "minimum: 0 → 0.01 credits",
        "no more rate for above 200,000 input_tokens",
    ]


def test_added_and_removed_items_are_told() -> None:
    old = Catalog(credits=(CreditType("old"),), features=(Feature("sso", FeatureType.BOOLEAN),))
    new = replace(
        chat(rate(1)),
        plans=(Plan("pro", allowances=(Allowance("credits", 500_000_000),), entitlements=()),),
    )

    assert [
        (change.kind, change.key, change.action, change.summary) for change in diff_catalogs(old, new)
    ] == [
        ("credit", "credits", "ADDED", "new"),
        ("credit", "old", "REMOVED", "removed"),
        ("feature", "chat", "ADDED", "new CREDIT feature with 1 rate"),
        ("feature", "sso", "REMOVED", "removed"),
        ("plan", "pro", "ADDED", "new plan: 500 credits, 0 entitlements"),
    ]


def test_the_first_catalog_is_all_additions() -> None:
    assert [change.action for change in diff_catalogs(None, chat(rate(1)))] == [Action.ADDED, Action.ADDED]


def test_plan_parts_are_compared_by_what_they_are_about() -> None:
    day = Period(Unit.DAY)
    old = Plan(
        "pro",
        allowances=(Allowance("credits", 500_000_000),),
        entitlements=(Entitlement("sso", enabled=False), Entitlement("calls", limit=Limit(1000, day))),
        rank=1,
    )
    new = replace(
        old,
        allowances=(Allowance("credits", 750_500_000, every=Period(Unit.MONTH, 3)),),
        entitlements=(Entitlement("calls", limit=Limit(2000, day, soft=True)), Entitlement("size", value=5)),
        rank=2,
        version=7,
    )

    (summary,) = summaries(plans(old), plans(new))

    assert summary.split("; ") == [
        "allowance of credits: amount 500 → amount 750.5, every 3 months",
        "entitlement of calls: 1,000 per day → 2,000 per day, soft",
        "entitlement of size: none → 5",
        "entitlement of sso: no → none",
        "rank: 1 → 2",
    ]


def test_many_changes_are_cut_short() -> None:
    old = chat(*(rate(1, model=f"m{i}") for i in range(12)))
    new = chat(*(rate(2, model=f"m{i}") for i in range(12)))

    (summary,) = summaries(old, new)

    assert summary.count("price of input_tokens") == 5
    assert summary.endswith("; and 7 more")


def test_rates_that_exclude_each_other_may_change_places() -> None:
    rates = [
        rate(1, model="a"),
        rate(1, model="b"),
        rate(2, model="a", above={"input_tokens": 5}),
        rate(3, model="a", tier="x"),
        rate(3, model="b", region="eu"),
    ]

    assert diff_catalogs(chat(*rates), chat(*reversed(rates))) == []


def test_the_order_of_rates_that_match_the_same_requests_is_a_change() -> None:
    by_names = [rate(1, model="a", tier="x"), rate(2, model="a", region="eu")]
    by_thresholds = [rate(1, above={"a": 5}), rate(2, above={"b": 5})]

    for rates in (by_names, by_thresholds):
        assert summaries(chat(*rates), chat(*reversed(rates))) == [
            "order of rates that match the same requests"
        ]


def test_fifteen_thousand_rates_are_compared_quickly() -> None:
    rates = [rate(i, model=f"m{i}", tier=f"t{i % 3}") for i in range(7500)]
    rates += [rate(i, model=f"m{i}") for i in range(7500)]
    started = time.perf_counter()

    changes = diff_catalogs(chat(*rates), chat(*rates[:-1], rate(0, model="m7499")))

    assert [change.summary for change in changes] == [
        "price of input_tokens for model=m7499: 0.007499 → 0 credits"
    ]
    assert time.perf_counter() - started < 5  # indexed it takes tenths of a second, pair by pair minutes


def test_plan_versions_count_changes() -> None:
    first = next_plan_versions(None, plans(Plan("free", version=9), Plan("pro")))
    second = next_plan_versions(first, plans(Plan("pro", rank=3), Plan("free", version=5), Plan("new")))

    assert [(plan.key, plan.version) for plan in first.plans] == [("free", 1), ("pro", 1)]
    assert [(plan.key, plan.version) for plan in second.plans] == [("pro", 2), ("free", 1), ("new", 1)]
