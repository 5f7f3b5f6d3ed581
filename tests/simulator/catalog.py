"""What is sold in the simulated world: small allowances of minutes and hours, so that time matters in every run."""

from __future__ import annotations

from creditd.domain.catalog import (
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
    Overage,
    Period,
    Plan,
    Promotion,
    Rate,
    Rollover,
    Tier,
    Unit,
)

CREDIT = 1_000_000
CALLS_MAX = 25
JOBS_MAX = 6
OVERAGE_MAX = 12 * CREDIT
PROMOTIONS_MAX = 2

_ENTITLED = (
    Entitlement("chat", enabled=True),
    Entitlement("metered", enabled=True),
    Entitlement("tiered", enabled=True),
    Entitlement("sso", enabled=True),
    Entitlement("calls", limit=Limit(CALLS_MAX, Period(Unit.HOUR))),
    Entitlement("jobs", limit=Limit(JOBS_MAX)),
)


def catalog(big_price: int = 2) -> Catalog:
    """The catalog; `big_price` is what a token of the big model costs in credits."""
    return Catalog(
        credits=(CreditType("credits"),),
        features=(
            Feature(
                "chat",
                FeatureType.CREDIT,
                credit="credits",
                default_meter="tokens",
                rates=(
                    Rate((MeterPrice("tokens", CREDIT),)),
                    Rate((MeterPrice("tokens", big_price * CREDIT),), match={"model": "big"}),
                ),
            ),
            Feature("metered", FeatureType.CREDIT, credit="credits", external_rate=True),
            Feature(
                "tiered",
                FeatureType.CREDIT,
                credit="credits",
                default_meter="units",
                rates=(Rate((MeterPrice("units", 0, tiers=(Tier(6, 2 * CREDIT), Tier(0, CREDIT // 2))),)),),
            ),
            Feature("sso", FeatureType.BOOLEAN),
            Feature("calls", FeatureType.LIMIT),
            Feature("jobs", FeatureType.LIMIT),
            Feature("secret", FeatureType.BOOLEAN),
        ),
        plans=(
            Plan(
                "small",
                allowances=(
                    Allowance("credits", 40 * CREDIT, every=Period(Unit.HOUR)),
                    Allowance(
                        "credits",
                        15 * CREDIT,
                        every=Period(Unit.DAY),
                        rollover=Rollover(max_percent=50, max_periods=2),
                    ),
                ),
                entitlements=_ENTITLED,
                budgets=(BudgetRule("credits", 60 * CREDIT, Period(Unit.HOUR), scope="subject"),),
            ),
            Plan(
                "big",
                allowances=(Allowance("credits", 120 * CREDIT, every=Period(Unit.HOUR)),),
                entitlements=_ENTITLED,
            ),
            Plan(
                "payg",
                entitlements=_ENTITLED,
                overages=(Overage("credits", allowed=True, cap_micros=OVERAGE_MAX),),
            ),
        ),
        bundles=(Bundle("pack", "credits", 20 * CREDIT, expires_after=Period(Unit.HOUR, 2)),),
        promotions=(
            Promotion("welcome", "credits", 5 * CREDIT, code="HELLO", max_redemptions=PROMOTIONS_MAX),
        ),
    )
