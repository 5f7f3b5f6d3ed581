"""From a request to a draw: entitlement, price, counters. All that is known before the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import BurnOrder, Feature, FeatureType, Money
from creditd.domain.charging import charge_plan
from creditd.domain.decide import Draw, Drawn, Mode, TierCount, owed_overage
from creditd.domain.errors import InvalidArgument, NotFound, Violation
from creditd.domain.periods import Span
from creditd.domain.policy import FeaturePolicy, Policy
from creditd.domain.rates import DEFAULT_METER, Priced, RateTable
from creditd.domain.state import Balances
from creditd.engine.heads import limit_of, reason_of
from creditd.engine.hold_draws import on_hold, untouched, uses_nothing
from creditd.engine.requests import Action, Ruling, Use


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may be decided; `denied` is the reason's name when the account is not entitled.

    `counted` is what the price takes the period to have counted of meters with graduated prices, by key.
    """

    use: Use
    policy: FeaturePolicy
    draw: Draw
    usage: dict[str, int]
    cost: Money | None
    catalog_version: int
    denied: str
    counted: Mapping[str, int]


def prepare(use: Use, policy: Policy, now: int, counted: Mapping[str, int]) -> Prepared:
    """Resolve and price a request at `now` (ms), `counted` being the counters of graduated prices as they are known.

    Raises:
        NotFound: the catalog in force has no such feature.
        InvalidArgument: the quantity, usage or cost does not fit the feature.
        FailedPrecondition: NO_RATE.
        OutOfRange: it would cost more than 9e15 micros.
    """
    feature = policy.feature(use.feature)
    if uses_nothing(use):
        return _untouched(use, policy, feature, now)
    if feature is None:
        raise NotFound("feature", use.feature, hint=f"catalog version {policy.index.version} is in force")
    usage = _usage(use, feature)
    priced = Priced(0, None, None)
    if feature.feature.type is FeatureType.CREDIT:
        priced = _price(use, feature, usage, counted)
    elif use.cost_micros is not None:
        raise _refuse("cost_micros", "is only for CREDIT features with an external rate")
    # Usage that has happened is recorded whether or not the account was entitled to it.
    denied = "" if use.mode is Mode.RECORD else feature.denied
    units = usage.get(feature.feature.default_meter or DEFAULT_METER, 0)
    plan = charge_plan(feature, use.subject, use.metadata, now)
    period = feature.period(now) if priced.tiers else Span(0, 0)
    draw = Draw(
        feature=use.feature,
        mode=use.mode,
        credit=feature.feature.credit,
        order=feature.order,
        amount=priced.amount,
        floor=feature.overage.floor if feature.overage else 0,
        overage=feature.overage.room(now) if feature.overage and priced.amount else None,
        units=units,
        charges=plan.charges,
        cap=plan.cap,
        cap_by=plan.cap_by,
        tiers=tuple(
            TierCount(tier.key, period.start, period.end, tier.quantity, tier.low, tier.high)
            for tier in priced.tiers
        ),
    )
    draw = on_hold(draw, use, usage, units=units, now=now)
    return Prepared(use, feature, draw, usage, priced.cost, policy.index.version, denied, counted)


def _untouched(use: Use, policy: Policy, feature: FeaturePolicy | None, now: int) -> Prepared:
    """What is held is given back, or kept for longer, also of a feature that the catalog no longer has."""
    draw = untouched(use, now)
    order = policy.index.orders.get(draw.credit, BurnOrder.SOONEST_EXPIRY_FIRST)
    gone = Feature(use.feature, FeatureType.CREDIT if draw.credit else FeatureType.BOOLEAN)
    known = feature or FeaturePolicy(
        gone, RateTable(gone), "", "", None, (), (), None, order, policy.account.created_at
    )
    extends = use.reservation is not None and use.reservation.action is Action.EXTEND
    denied = known.denied if extends else ""
    overage = known.overage.room(now) if known.overage else None
    draw = replace(draw, order=order, overage=overage)
    return Prepared(use, known, draw, {}, None, policy.index.version, denied, {})


