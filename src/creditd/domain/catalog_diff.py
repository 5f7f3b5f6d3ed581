"""What changes between two catalogs, in words, and the version that each plan gets by it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import combinations
from typing import Any

from creditd.domain.catalog import (
    Allowance,
    BudgetRule,
    Catalog,
    Entitlement,
    Feature,
    Limit,
    MeterPrice,
    Money,
    Overage,
    Period,
    Plan,
    Rate,
)
from creditd.domain.catalog_text import conditions_text, credits_text, limit_text, money_text, period_text

DETAILS_MAX = 5
"""How many differences of one item a summary spells out."""


class Action(StrEnum):
    """What happens to an item of the catalog."""

    ADDED = "ADDED"
    CHANGED = "CHANGED"
    REMOVED = "REMOVED"


@dataclass(frozen=True, slots=True)
class Change:
    """One item that differs. `kind` is credit, feature, plan, add_on, bundle, promotion or alert.

    `accounts` is how many accounts it touches, where somebody has counted them.
    """

    kind: str
    key: str
    action: Action
    summary: str
    accounts: int = 0


_KINDS = {
    "credits": "credit",
    "features": "feature",
    "plans": "plan",
    "add_ons": "add_on",
    "bundles": "bundle",
    "promotions": "promotion",
    "alerts": "alert",
}


def diff_catalogs(old: Catalog | None, new: Catalog) -> list[Change]:
    """The changes from `old` (None: nothing) to `new`: per kind in the order of `new`, removals last.

    Plan versions are not compared, nor is the order of items and of rates where it has no effect.
    """
    before = old or Catalog()
    changes: list[Change] = []
    for section, kind in _KINDS.items():
        olds = {item.key: item for item in getattr(before, section)}
        news = {item.key: item for item in getattr(new, section)}
        for key, item in news.items():
            if key not in olds:
                changes.append(Change(kind, key, Action.ADDED, _added(item)))
            elif item != olds[key]:
                details = list(_differences(olds[key], item))
                if details:
                    changes.append(Change(kind, key, Action.CHANGED, _shorten(details)))
        changes += [Change(kind, key, Action.REMOVED, "removed") for key in olds if key not in news]
    return changes


def next_plan_versions(old: Catalog | None, new: Catalog) -> Catalog:
    """`new` with the plans' versions set: 1 for a new plan, else the old one's, plus 1 if the plan changed.

    Versions that `new` came with are ignored: only the history counts them.
    """
    olds = {plan.key: plan for plan in (old.plans if old else ())}

    def version(plan: Plan) -> int:
        before = olds.get(plan.key)
        if before is None:
            return 1
        return before.version + (replace(plan, version=before.version) != before)

    return replace(new, plans=tuple(replace(plan, version=version(plan)) for plan in new.plans))


def _shorten(details: list[str]) -> str:
    shown = "; ".join(details[:DETAILS_MAX])
    more = len(details) - DETAILS_MAX
    return f"{shown}; and {more:,} more" if more > 0 else shown


def _added(item: Any) -> str:
    if isinstance(item, Feature):
        rates = f" with {_count(len(item.rates), 'rate')}" if item.rates else ""
        return f"new {item.type} feature{rates}"
    if isinstance(item, Plan):
        parts = [f"{credits_text(a.amount_micros)} {a.credit}" for a in item.allowances]
        parts.append(_count(len(item.entitlements), "entitlement"))
        return f"new plan: {', '.join(parts)}"
    return "new"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _differences(old: Any, new: Any) -> Iterator[str]:
    """The differences of two items of one kind, field by field."""
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after or (field.name == "version" and isinstance(new, Plan)):
            continue
        if field.name == "rates":
            yield from _rate_differences(before, after)
        elif field.name in _PARTS:
            yield from _part_differences(field.name, before, after)
        else:
            yield f"{_label(field.name)}: {_text(field.name, before)} → {_text(field.name, after)}"


def _label(name: str) -> str:
    return name.removesuffix("_micros").replace("_", " ")


# ---------------------------------------------------------------- parts of plans and add-ons

_PARTS = {"allowances": "credit", "entitlements": "feature", "overages": "credit", "budgets": "credit"}


def _part_differences(name: str, old: Iterable[Any], new: Iterable[Any]) -> Iterator[str]:
    """Compares lists by what each part is about, so that one change in the middle stays one line."""
    about = _PARTS[name]
    noun = name.removesuffix("s")
    olds, news = _grouped(old, about), _grouped(new, about)
    for key in dict.fromkeys([*news, *olds]):
        before, after = olds.get(key, []), news.get(key, [])
        if before != after:
            yield f"{noun} of {key}: {_all(before)} → {_all(after)}"
    if list(olds) != list(news) and set(olds) == set(news):
        yield f"order of {name}"


def _grouped(parts: Iterable[Any], about: str) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for part in parts:
        groups.setdefault(getattr(part, about), []).append(part)
    return groups


def _all(parts: list[Any]) -> str:
    return " and ".join(_part_text(part) for part in parts) or "none"


def _part_text(part: Any) -> str:
    if isinstance(part, Entitlement):
        if part.limit is not None:
            return limit_text(part.limit)
        return _text("", part.enabled if part.value is None else part.value)
    if isinstance(part, Allowance | Overage | BudgetRule):
        return _set_fields(part, leave_out=("credit",))
    return _text("", part)


def _set_fields(part: Any, leave_out: tuple[str, ...] = ()) -> str:
    """The fields that were given, as `amount 500, every month`."""
    texts = []
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name in leave_out or value in (None, 0, "", (), False):
            continue
        said = "" if value is True else f" {_text(field.name, value)}"
        texts.append(f"{_label(field.name)}{said}")
    return ", ".join(texts) or "nothing set"


def _text(name: str, value: Any) -> str:
    """A value for people; `name` tells amounts from other numbers."""
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, StrEnum):
        return value.lower()
    if isinstance(value, int):
        return credits_text(value) if name.endswith("_micros") else f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(_text("", item) for item in value)
    return _object_text(value)


def _object_text(value: Any) -> str:
    match value:
        case Money():
            return money_text(value)
        case Period():
            return period_text(value)
        case Limit():
            return limit_text(value)
        case _ if is_dataclass(value):
            return f"({_set_fields(value)})"
        case _:
            return repr(value)


# ---------------------------------------------------------------- rates

_Identity = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, int]]]


def _identity(rate: Rate) -> _Identity:
    return frozenset(rate.match.items()), frozenset(rate.above.items())


def _rate_differences(old: tuple[Rate, ...], new: tuple[Rate, ...]) -> Iterator[str]:
    olds = {_identity(rate): rate for rate in old}
    news = {_identity(rate): rate for rate in new}
    for identity, rate in news.items():
        before = olds.get(identity)
        if before is None:
            yield f"new rate{_for(rate)}: {', '.join(_price_text(price) for price in rate.prices)}"
        elif before != rate:
            yield from _price_differences(before, rate)
    for identity, rate in olds.items():
        if identity not in news:
            yield f"no more rate{_for(rate)}"
    if _precedence(old, news) != _precedence(new, olds):
        yield "order of rates that match the same requests"


def _for(rate: Rate) -> str:
    conditions = conditions_text(rate.match, rate.above)
    return f" for {conditions}" if conditions else ""


def _price_differences(old: Rate, new: Rate) -> Iterator[str]:
    olds = {price.meter: price for price in old.prices}
    news = {price.meter: price for price in new.prices}
    for meter, price in news.items():
        before = olds.get(meter)
        if before is None:
            yield f"new price of {_price_text(price)}{_for(new)}"
        elif before != price:
            what, how = _price_difference(before, price)
            yield f"{what} of {meter}{_for(new)}: {how}"
    for meter in olds:
        if meter not in news:
            yield f"no more price of {meter}{_for(new)}"
    if old.minimum_micros != new.minimum_micros:
        before_after = f"{credits_text(old.minimum_micros)} → {credits_text(new.minimum_micros)} credits"
        yield f"minimum{_for(new)}: {before_after}"


def _price_difference(old: MeterPrice, new: MeterPrice) -> tuple[str, str]:
    """What of a price differs, and how: the amount before all else."""
    if (old.credits_micros, old.per) != (new.credits_micros, new.per):
        before, after = credits_text(old.credits_micros), credits_text(new.credits_micros)
        if old.per == new.per:
            return "price", f"{before} → {after} credits{_per(new)}"
        return "price", f"{before} credits{_per(old) or ' per 1'} → {after} credits{_per(new) or ' per 1'}"
    if old.rounding != new.rounding:
        return "rounding", f"{_text('', old.rounding)} → {_text('', new.rounding)}"
    if old.tiers != new.tiers:
        return "tiers", f"{_text('', old.tiers)} → {_text('', new.tiers)}"
    return "unit cost", f"{_text('', old.unit_cost)} → {_text('', new.unit_cost)}{_per(new)}"


def _price_text(price: MeterPrice) -> str:
    return f"{price.meter} {credits_text(price.credits_micros)} credits{_per(price)}"


def _per(price: MeterPrice) -> str:
    return "" if price.per == 1 else f" per {price.per:,}"


def _precedence(rates: tuple[Rate, ...], common: Mapping[_Identity, Rate]) -> dict[object, list[_Identity]]:
    """The order of the rates between which only their place in the list decides, of those in `common`.

    Those are rates as specific as each other that some request matches both of: with other attribute names
    and no contradiction, or with one match and thresholds on other meters.
    """
    kept = [rate for rate in rates if _identity(rate) in common]
    orders: dict[object, list[_Identity]] = {}
    for one, other in combinations({frozenset(rate.match) for rate in kept}, 2):
        if len(one) == len(other):
            rivals = [rate for rate in kept if rate.match.keys() in (one, other)]
            groups = _grouped_by(rivals, partial(_values, sorted(one & other)))
            for values, group in groups.items():
                if len({frozenset(rate.match) for rate in group}) > 1:
                    orders[frozenset((one, other)), values] = [_identity(rate) for rate in group]
    with_threshold = [rate for rate in kept if rate.above]
    for match, group in _grouped_by(with_threshold, lambda rate: frozenset(rate.match.items())).items():
        if len({frozenset(rate.above) for rate in group}) > 1:
            orders[match] = [_identity(rate) for rate in group]
    return orders


def _values(names: list[str], rate: Rate) -> tuple[str, ...]:
    return tuple(rate.match[name] for name in names)


def _grouped_by(rates: Iterable[Rate], key: Callable[[Rate], Hashable]) -> dict[Hashable, list[Rate]]:
    groups: dict[Hashable, list[Rate]] = {}
    for rate in rates:
        groups.setdefault(key(rate), []).append(rate)
    return groups
