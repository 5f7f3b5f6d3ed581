"""From a request to a draw: entitlement, price, counters. All that is known before the decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import FeatureType, Money
from creditd.domain.decide import Charge, Draw, Drawn, Mode
from creditd.domain.errors import InvalidArgument, NotFound, Violation
from creditd.domain.policy import FeaturePolicy, Policy
from creditd.domain.rates import DEFAULT_METER
from creditd.domain.state import Balances
from creditd.engine.heads import limit_of, reason_of
from creditd.engine.requests import Ruling, Step, Use


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may be decided; `denied` is the reason's name when the account is not entitled."""

    use: Use
    policy: FeaturePolicy
    draw: Draw
    usage: dict[str, int]
    cost: Money | None
    catalog_version: int
    denied: str


def prepare(use: Use, policy: Policy, now: int) -> Prepared:
    """Resolve and price a request at `now` (ms).

    Raises:
        NotFound: the catalog in force has no such feature.
        InvalidArgument: the quantity, usage or cost does not fit the feature.
        FailedPrecondition: NO_RATE.
        OutOfRange: it would cost more than 9e15 micros.
    """
    feature = policy.feature(use.feature)
    if feature is None:
        raise NotFound("feature", use.feature, hint=f"catalog version {policy.index.version} is in force")
    usage = _usage(use, feature)
    amount, cost = 0, None
    if feature.feature.type is FeatureType.CREDIT:
        amount, cost = _price(use, feature, usage)
    elif use.cost_micros is not None:
        raise _refuse("cost_micros", "is only for CREDIT features with an external rate")
    # Usage that has happened is recorded whether or not the account was entitled to it.
    denied = "" if use.mode is Mode.RECORD else feature.denied
    draw = Draw(
        feature=use.feature,
        mode=use.mode,
        credit=feature.feature.credit,
        order=feature.order,
        amount=amount,
        floor=feature.overage.floor if feature.overage else 0,
        overage=feature.overage.room(now) if feature.overage and amount else None,
        charges=_charges(feature, usage, now),
    )
    return Prepared(use, feature, draw, usage, cost, policy.index.version, denied)


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
    return policy.feature.type is FeatureType.LIMIT and all(rule.per is None for rule in policy.limits)


def _price(use: Use, policy: FeaturePolicy, usage: dict[str, int]) -> tuple[int, Money | None]:
    if policy.feature.external_rate:
        if use.cost_micros is None:
            raise _refuse("cost_micros", "is required: the feature's rate is external")
        return use.cost_micros, None
    if use.cost_micros is not None:
        raise _refuse("cost_micros", "is only for features with an external rate; this one has rates")
    priced = policy.rates.price(usage, use.attributes)
    return priced.amount, priced.cost


def _charges(policy: FeaturePolicy, usage: dict[str, int], now: int) -> tuple[Charge, ...]:
    if not policy.limits:
        return ()
    units = usage.get(policy.feature.default_meter or DEFAULT_METER, 0)
    return tuple(rule.charge(now, units) for rule in policy.limits)


def _refuse(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(violations=(Violation(field, problem),))


def not_entitled(prepared: Prepared) -> Ruling:
    """The denial of a request that needs no decision."""
    feature = prepared.policy.feature.key
    account = prepared.use.account
    messages = {
        "ACCOUNT_SUSPENDED": f"account {account!r} is suspended",
        "SUBSCRIPTION_INACTIVE": f"the subscription that includes {feature!r} is paused or canceled",
    }
    return Ruling(
        allowed=False,
        reason=prepared.denied,
        message=messages.get(prepared.denied, f"no plan of account {account!r} includes {feature!r}"),
        feature=feature,
        credit=prepared.draw.credit,
        charged=prepared.draw.amount,
        catalog_version=prepared.catalog_version,
    )


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
        balances=_balances_now(drawn),
        overage_used=drawn.overage_used - drawn.from_overage,
        limit=limit_of(draw, _used_before(drawn)),
        value=policy.value if policy.feature.type is FeatureType.CONFIG else None,
        affordable=affordable(prepared, drawn) if for_check else 0,
        catalog_version=prepared.catalog_version,
        explanation=explain(prepared, drawn) if prepared.use.explain else (),
    )


def _balances_now(drawn: Drawn) -> Balances | None:
    """The balances before this request: a Check burns nothing."""
    after = drawn.balances
    if after is None:
        return None
    available = after.available + drawn.from_grants + drawn.debt
    return replace(after, available=available, debt=after.debt - drawn.debt)


def _used_before(drawn: Drawn) -> list[int]:
    """The draw's counters before this request: a Check counts nothing."""
    return [used - applied for used, applied in zip(drawn.used, drawn.applied, strict=True)]


def _why(prepared: Prepared, drawn: Drawn) -> str:
    draw = prepared.draw
    if drawn.denied_by:
        charge = next(item for item in draw.charges if item.key == drawn.denied_by)
        used = drawn.used[draw.charges.index(charge)]
        return f"limit of {draw.feature!r}: {used} of {charge.cap} used, {charge.delta} asked for"
    need, have = _credits(draw.amount), _credits(drawn.spendable)
    if drawn.denial == "FLOOR_REACHED":
        return f"needs {need} {draw.credit}; {have} may be spent above the floor of {_credits(draw.floor)}"
    if drawn.denial == "OVERAGE_CAP_REACHED":
        room = _credits(drawn.overage_room)
        return f"needs {need} {draw.credit}; {have} are left and {room} of overage"
    return f"needs {need} {draw.credit}, {have} are left; grant or buy {_credits(drawn.shortfall)} more"


def _credits(micros: int) -> str:
    """Micros as decimal credits, without trailing zeros."""
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"


def affordable(prepared: Prepared, drawn: Drawn) -> int:
    """How many units of the default meter would be allowed now; 9e15 stands for no bound."""
    draw, policy = prepared.draw, prepared.policy
    units = AMOUNT_MAX
    for charge, used in zip(draw.charges, _used_before(drawn), strict=True):
        if charge.cap >= 0 and not charge.soft and not charge.micros:
            units = min(units, max(0, charge.cap - used))
    if policy.feature.type is FeatureType.CREDIT:
        if policy.feature.external_rate:
            return 0
        if drawn.overage_room >= 0:
            capacity = drawn.spendable + drawn.overage_room
            units = min(units, policy.rates.affordable(prepared.use.attributes, capacity))
    return units


def explain(prepared: Prepared, drawn: Drawn) -> tuple[Step, ...]:
    """How the answer came about, in the order of the decision."""
    draw, policy = prepared.draw, prepared.policy
    steps = [Step("entitlement", draw.feature, policy.source)]
    if draw.credit:
        rate = None
        if not policy.feature.external_rate:
            rate = policy.rates.find(prepared.usage, prepared.use.attributes)
        match = "external" if rate is None else ", ".join(f"{k}={v}" for k, v in rate.match.items()) or "any"
        steps.append(Step("rate", draw.feature, f"catalog {prepared.catalog_version}: {match}", draw.amount))
    for charge, used in zip(draw.charges, _used_before(drawn), strict=True):
        cap = "unlimited" if charge.cap < 0 else str(charge.cap)
        steps.append(Step("limit", charge.key, f"{used} of {cap} used before"))
    steps += [Step("grant", grant_id, "pays", amount) for grant_id, amount in drawn.allocations]
    if drawn.from_overage:
        steps.append(Step("overage", draw.credit, "beyond the grants", drawn.from_overage))
    if drawn.denial is not None:
        steps.append(Step("denial", drawn.denied_by or draw.credit, str(drawn.denial), drawn.shortfall))
    return tuple(steps)