def _usage(use: Use, policy: FeaturePolicy) -> dict[str, int]:
    meter = policy.feature.default_meter or DEFAULT_METER
    if use.usage:
        if policy.feature.type is not FeatureType.CREDIT and set(use.usage) != {meter}:
            raise _refuse(
                "usage", f"a {policy.feature.type} feature has one meter, {meter!r}; use `quantity`"
            )
        return use.usage
    quantity = 1 if use.quantity is None else use.quantity
    if quantity < 0 and not _is_gauge(policy):
        raise _refuse(
            "quantity", "is negative; only LIMIT features without a period (gauges) can go down again"
        )
    return {meter: quantity}


def _is_gauge(policy: FeaturePolicy) -> bool:
    return policy.feature.type is FeatureType.LIMIT and all(rule.is_gauge for rule in policy.limits)


def _price(use: Use, policy: FeaturePolicy, usage: dict[str, int], counted: Mapping[str, int]) -> Priced:
    if policy.feature.external_rate:
        reserved = _reserved(use)
        if use.cost_micros is None and reserved is not None:
            return Priced(reserved, None, None)
        if use.cost_micros is None:
            raise _refuse("cost_micros", "is required: the feature's rate is external")
        return Priced(use.cost_micros, None, None)
    if use.cost_micros is not None:
        raise _refuse("cost_micros", "is only for features with an external rate; this one has rates")
    return policy.rates.price(usage, use.attributes, counted)


def _reserved(use: Use) -> int | None:
    """What a Commit without a cost of its own charges: all that is held."""
    reservation = use.reservation
    if reservation is None or reservation.action is not Action.COMMIT or reservation.is_expired:
        return None
    return None if reservation.hold is None else reservation.hold.micros


