"""The catalog and its parts: domain -> wire. Every valid domain value can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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
    Limit,
    MeterPrice,
    Overage,
    Plan,
    Promotion,
    Rate,
    Rollover,
    Trial,
)
from creditd.rpc.codec_values import json_to_proto, money_to_proto, period_to_proto, timestamp_to_proto
from creditd.v1 import catalog_pb2 as pb

T = TypeVar("T")
M = TypeVar("M")


def catalog_to_proto(catalog: Catalog) -> pb.Catalog:
    """The catalog on the wire."""
    return pb.Catalog(
        credits=[_credit_type_to_proto(item) for item in catalog.credits],
        features=[feature_to_proto(item) for item in catalog.features],
        plans=[_plan_to_proto(item) for item in catalog.plans],
        add_ons=[_add_on_to_proto(item) for item in catalog.add_ons],
        bundles=[_bundle_to_proto(item) for item in catalog.bundles],
        promotions=[_promotion_to_proto(item) for item in catalog.promotions],
        alerts=[_alert_to_proto(item) for item in catalog.alerts],
    )


def _maybe(convert: Callable[[T], M], value: T | None) -> M | None:
    return None if value is None else convert(value)


def _credit_type_to_proto(credit: CreditType) -> pb.CreditType:
    return pb.CreditType(
        key=credit.key,
        name=credit.name,
        burn_order=pb.BurnOrder.Value(f"BURN_ORDER_{credit.burn_order}"),
        value=_maybe(money_to_proto, credit.value),
    )


def feature_to_proto(feature: Feature) -> pb.Feature:
    """A feature on the wire."""
    return pb.Feature(
        key=feature.key,
        name=feature.name,
        type=pb.FeatureType.Value(f"FEATURE_TYPE_{feature.type}"),
        credit=feature.credit,
        default_meter=feature.default_meter,
        rates=[rate_to_proto(rate) for rate in feature.rates],
        external_rate=feature.external_rate,
        default_value=_maybe(json_to_proto, feature.default_value),
    )


def rate_to_proto(rate: Rate) -> pb.Rate:
    """A rate on the wire."""
    return pb.Rate(
        match=rate.match,
        prices=[_price_to_proto(price) for price in rate.prices],
        minimum_micros=rate.minimum_micros,
        above=rate.above,
    )


def _price_to_proto(price: MeterPrice) -> pb.MeterPrice:
    return pb.MeterPrice(
        meter=price.meter,
        credits_micros=price.credits_micros,
        per=price.per,
        rounding=pb.Rounding.Value(f"ROUNDING_{price.rounding}"),
        unit_cost=_maybe(money_to_proto, price.unit_cost),
        tiers=[pb.Tier(up_to=tier.up_to, credits_micros=tier.credits_micros) for tier in price.tiers],
    )


def _plan_to_proto(plan: Plan) -> pb.Plan:
    return pb.Plan(
        key=plan.key,
        name=plan.name,
        allowances=[_allowance_to_proto(item) for item in plan.allowances],
        entitlements=[entitlement_to_proto(item) for item in plan.entitlements],
        overages=[overage_to_proto(item) for item in plan.overages],
        trial=_maybe(_trial_to_proto, plan.trial),
        rank=plan.rank,
        external_id=plan.external_id,
        version=plan.version,
        budgets=[budget_to_proto(item) for item in plan.budgets],
    )


def _allowance_to_proto(allowance: Allowance) -> pb.Allowance:
    return pb.Allowance(
        credit=allowance.credit,
        amount_micros=allowance.amount_micros,
        every=_maybe(period_to_proto, allowance.every),
        rollover=_maybe(rollover_to_proto, allowance.rollover),
        per_seat=allowance.per_seat,
        priority=allowance.priority,
        expires_after=_maybe(period_to_proto, allowance.expires_after),
    )


def rollover_to_proto(rollover: Rollover) -> pb.Rollover:
    """What rolls over, on the wire."""
    return pb.Rollover(
        max_micros=rollover.max_micros, max_percent=rollover.max_percent, max_periods=rollover.max_periods
    )


def entitlement_to_proto(entitlement: Entitlement) -> pb.Entitlement:
    """An entitlement on the wire."""
    message = pb.Entitlement(
        feature=entitlement.feature,
        value=_maybe(json_to_proto, entitlement.value),
        limit=_maybe(_limit_to_proto, entitlement.limit),
    )
    if entitlement.enabled is not None:
        message.enabled = entitlement.enabled
    return message


def _limit_to_proto(limit: Limit) -> pb.Limit:
    return pb.Limit(
        max=limit.max,
        per=_maybe(period_to_proto, limit.per),
        unlimited=limit.unlimited,
        soft=limit.soft,
        per_seat=limit.per_seat,
        window=pb.Window.Value(f"WINDOW_{limit.window}"),
        time_zone=limit.time_zone,
    )


def overage_to_proto(overage: Overage) -> pb.Overage:
    """An overage rule on the wire."""
    return pb.Overage(
        credit=overage.credit,
        allowed=overage.allowed,
        cap_micros=overage.cap_micros,
        price_per_credit=_maybe(money_to_proto, overage.price_per_credit),
        carry_debt=overage.carry_debt,
        floor_micros=overage.floor_micros,
    )


def _trial_to_proto(trial: Trial) -> pb.Trial:
    return pb.Trial(
        length=period_to_proto(trial.length),
        allowances=[_allowance_to_proto(item) for item in trial.allowances],
        require_activation=trial.require_activation,
    )


def budget_to_proto(budget: BudgetRule) -> pb.BudgetRule:
    """A budget rule on the wire."""
    return pb.BudgetRule(
        credit=budget.credit,
        cap_micros=budget.cap_micros,
        per=_maybe(period_to_proto, budget.per),
        scope=budget.scope,
        soft=budget.soft,
        max_per_draw_micros=budget.max_per_draw_micros,
        window=pb.Window.Value(f"WINDOW_{budget.window}"),
        time_zone=budget.time_zone,
        features=budget.features,
    )


def _add_on_to_proto(add_on: AddOn) -> pb.AddOn:
    return pb.AddOn(
        key=add_on.key,
        name=add_on.name,
        allowances=[_allowance_to_proto(item) for item in add_on.allowances],
        entitlements=[entitlement_to_proto(item) for item in add_on.entitlements],
        external_id=add_on.external_id,
    )


def _bundle_to_proto(bundle: Bundle) -> pb.Bundle:
    return pb.Bundle(
        key=bundle.key,
        name=bundle.name,
        credit=bundle.credit,
        amount_micros=bundle.amount_micros,
        price=_maybe(money_to_proto, bundle.price),
        expires_after=_maybe(period_to_proto, bundle.expires_after),
        external_id=bundle.external_id,
    )


def _promotion_to_proto(promotion: Promotion) -> pb.Promotion:
    return pb.Promotion(
        key=promotion.key,
        credit=promotion.credit,
        amount_micros=promotion.amount_micros,
        expires_after=_maybe(period_to_proto, promotion.expires_after),
        on_signup=promotion.on_signup,
        code=promotion.code,
        max_redemptions=promotion.max_redemptions,
        priority=promotion.priority,
        starts_at=_maybe(timestamp_to_proto, promotion.starts_at),
        ends_at=_maybe(timestamp_to_proto, promotion.ends_at),
    )


def _alert_to_proto(alert: AlertRule) -> pb.AlertRule:
    return pb.AlertRule(
        key=alert.key,
        credit=alert.credit,
        below_percent=alert.below_percent,
        below_micros=alert.below_micros,
        feature=alert.feature,
        above_percent_of_limit=alert.above_percent_of_limit,
    )
