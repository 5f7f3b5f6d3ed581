"""The catalog and its parts: wire <-> domain.

Reading notes every fault of form (unknown enum values, a missing one-of, numbers that are no JSON) with its
path; what a catalog means is checked after it, by `domain.catalog_check`. Writing what was read gives an
equal message, but for fields that say their default in another way (an unspecified enum, a count of 0).

Each `read_x(message, path, faults)` reads one part, for other codecs to use; `codec_catalog_write` has the
other direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from google.protobuf.message import Message

from creditd.domain.amounts import Rounding
from creditd.domain.catalog import (
    AddOn,
    AlertRule,
    Allowance,
    BudgetRule,
    Bundle,
    BurnOrder,
    Catalog,
    CreditType,
    Entitlement,
    Feature,
    FeatureType,
    Limit,
    MeterPrice,
    Overage,
    Plan,
    Promotion,
    Rate,
    Rollover,
    Tier,
    Trial,
    Window,
)
from creditd.domain.errors import InvalidArgument
from creditd.rpc.codec_catalog_write import catalog_to_proto
from creditd.rpc.codec_values import (
    Faults,
    read_enum,
    read_json,
    read_money,
    read_period,
    timestamp_from_proto,
)
from creditd.v1 import catalog_pb2 as pb

__all__ = [
    "catalog_from_proto",
    "catalog_to_proto",
    "read",
    "read_budget",
    "read_catalog",
    "read_entitlement",
    "read_feature",
    "read_overage",
    "read_rate",
    "read_rollover",
]

T = TypeVar("T")

Reader = Callable[[Any, str, Faults], T]


def catalog_from_proto(message: pb.Catalog, path: str = "") -> Catalog:
    """Reads a whole catalog; `path` is where it lies in the request, as in `catalog`.

    Raises:
        InvalidArgument: with every violation of form.
    """
    return read(read_catalog, message, path)


def read(reader: Reader[T], message: Message, path: str) -> T:
    """Reads one part with one of this module's readers and raises what it found wrong.

    Raises:
        InvalidArgument: with every violation of form.
    """
    faults = Faults()
    result = reader(message, path, faults)
    if faults.violations:
        raise InvalidArgument(violations=faults.violations)
    return result


def read_catalog(message: pb.Catalog, path: str, faults: Faults) -> Catalog:
    """Reads every section."""
    at = f"{path}." if path else ""
    return Catalog(
        credits=_all(_read_credit_type, message.credits, f"{at}credits", faults),
        features=_all(read_feature, message.features, f"{at}features", faults),
        plans=_all(_read_plan, message.plans, f"{at}plans", faults),
        add_ons=_all(_read_add_on, message.add_ons, f"{at}add_ons", faults),
        bundles=_all(_read_bundle, message.bundles, f"{at}bundles", faults),
        promotions=_all(_read_promotion, message.promotions, f"{at}promotions", faults),
        alerts=_all(_read_alert, message.alerts, f"{at}alerts", faults),
    )


def _all(reader: Reader[T], messages: Iterable[Any], path: str, faults: Faults) -> tuple[T, ...]:
    return tuple(reader(message, f"{path}[{index}]", faults) for index, message in enumerate(messages))


def _optional(reader: Reader[T], message: Message, field: str, path: str, faults: Faults) -> T | None:
    """Reads a message field if it is there."""
    return reader(getattr(message, field), f"{path}.{field}", faults) if message.HasField(field) else None


def _read_credit_type(message: pb.CreditType, path: str, faults: Faults) -> CreditType:
    return CreditType(
        key=message.key,
        name=message.name,
        burn_order=read_enum(
            message.burn_order, BurnOrder, f"{path}.burn_order", faults, BurnOrder.SOONEST_EXPIRY_FIRST
        ),
        value=_optional(read_money, message, "value", path, faults),
    )


def read_feature(message: pb.Feature, path: str, faults: Faults) -> Feature:
    """Reads a feature with its rates."""
    return Feature(
        key=message.key,
        type=read_enum(message.type, FeatureType, f"{path}.type", faults),
        name=message.name,
        credit=message.credit,
        default_meter=message.default_meter,
        rates=_all(read_rate, message.rates, f"{path}.rates", faults),
        external_rate=message.external_rate,
        default_value=_optional(read_json, message, "default_value", path, faults),
    )


def read_rate(message: pb.Rate, path: str, faults: Faults) -> Rate:
    """Reads one rate."""
    return Rate(
        prices=_all(_read_price, message.prices, f"{path}.prices", faults),
        match=dict(message.match),
        minimum_micros=message.minimum_micros,
        above=dict(message.above),
    )


def _read_price(message: pb.MeterPrice, path: str, faults: Faults) -> MeterPrice:
    return MeterPrice(
        meter=message.meter,
        credits_micros=message.credits_micros,
        per=message.per or 1,
        rounding=read_enum(message.rounding, Rounding, f"{path}.rounding", faults, Rounding.UP),
        unit_cost=_optional(read_money, message, "unit_cost", path, faults),
        tiers=tuple(Tier(tier.up_to, tier.credits_micros) for tier in message.tiers),
    )


def _read_plan(message: pb.Plan, path: str, faults: Faults) -> Plan:
    return Plan(
        key=message.key,
        name=message.name,
        allowances=_all(_read_allowance, message.allowances, f"{path}.allowances", faults),
        entitlements=_all(read_entitlement, message.entitlements, f"{path}.entitlements", faults),
        overages=_all(read_overage, message.overages, f"{path}.overages", faults),
        trial=_optional(_read_trial, message, "trial", path, faults),
        rank=message.rank,
        external_id=message.external_id,
        version=message.version,
        budgets=_all(read_budget, message.budgets, f"{path}.budgets", faults),
    )


def _read_allowance(message: pb.Allowance, path: str, faults: Faults) -> Allowance:
    return Allowance(
        credit=message.credit,
        amount_micros=message.amount_micros,
        every=_optional(read_period, message, "every", path, faults),
        rollover=_optional(read_rollover, message, "rollover", path, faults),
        per_seat=message.per_seat,
        priority=message.priority,
        expires_after=_optional(read_period, message, "expires_after", path, faults),
    )


def read_rollover(message: pb.Rollover, _path: str, _faults: Faults) -> Rollover:
    """Reads what rolls over."""
    return Rollover(message.max_micros, message.max_percent, message.max_periods)


def read_entitlement(message: pb.Entitlement, path: str, faults: Faults) -> Entitlement:
    """Reads what is granted of a feature; nothing at all, or a null, is a fault."""
    given = message.WhichOneof("grant")
    if given is None:
        faults.add(path, "grants nothing; expected one of enabled, value, limit")
    elif given == "value" and message.value.HasField("null_value"):
        faults.add(f"{path}.value", "is null; expected a value, or leave the entitlement out")
    return Entitlement(
        feature=message.feature,
        enabled=message.enabled if given == "enabled" else None,
        value=_optional(read_json, message, "value", path, faults),
        limit=_optional(_read_limit, message, "limit", path, faults),
    )


def _read_limit(message: pb.Limit, path: str, faults: Faults) -> Limit:
    return Limit(
        max=message.max,
        per=_optional(read_period, message, "per", path, faults),
        unlimited=message.unlimited,
        soft=message.soft,
        per_seat=message.per_seat,
        window=read_enum(message.window, Window, f"{path}.window", faults, Window.ANCHORED),
        time_zone=message.time_zone,
    )


def read_overage(message: pb.Overage, path: str, faults: Faults) -> Overage:
    """Reads an overage rule."""
    return Overage(
        credit=message.credit,
        allowed=message.allowed,
        cap_micros=message.cap_micros,
        price_per_credit=_optional(read_money, message, "price_per_credit", path, faults),
        carry_debt=message.carry_debt,
        floor_micros=message.floor_micros,
    )


def _read_trial(message: pb.Trial, path: str, faults: Faults) -> Trial:
    return Trial(
        length=read_period(message.length, f"{path}.length", faults),
        allowances=_all(_read_allowance, message.allowances, f"{path}.allowances", faults),
        require_activation=message.require_activation,
    )


def read_budget(message: pb.BudgetRule, path: str, faults: Faults) -> BudgetRule:
    """Reads a budget rule; its scope is the account where none is given."""
    return BudgetRule(
        credit=message.credit,
        cap_micros=message.cap_micros,
        per=_optional(read_period, message, "per", path, faults),
        scope=message.scope or "account",
        soft=message.soft,
        max_per_draw_micros=message.max_per_draw_micros,
        window=read_enum(message.window, Window, f"{path}.window", faults, Window.ANCHORED),
        time_zone=message.time_zone,
        features=tuple(message.features),
    )


def _read_add_on(message: pb.AddOn, path: str, faults: Faults) -> AddOn:
    return AddOn(
        key=message.key,
        name=message.name,
        allowances=_all(_read_allowance, message.allowances, f"{path}.allowances", faults),
        entitlements=_all(read_entitlement, message.entitlements, f"{path}.entitlements", faults),
        external_id=message.external_id,
    )


def _read_bundle(message: pb.Bundle, path: str, faults: Faults) -> Bundle:
    return Bundle(
        key=message.key,
        name=message.name,
        credit=message.credit,
        amount_micros=message.amount_micros,
        price=_optional(read_money, message, "price", path, faults),
        expires_after=_optional(read_period, message, "expires_after", path, faults),
        external_id=message.external_id,
    )


def _read_promotion(message: pb.Promotion, path: str, faults: Faults) -> Promotion:
    return Promotion(
        key=message.key,
        credit=message.credit,
        amount_micros=message.amount_micros,
        expires_after=_optional(read_period, message, "expires_after", path, faults),
        on_signup=message.on_signup,
        code=message.code,
        max_redemptions=message.max_redemptions,
        priority=message.priority,
        starts_at=timestamp_from_proto(message.starts_at) if message.HasField("starts_at") else None,
        ends_at=timestamp_from_proto(message.ends_at) if message.HasField("ends_at") else None,
    )


def _read_alert(message: pb.AlertRule, _path: str, _faults: Faults) -> AlertRule:
    return AlertRule(
        key=message.key,
        credit=message.credit,
        below_percent=message.below_percent,
        below_micros=message.below_micros,
        feature=message.feature,
        above_percent_of_limit=message.above_percent_of_limit,
    )