def _refuse(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(violations=(Violation(field, problem),))


def not_entitled(prepared: Prepared) -> Ruling:
    """The denial of a request that needs no decision."""
    feature = prepared.policy.feature.key
    account = prepared.use.account
    messages = {
        "ACCOUNT_SUSPENDED": f"account {account!r} is suspended",
        "SUBSCRIPTION_INACTIVE": f"the subscription that includes {feature!r} is paused, canceled or has not begun",
    }
    return Ruling(
        allowed=False,
        reason=prepared.denied,
        message=messages.get(prepared.denied, f"no plan of account {account!r} includes {feature!r}"),
        feature=feature,
        credit=prepared.draw.credit,
        charged=prepared.draw.amount,
        catalog_version=prepared.catalog_version,
        **_as_held(prepared.use),
    )


class _Held(TypedDict, total=False):
    reservation_id: str
    reserved: int
    expires_at: int


def _as_held(use: Use) -> _Held:
    """How a hold stands that a denied Extend leaves as it was."""
    hold = None if use.reservation is None else use.reservation.hold
    if hold is None:
        return {}
    return {"reservation_id": hold.id, "reserved": hold.micros, "expires_at": hold.expires_at}


def ruling_of_drawn(prepared: Prepared, drawn: Drawn, *, for_check: bool) -> Ruling:
    """The answer to a Check, or to a Consume that was denied."""
    draw, policy = prepared.draw, prepared.policy
    allowed = drawn.denial is None
    return Ruling(
        allowed=allowed,
        reason=reason_of(policy.feature.type, draw, drawn) if allowed else str(drawn.denial),
        message="" if allowed else _why(prepared, drawn),
        feature=draw.feature,
        credit=draw.credit,
        charged=draw.amount if for_check else 0,
        overage=drawn.from_overage if allowed else 0,
        shortfall=drawn.shortfall,
        balances=_balances_now(draw, drawn),
        overage_used=drawn.overage_used - drawn.from_overage,
        limit=limit_of(draw, drawn, used_before(drawn)),
        value=policy.value if policy.feature.type is FeatureType.CONFIG else None,
        affordable=affordable(prepared, drawn) if for_check else 0,
        catalog_version=prepared.catalog_version,
        **_as_held(prepared.use),
    )


def _balances_now(draw: Draw, drawn: Drawn) -> Balances | None:
    """The balances before this request: a Check burns nothing."""
    after = drawn.balances
    if after is None:
        return None
    owed = drawn.debt + owed_overage(draw, drawn.from_overage)
    return replace(after, available=after.available + drawn.from_grants + owed, debt=after.debt - owed)


def used_before(drawn: Drawn) -> list[int]:
    """The draw's counters before this request: a Check counts nothing."""
    return [used - applied for used, applied in zip(drawn.used, drawn.applied, strict=True)]


def _why(prepared: Prepared, drawn: Drawn) -> str:
    draw = prepared.draw
    if drawn.denied_by == draw.cap_by and 0 <= draw.cap < draw.amount:
        budget = budget_of(prepared, drawn.denied_by)
        return f"{budget} allows {_credits(draw.cap)} {draw.credit} a request; this one needs {_credits(draw.amount)}"
    if drawn.denied_by:
        charge = next(item for item in draw.charges if item.key == drawn.denied_by)
        used = drawn.used[draw.charges.index(charge)]
        if charge.micros:
            budget, need = budget_of(prepared, charge.key), _credits(draw.amount)
            return (
                f"{budget}: {_credits(used)} of {_credits(charge.cap)} {draw.credit} burned, {need} asked for"
            )
        return f"limit of {draw.feature!r}: {used} of {charge.cap} used, {draw.units} asked for"
    if drawn.denial == "BUDGET_EXCEEDED":
        return "a budget has nothing left"
    need, have = _credits(draw.amount), _credits(drawn.spendable)
    if drawn.denial == "FLOOR_REACHED":
        return f"needs {need} {draw.credit}; {have} may be spent above the floor of {_credits(draw.floor)}"
    if drawn.denial == "OVERAGE_CAP_REACHED":
        room = _credits(drawn.overage_room)
        return f"needs {need} {draw.credit}; {have} are left and {room} of overage"
    return f"needs {need} {draw.credit}, {have} are left; grant or buy {_credits(drawn.shortfall)} more"


def budget_of(prepared: Prepared, counter: str) -> str:
    """The budget behind a counter, in words."""
    for budget in prepared.policy.budgets:
        value = budget.value_of(prepared.use.subject, prepared.use.metadata)
        if value is not None and f"{counter}@".startswith(f"{budget.counter(value)}@"):
            scope = budget.rule.scope.removeprefix("metadata:")
            return f"budget {budget.id!r}" + (f" of {scope} {value!r}" if value else "")
    return "a budget"


def _credits(micros: int) -> str:
    """Micros as decimal credits, without trailing zeros."""
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"


def affordable(prepared: Prepared, drawn: Drawn) -> int:
    """How many units of the default meter would be allowed now; 9e15 stands for no bound."""
    draw, policy = prepared.draw, prepared.policy
    units = AMOUNT_MAX
    for charge, used in zip(draw.charges, used_before(drawn), strict=True):
        if charge.cap >= 0 and not charge.soft and not charge.micros:
            units = min(units, max(0, charge.cap - used))
    if policy.feature.type is FeatureType.CREDIT:
        if policy.feature.external_rate:
            return 0
        capacity = AMOUNT_MAX
        if drawn.overage_room >= 0:
            capacity = drawn.spendable + drawn.overage_room
        if capacity < AMOUNT_MAX or policy.budgets:
            if draw.cap >= 0:
                capacity = min(capacity, draw.cap)
            for charge, used in zip(draw.charges, used_before(drawn), strict=True):
                if charge.micros and charge.cap >= 0 and not charge.soft:
                    capacity = min(capacity, max(0, charge.cap - used))
            units = min(units, policy.rates.affordable(prepared.use.attributes, capacity, prepared.counted))
    return units
