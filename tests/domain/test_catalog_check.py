"""Each rule of the catalog check, by the catalog that breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import (
    AddOn,
    AlertRule,
    Allowance,
    BudgetRule,
    Bundle,
    Catalog,
    CreditType,
    Entitlement,
    Feature,
    FeatureType,
    Limit,
    MeterPrice,
    Money,
    Overage,
    Period,
    Plan,
    Promotion,
    Rate,
    Rollover,
    Tier,
    Trial,
    Unit,
    Window,
)
from creditd.domain.catalog_check import NOT_SERVED, check_catalog, check_rates, unsupported

DAY = Period(Unit.DAY)
MONTH = Period(Unit.MONTH)
CREDIT = CreditType("credits", value=Money("USD", 10_000_000))
PRICE = MeterPrice("tokens", 250, 1000)
CHAT = Feature("chat", FeatureType.CREDIT, credit="credits", rates=(Rate((PRICE,)),), default_meter="tokens")
SSO = Feature("sso", FeatureType.BOOLEAN, default_value=False)
WINDOW = Feature("window", FeatureType.CONFIG, default_value={"tokens": [8192, "8k"]})
CALLS = Feature("calls", FeatureType.LIMIT, default_value=10)
PLAN = Plan(
    "pro",
    allowances=(Allowance("credits", 500_000_000, every=MONTH, rollover=Rollover(1, 100, 1)),),
    entitlements=(
        Entitlement("chat", enabled=True),
        Entitlement("sso", enabled=True),
        Entitlement("window", value=128_000),
        Entitlement("calls", limit=Limit(1000, DAY)),
        Entitlement("calls", limit=Limit(20_000, MONTH, window=Window.CALENDAR, time_zone="Europe/Berlin")),
    ),
    overages=(Overage("credits", allowed=True, cap_micros=5, price_per_credit=Money("EUR", 1)),),
    budgets=(BudgetRule("credits", cap_micros=1, per=DAY, scope="metadata:team", features=("chat",)),),
    trial=Trial(Period(Unit.WEEK, 2), (Allowance("credits", 1),)),
    rank=1,
)
GOOD = Catalog(
    credits=(CREDIT,),
    features=(CHAT, SSO, WINDOW, CALLS),
    plans=(PLAN,),
    add_ons=(AddOn("more", allowances=(Allowance("credits", 1),), entitlements=(Entitlement("sso", True),)),),
    bundles=(Bundle("pack", "credits", 5, price=Money("USD", 5), expires_after=MONTH),),
    promotions=(Promotion("welcome", "credits", 5, code="HI", starts_at=1, ends_at=2),),
    alerts=(AlertRule("low", credit="credits", below_percent=20),),
)


def with_feature(**fields: Any) -> Catalog:
    return replace(GOOD, features=(replace(CHAT, **fields), SSO, WINDOW, CALLS))


def with_rate(**fields: Any) -> Catalog:
    return with_feature(rates=(replace(Rate((PRICE,)), **fields),))


def with_price(**fields: Any) -> Catalog:
    return with_feature(rates=(Rate((replace(PRICE, **fields),)),), default_meter="")


def with_plan(**fields: Any) -> Catalog:
    return replace(GOOD, plans=(replace(PLAN, **fields),))


def granting(*entitlements: Entitlement) -> Catalog:
    return with_plan(entitlements=entitlements)


def limiting(**fields: Any) -> Catalog:
    return granting(Entitlement("calls", limit=Limit(**fields)))


def allowing(**fields: Any) -> Catalog:
    return with_plan(allowances=(replace(Allowance("credits", 1), **fields),))


def budget(**fields: Any) -> Catalog:
    return with_plan(budgets=(replace(BudgetRule("credits", 1), **fields),))


CHECKS: list[tuple[str, Catalog, str, str]] = [
    # keys
    ("empty key", replace(GOOD, credits=(CREDIT, CreditType(""))), "credits[1].key", "expected a key"),
    ("long key", replace(GOOD, credits=(CREDIT, CreditType("é" * 128))), "credits[1].key", "longer than 255"),
    ("control character", replace(GOOD, credits=(CREDIT, CreditType("a\tb"))), "credits[1].key", "printable"),
    ("same key", replace(GOOD, credits=(CREDIT, CREDIT)), "credits[1].key", "defined by credits[0]"),
    ("same plan", replace(GOOD, plans=(PLAN, PLAN)), "plans[1].key", "must be unique"),
    # references
    ("near miss", with_feature(credit="credit"), "features[0].credit", "did you mean 'credits'?"),
    ("no credit", with_feature(credit=""), "features[0].credit", "expected the key of a credit"),
    ("allowance credit", allowing(credit="gold"), "plans[0].allowances[0].credit", "'gold' is not in this"),
    (
        "entitlement feature",
        granting(Entitlement("caht", enabled=True)),
        "plans[0].entitlements[0].feature",
        "did you mean 'chat'?",
    ),
    (
        "overage credit",
        with_plan(overages=(Overage("x"),)),
        "plans[0].overages[0].credit",
        "is not in this catalog; known: credits",
    ),
    ("budget credit", budget(credit="x"), "plans[0].budgets[0].credit", "is not in this catalog"),
    ("budget feature", budget(features=("x",)), "plans[0].budgets[0].features[0]", "is not in this catalog"),
    (
        "budget of free feature",
        budget(features=("sso",)),
        "plans[0].budgets[0].features[0]",
        "burns no credit",
    ),
    ("bundle credit", replace(GOOD, bundles=(Bundle("b", "x", 1),)), "bundles[0].credit", "is not in this"),
    (
        "promotion credit",
        replace(GOOD, promotions=(Promotion("p", "x", 1),)),
        "promotions[0].credit",
        "is not in this",
    ),
    (
        "alert feature",
        replace(GOOD, alerts=(AlertRule("a", feature="x", above_percent_of_limit=80),)),
        "alerts[0].feature",
        "is not in this catalog",
    ),
    # features
    ("no price", with_feature(rates=()), "features[0].rates", "needs rates, or external_rate"),
    ("both prices", with_feature(external_rate=True), "features[0].external_rate", "excludes rates"),
    (
        "rates of boolean",
        with_feature(type=FeatureType.BOOLEAN, credit="", default_meter=""),
        "features[0].rates",
        "belongs to CREDIT features only",
    ),
    (
        "credit of limit",
        replace(GOOD, features=(CHAT, SSO, WINDOW, replace(CALLS, credit="credits"))),
        "features[3].credit",
        "belongs to CREDIT features only; this one is LIMIT",
    ),
    (
        "meter of config",
        replace(GOOD, features=(CHAT, SSO, replace(WINDOW, default_meter="x"), CALLS)),
        "features[2].default_meter",
        "belongs to CREDIT and LIMIT",
    ),
    ("unpriced meter", with_feature(default_meter="token"), "features[0].default_meter", "mean 'tokens'?"),
    ("default of credit", with_feature(default_value=3), "features[0].default_value", "true or false"),
    (
        "default of limit",
        replace(GOOD, features=(CHAT, SSO, WINDOW, replace(CALLS, default_value=True))),
        "features[3].default_value",
        "whole number",
    ),
    (
        "negative default",
        replace(GOOD, features=(CHAT, SSO, WINDOW, replace(CALLS, default_value=-1))),
        "features[3].default_value",
        "whole number",
    ),
    # rates
    (
        "no prices",
        with_feature(rates=(Rate(()),), default_meter=""),
        "features[0].rates[0].prices",
        "at least one",
    ),
    (
        "meter twice",
        with_rate(prices=(PRICE, PRICE)),
        "features[0].rates[0].prices[1].meter",
        "already priced by features[0].rates[0].prices[0]",
    ),
    ("no meter", with_price(meter=""), "features[0].rates[0].prices[0].meter", "expected a key"),
    ("per 0", with_price(per=0), "features[0].rates[0].prices[0].per", "is 0; expected 1 to"),
    (
        "negative",
        with_price(credits_micros=-1),
        "features[0].rates[0].prices[0].credits_micros",
        "expected 0 to",
    ),
    (
        "huge",
        with_price(credits_micros=AMOUNT_MAX + 1),
        "features[0].rates[0].prices[0].credits_micros",
        "to 9000000000000000",
    ),
    (
        "cost currency",
        with_price(unit_cost=Money("usd", 1)),
        "features[0].rates[0].prices[0].unit_cost.currency_code",
        "three capital letters",
    ),
    (
        "negative cost",
        with_price(unit_cost=Money("USD", -1)),
        "features[0].rates[0].prices[0].unit_cost",
        "is negative",
    ),
    ("minimum", with_rate(minimum_micros=-1), "features[0].rates[0].minimum_micros", "expected 0 to"),
    ("empty match", with_rate(match={"model": ""}), "features[0].rates[0].match", "neither empty"),
    ("match control", with_rate(match={"model": "a\n"}), "features[0].rates[0].match", "printable"),
    ("above", with_rate(above={"tokens": -1}), "features[0].rates[0].above", "expected 0 to"),
    (
        "duplicate rate",
        with_feature(
            rates=(Rate((PRICE,), match={"a": "b", "c": "d"}), Rate((PRICE,), match={"c": "d", "a": "b"}))
        ),
        "features[0].rates[1]",
        "same match and above as features[0].rates[0]",
    ),
    (
        "tiers descend",
        with_price(tiers=(Tier(10, 1), Tier(10, 1), Tier(0, 1))),
        "features[0].rates[0].prices[0].tiers[1].up_to",
        "expected more than 10",
    ),
    (
        "no last tier",
        with_price(tiers=(Tier(10, 1),)),
        "features[0].rates[0].prices[0].tiers[0].up_to",
        "the last tier has 0",
    ),
    # allowances
    ("no amount", allowing(amount_micros=0), "plans[0].allowances[0].amount_micros", "expected 1 to"),
    ("count", allowing(every=Period(Unit.DAY, 1001)), "plans[0].allowances[0].every.count", "1 to 1000"),
    (
        "expiry",
        allowing(expires_after=Period(Unit.DAY, 0)),
        "plans[0].allowances[0].expires_after.count",
        "expected 1 to 1000",
    ),
    ("priority", allowing(priority=-1), "plans[0].allowances[0].priority", "expected 0 to 1000000"),
    ("rollover alone", allowing(rollover=Rollover(1)), "plans[0].allowances[0].rollover", "set `every`"),
    (
        "percent",
        allowing(every=DAY, rollover=Rollover(max_percent=101)),
        "plans[0].allowances[0].rollover.max_percent",
        "expected 0 to 100",
    ),
    (
        "trial",
        with_plan(trial=Trial(DAY, (Allowance("credits", 0),))),
        "plans[0].trial.allowances[0].amount_micros",
        "expected 1 to",
    ),
    # entitlements
    ("boolean", granting(Entitlement("sso", value=1)), "plans[0].entitlements[0].value", "expected enabled"),
    (
        "config",
        granting(Entitlement("window", enabled=True)),
        "plans[0].entitlements[0].enabled",
        "expected value",
    ),
    (
        "limit",
        granting(Entitlement("calls", enabled=True)),
        "plans[0].entitlements[0].enabled",
        "expected limit",
    ),
    ("credit", granting(Entitlement("chat", value=1)), "plans[0].entitlements[0].value", "enabled or limit"),
    ("nothing", granting(Entitlement("chat")), "plans[0].entitlements[0]", "none of enabled, value, limit"),
    (
        "two grants",
        granting(Entitlement("chat", enabled=True, limit=Limit(1))),
        "plans[0].entitlements[0]",
        "has enabled and limit",
    ),
    (
        "granted twice",
        granting(Entitlement("sso", enabled=True), Entitlement("sso", enabled=True)),
        "plans[0].entitlements[1].feature",
        "is granted already",
    ),
    (
        "same window",
        granting(Entitlement("calls", limit=Limit(1, DAY)), Entitlement("calls", limit=Limit(2, DAY))),
        "plans[0].entitlements[1].feature",
        "only different windows",
    ),
    ("max", limiting(max=-1), "plans[0].entitlements[0].limit.max", "expected 0 to"),
    (
        "unlimited max",
        limiting(max=1, unlimited=True),
        "plans[0].entitlements[0].limit.unlimited",
        "excludes max",
    ),
    ("window alone", limiting(window=Window.SLIDING), "plans[0].entitlements[0].limit.window", "set `per`"),
    (
        "zone of anchored",
        limiting(per=DAY, time_zone="UTC"),
        "plans[0].entitlements[0].limit.time_zone",
        "only to CALENDAR",
    ),
    (
        "zone",
        limiting(per=DAY, window=Window.CALENDAR, time_zone="Europe/Berln"),
        "plans[0].entitlements[0].limit.time_zone",
        "did you mean 'Europe/Berlin'?",
    ),
    # overages, budgets, the rest
    (
        "cap",
        with_plan(overages=(Overage("credits", cap_micros=-1),)),
        "plans[0].overages[0].cap_micros",
        "0 to",
    ),
    (
        "overage twice",
        with_plan(overages=(Overage("credits"), Overage("credits"))),
        "plans[0].overages[1].credit",
        "one per credit",
    ),
    ("budget of nothing", budget(cap_micros=0), "plans[0].budgets[0]", "caps nothing"),
    ("scope", budget(scope="metadata:"), "plans[0].budgets[0].scope", "metadata:<key>"),
    ("budget window", budget(window=Window.CALENDAR), "plans[0].budgets[0].window", "set `per`"),
    ("version", with_plan(version=-1), "plans[0].version", "expected 0 to"),
    ("bundle", replace(GOOD, bundles=(Bundle("b", "credits", 0),)), "bundles[0].amount_micros", "1 to"),
    (
        "promotion ends",
        replace(GOOD, promotions=(Promotion("p", "credits", 1, starts_at=2, ends_at=2),)),
        "promotions[0].ends_at",
        "not after starts_at",
    ),
    ("alert of nothing", replace(GOOD, alerts=(AlertRule("a"),)), "alerts[0]", "exactly one of"),
    ("mute alert", replace(GOOD, alerts=(AlertRule("a", credit="credits"),)), "alerts[0]", "never fires"),
]


@pytest.mark.parametrize(("catalog", "path", "said"), [pytest.param(*row[1:], id=row[0]) for row in CHECKS])
def test_each_broken_rule_is_named_with_its_place(catalog: Catalog, path: str, said: str) -> None:
    violations = check_catalog(catalog)

    assert [violation.field for violation in violations if said in violation.problem] == [path]


def test_a_good_catalog_has_no_violations() -> None:
    assert check_catalog(GOOD) == []
    assert check_catalog(Catalog()) == []


def test_every_violation_is_reported_not_the_first() -> None:
    catalog = replace(
        with_price(per=0, credits_micros=-1), credits=(CREDIT, CREDIT), bundles=(Bundle("", "x", 0),)
    )

    assert [violation.field for violation in check_catalog(catalog)] == [
        "credits[1].key",
        "features[0].rates[0].prices[0].credits_micros",
        "features[0].rates[0].prices[0].per",
        "bundles[0].key",
        "bundles[0].credit",
        "bundles[0].amount_micros",
    ]


def test_a_credit_feature_may_have_several_limits_instead_of_enabled() -> None:
    limits = (Entitlement("chat", limit=Limit(1, DAY)), Entitlement("chat", limit=Limit(9, MONTH)))

    assert check_catalog(granting(*limits)) == []


def test_rates_on_their_own_are_checked_like_those_of_a_feature() -> None:
    assert [violation.field for violation in check_rates([Rate(())], "override.rates")] == [
        "override.rates[0].prices"
    ]


SERVED = replace(
    GOOD,
    plans=(
        Plan("pro", allowances=(Allowance("credits", 1),), entitlements=(Entitlement("chat", enabled=True),)),
    ),
    add_ons=(),
    bundles=(),
    promotions=(),
    alerts=(),
)


def test_what_this_release_serves_is_not_reported() -> None:
    assert unsupported(SERVED) == []


def test_every_part_that_is_not_served_is_named() -> None:
    violations = unsupported(GOOD)

    assert [(violation.field, violation.problem) for violation in violations] == [("alerts", NOT_SERVED)]
