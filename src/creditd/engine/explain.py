"""How an answer came about, step by step, in the order of the decision: for support, at some cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from creditd.domain.accounts import ENTITLING
from creditd.domain.catalog import Entitlement, Rate
from creditd.domain.catalog_text import credits_text, limit_text
from creditd.domain.decide import Charge, Drawn
from creditd.domain.policy import DEFAULT
from creditd.domain.state import SegmentGrant
from creditd.engine.prepare import Prepared, budget_of, used_before
from creditd.engine.requests import Step


def explain(prepared: Prepared, drawn: Drawn, grants: Sequence[SegmentGrant]) -> tuple[Step, ...]:
    """Every entitlement, the rate, each counter, each grant tried, and what denied; `grants` in burn order."""
    steps = [*_entitlements(prepared), *_rate(prepared)]
    for charge, used in zip(prepared.draw.charges, used_before(drawn), strict=True):
        steps.append(_counter(prepared, charge, used))
    if not drawn.denied_by:  # else no grant was tried
        steps += _grants(prepared, drawn, grants)
    if drawn.from_overage:
        steps.append(Step("overage", prepared.draw.credit, "beyond the grants", drawn.from_overage))
    if drawn.denial is not None:
        key = drawn.denied_by or prepared.draw.credit
        steps.append(Step("denial", key, str(drawn.denial), drawn.shortfall))
    return tuple(steps)


def explain_not_entitled(prepared: Prepared) -> tuple[Step, ...]:
    """The steps of a denial that needed no decision."""
    denial = Step("denial", prepared.policy.feature.key, prepared.denied)
    return (*_entitlements(prepared), denial)


def _entitlements(prepared: Prepared) -> Iterator[Step]:
    """Everything that speaks for or against the feature; the first that gives it is where it comes from."""
    policy = prepared.policy
    if policy.source == DEFAULT and not policy.granted and not policy.inactive:
        default = policy.feature.default_value
        yield Step(
            "entitlement", DEFAULT, "nothing" if default is None else f"the feature's default, {default}"
        )
    for granted in policy.granted:
        yield Step("entitlement", granted.source, _given(granted.item))
    for subscription, plan in policy.inactive:
        word = subscription.status.value.lower().replace("_", " ")
        why = "has not begun yet" if subscription.status in ENTITLING else f"is {word}"
        yield Step("entitlement", f"plan/{plan.key}", f"does not count: the subscription {why}")


def _given(item: Entitlement) -> str:
    if item.limit is not None:
        return limit_text(item.limit)
    if item.value is not None:
        return f"value {item.value}"
    return "not included" if item.enabled is False else "included"


def _rate(prepared: Prepared) -> Iterator[Step]:
    draw, policy = prepared.draw, prepared.policy
    if not draw.credit:
        return
    version = f"catalog {prepared.catalog_version}"
    if policy.feature.external_rate:
        yield Step("rate", draw.feature, f"{version}: external, the request brings its cost", draw.amount)
        return
    rate = policy.rates.find(prepared.usage, prepared.use.attributes)
    yield Step(
        "rate", draw.feature, f"{version}: {_why_rate(rate, len(policy.rates.feature.rates))}", draw.amount
    )


def _why_rate(rate: Rate | None, known: int) -> str:
    if rate is None:
        return "any"
    match = ", ".join(f"{name}={value}" for name, value in sorted(rate.match.items())) or "any"
    above = "".join(f", {meter} above {number:,}" for meter, number in sorted(rate.above.items()))
    return f"{match}{above}" + (f", the most specific of {known} rates that fits" if known > 1 else "")


def _counter(prepared: Prepared, charge: Charge, used: int) -> Step:
    soft = ", soft" if charge.soft else ""
    if charge.micros:
        room = "" if charge.cap < 0 else f", {credits_text(max(0, charge.cap - used))} left"
        detail = (
            f"{budget_of(prepared, charge.key)}: {credits_text(used)} of {credits_text(charge.cap)} burned"
        )
        return Step("budget", charge.key, f"{detail} before{room}{soft}", used)
    if charge.cap < 0:
        return Step("limit", charge.key, f"{used} used before, unlimited{soft}")
    return Step(
        "limit", charge.key, f"{used} of {charge.cap} used before, {max(0, charge.cap - used)} left{soft}"
    )


def _grants(prepared: Prepared, drawn: Drawn, grants: Sequence[SegmentGrant]) -> Iterator[Step]:
    """Each grant in burn order: what it pays, or why it does not."""
    paid = dict(drawn.allocations)
    for grant in grants:
        amount = paid.pop(grant.id, 0)
        if amount:
            yield Step("grant", grant.id, f"pays, of {credits_text(grant.remaining)}", amount)
        elif grant.features and prepared.draw.feature not in grant.features:
            yield Step("grant", grant.id, f"is for {', '.join(grant.features)} only")
        elif drawn.denial is not None:
            yield Step("grant", grant.id, f"has {credits_text(grant.remaining)}")
        else:
            yield Step("grant", grant.id, f"is not needed, has {credits_text(grant.remaining)}")
    for grant_id, amount in paid.items():
        yield Step("grant", grant_id, "pays", amount)
