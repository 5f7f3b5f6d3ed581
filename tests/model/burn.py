"""The model's decisions: may an account use a feature, and what does it burn?"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.model.model import ENTITLING, FOREVER, Grant, Model, Subscription, calendar, micros, window


@dataclass
class Answer:
    """What Consume says. `limit` is the tightest limit: its maximum and what it has counted."""

    allowed: bool
    reason: str
    charged: int = 0
    overage: int = 0
    shortfall: int = 0
    allocations: list[tuple[str, int]] = field(default_factory=list)
    limit: tuple[int, int] | None = None
    cost: int = 0


@dataclass
class Counter:
    """A limit or budget that a request counts in."""

    key: str
    span: tuple[int, int]
    cap: int
    delta: int


def consume(
    model: Model, feature: str, quantity: int, mode: str = "ENFORCE", subject: str = "", check: bool = False
) -> Answer:
    """Decide and burn. A denial changes nothing; neither does a Check, which answers as of before."""
    definition = model.item("features", feature)
    credit = definition.get("credit", "")
    cost = micros(definition["rates"][0]["prices"][0]["credits"]) * quantity if credit else 0
    denied = _not_entitled(model, feature)
    if denied and mode != "RECORD":
        return Answer(False, denied, cost=cost)
    limits = limits_of(model, feature, quantity)
    budgets = budgets_of(model, feature, credit, subject, cost)
    answer = _decide(model, definition, cost, mode, limits, budgets, quantity)
    answer.cost = cost
    if answer.allowed and mode == "RECORD" and not check:
        strict = deepcopy(model)
        if not _decide(strict, definition, cost, "ENFORCE", limits, budgets, quantity).allowed:
            answer.reason = "RECORDED"
    units = quantity
    if answer.allowed and mode == "PARTIAL" and not credit:
        units = min([quantity, *(max(0, c.cap - used(model, c)) for c in limits if c.delta > 0)])
        if units < quantity:
            answer.reason = "PARTIALLY_COVERED"
            answer.shortfall = quantity - units
    if answer.allowed and not check:
        for counter in limits:
            count(model, counter, units)
        for counter in budgets:
            count(model, counter, answer.charged)
        _burn(model, feature, credit, answer)
    states = [(counter.cap, used(model, counter)) for counter in limits]
    answer.limit = min(states, key=lambda state: max(0, state[0] - state[1])) if states else None
    if answer.limit is None and not credit and mode == "RECORD":
        answer.reason = "RECORDED"
    elif answer.limit and not credit and answer.reason in {"WITHIN_LIMIT", "RECORDED"}:
        past = "RECORDED" if mode == "RECORD" else "IN_OVERAGE"
        answer.reason = past if answer.limit[1] > answer.limit[0] else "WITHIN_LIMIT"
    return answer


def _decide(
    model: Model,
    feature: dict[str, Any],
    cost: int,
    mode: str,
    limits: list[Counter],
    budgets: list[Counter],
    quantity: int,
) -> Answer:
    credit = feature.get("credit", "")
    amount = cost
    if mode != "RECORD":
        for counter in limits:
            room = max(0, counter.cap - used(model, counter))
            if counter.delta > room and (mode == "ENFORCE" or credit or room == 0):
                return Answer(False, "LIMIT_EXCEEDED", shortfall=counter.delta - room)
        for counter in budgets:
            room = max(0, counter.cap - used(model, counter))
            if mode == "ENFORCE" and cost > room:
                return Answer(False, "BUDGET_EXCEEDED", shortfall=cost - room)
            amount = min(amount, room)
        if cost and not amount:
            return Answer(False, "BUDGET_EXCEEDED", shortfall=cost)
    if not credit:
        return Answer(True, "WITHIN_LIMIT")
    terms = overage_terms(model, credit)
    have = [
        grant for grant in burn_order(model, credit) if not grant.features or feature["key"] in grant.features
    ]
    eligible = sum(grant.remaining for grant in have)
    spendable = eligible
    floor = micros(terms.get("floor", 0)) if terms else 0
    if floor and mode != "RECORD":
        spendable = min(eligible, max(0, available(model, credit) - floor))
    paid = min(amount, spendable)
    beyond = 0
    goes_beyond = bool(terms and terms.get("allowed") and cost)
    if goes_beyond:
        room = micros(terms["cap"]) - overage_used(model, credit) if terms.get("cap") else FOREVER
        beyond = min(amount - paid, max(0, room))
    rest = amount - paid - beyond
    if rest and mode != "RECORD" and (mode == "ENFORCE" or rest == amount):
        why = "FLOOR_REACHED" if eligible > spendable else "INSUFFICIENT_CREDITS"
        return Answer(False, "OVERAGE_CAP_REACHED" if goes_beyond else why, shortfall=rest)
    answer = Answer(True, "IN_OVERAGE" if beyond else "COVERED", charged=paid + beyond, overage=beyond)
    if mode == "RECORD":
        answer.charged = cost
    elif answer.charged < cost:
        answer.reason, answer.shortfall = "PARTIALLY_COVERED", cost - answer.charged
    for grant in have:
        if (take := min(grant.remaining, paid)) > 0:
            answer.allocations.append((grant.id, take))
            paid -= take
    return answer


def _burn(model: Model, feature: str, credit: str, answer: Answer) -> None:
    taken = dict(answer.allocations)
    for grant in model.grants:
        grant.remaining -= taken.get(grant.id, 0)
    if credit:
        debt = answer.charged - answer.overage - sum(taken.values())
        model.debts[credit] = model.debts.get(credit, 0) + debt
    if answer.overage:
        start, end = overage_window(model, credit)
        model.counters[f"overage {credit}"] = (start, end, overage_used(model, credit) + answer.overage)


def available(model: Model, credit: str) -> int:
    """What is left of the active grants, less the debt."""
    return sum(grant.remaining for grant in model.active(credit)) - model.debts.get(credit, 0)


def burn_order(model: Model, credit: str) -> list[Grant]:
    """The active grants, those first that pay first."""
    order = model.item("credits", credit).get("burn_order", "soonest_expiry_first")

    def key(grant: Grant) -> tuple[Any, ...]:
        place: tuple[int, ...] = (model.ends(grant),)
        if order == "newest_first":
            place = (-grant.effective_at, -grant.created_at)
        elif grant.every and grant.rollover is None:
            place = (min(model.ends(grant), grant.next_filling),)
        return (
            grant.priority,
            place,
            grant.paid,
            not grant.features,
            grant.effective_at,
            grant.created_at,
            grant.id,
        )

    return sorted(model.active(credit), key=key)


def overage_used(model: Model, credit: str) -> int:
    """Overage of the present period."""
    start, _end, used = model.counters.get(f"overage {credit}", (-1, 0, 0))
    return used if start == overage_window(model, credit)[0] else 0


def overage_window(model: Model, credit: str) -> tuple[int, int]:
    terms = _with_overage(model, credit)
    return window(terms[0].anchor if terms else _anchor(model), "month", model.now)


def _with_overage(model: Model, credit: str) -> tuple[Subscription, dict[str, Any]] | None:
    for item in entitling(model):
        for terms in model.item("plans", item.plan).get("overages", ()):
            if terms["credit"] == credit:
                return item, terms
    return None


def overage_terms(model: Model, credit: str) -> dict[str, Any] | None:
    found = _with_overage(model, credit)
    return found[1] if found else None


def entitling(model: Model) -> list[Subscription]:
    """The subscriptions that count: the highest rank first, of equal ranks the older one."""
    counting = [item for item in model.subscriptions.values() if item.status in ENTITLING]
    return sorted(
        counting, key=lambda item: (-model.item("plans", item.plan).get("rank", 0), item.started_at, item.id)
    )


def _anchor(model: Model) -> int:
    first = entitling(model)
    return first[0].anchor if first else model.created_at


def _entitlements(model: Model, item: Subscription, feature: str) -> list[tuple[dict[str, Any], int]]:
    """What a subscription gives of a feature, and how many times: the plan's, then the add-ons'."""
    found = [(given, 0) for given in model.item("plans", item.plan).get("entitlements", ())]
    for key, quantity in item.add_ons.items():
        found += [(given, quantity) for given in model.item("add_ons", key).get("entitlements", ())]
    return [pair for pair in found if pair[0]["feature"] == feature]


def _not_entitled(model: Model, feature: str) -> str:
    if model.suspended:
        return "ACCOUNT_SUSPENDED"
    default = model.item("features", feature).get("default_value")
    counting = entitling(model)
    if feature in model.overrides or default is True:
        return ""
    if any(_entitlements(model, item, feature) for item in counting):
        return ""
    others = [item for item in model.subscriptions.values() if item not in counting]
    if any(_entitlements(model, item, feature) for item in others):
        return "SUBSCRIPTION_INACTIVE"
    return "NOT_ENTITLED"


def limits_of(model: Model, feature: str, quantity: int) -> list[Counter]:
    """For each window the largest limit among the plans, plus every add-on's."""
    found: dict[str, tuple[int, dict[str, Any], int]] = {}
    if feature in model.overrides:
        limit = model.overrides[feature]
        found[_window_key(limit)] = (limit["max"], limit, _anchor(model))
    else:
        given = [
            (entitlement["limit"], times, item)
            for item in entitling(model)
            for entitlement, times in _entitlements(model, item, feature)
            if "limit" in entitlement
        ]
        for limit, times, item in sorted(given, key=lambda one: one[1] > 0):
            key, most = _window_key(limit), limit["max"] * (item.seats if limit.get("per_seat") else 1)
            before = found.get(key)
            if before is None:
                found[key] = (most * (times or 1), limit, item.anchor)
            elif times:
                found[key] = (before[0] + most * times, before[1], before[2])
            elif most > before[0]:
                found[key] = (most, limit, item.anchor)
    return [
        Counter(f"limit {feature} {key}", _span(model, limit, anchor), most, quantity)
        for key, (most, limit, anchor) in found.items()
    ]


def _window_key(limit: dict[str, Any]) -> str:
    return f"{limit.get('per', 'gauge')} {limit.get('window', 'anchored')}"


def _span(model: Model, rule: dict[str, Any], anchor: int) -> tuple[int, int]:
    if "per" not in rule:
        return (0, 0)
    if rule.get("window") == "calendar":
        return calendar(rule["per"], model.now)
    return window(anchor, rule["per"], model.now)


def budgets_of(model: Model, feature: str, credit: str, subject: str, cost: int) -> list[Counter]:
    found = []
    for key, rule in model.budgets.items():
        value = subject if rule["scope"] == "subject" else ""
        matches = rule["credit"] == credit and feature in (rule.get("features") or [feature])
        if not matches or (rule["scope"] == "subject" and not value):
            continue
        if rule.get("scope_value") and rule["scope_value"] != value:
            continue
        counter = f"budget {key} {_window_key(rule)} {value}"
        found.append(Counter(counter, _span(model, rule, _anchor(model)), micros(rule["cap"]), cost))
    return found


def used(model: Model, counter: Counter) -> int:
    start, _end, used = model.counters.get(counter.key, (-1, 0, 0))
    return used if start == counter.span[0] else 0


def count(model: Model, counter: Counter, delta: int) -> None:
    model.counters[counter.key] = (*counter.span, max(0, used(model, counter) + delta))


def reset_usage(model: Model) -> None:
    """Limits of all features back to zero, recurring grants filled now."""
    for key in [key for key in model.counters if key.startswith("limit ")]:
        del model.counters[key]
    for grant in sorted(model.active(), key=lambda grant: grant.id):
        missing = grant.amount - grant.remaining - model.held_of(grant)
        if grant.every and missing > 0:
            grant.remaining += missing
            model.pay_debt(grant, missing)
