"""What is wrong with a catalog: every fault with its path, and the parts that this release does not serve.

Paths are those of the wire (`features[2].rates[0].prices[1].per`), relative to the catalog.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from zoneinfo import available_timezones

from creditd.domain.accounts import Override
from creditd.domain.amounts import AMOUNT_MAX, INT64_MAX, Rounding
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
    Window,
)
from creditd.domain.errors import Violation
from creditd.domain.grants import ROLLOVER_UNITS
from creditd.domain.near import did_you_mean

KEY_BYTES_MAX = 255
PERIOD_COUNT_MAX = 1000
PRIORITY_MAX = 1_000_000
INT32_MAX = 2**31 - 1

NOT_SERVED = "is not served by this release"


def check_catalog(catalog: Catalog) -> list[Violation]:
    """Every fault of `catalog`, in document order; empty when it can be applied."""
    check = _of(catalog)
    sections: tuple[tuple[str, str, Iterable[_Keyed], Callable[..., None]], ...] = (
        ("credits", "credit", catalog.credits, check.credit_type),
        ("features", "feature", catalog.features, check.feature),
        ("plans", "plan", catalog.plans, check.plan),
        ("add_ons", "add-on", catalog.add_ons, check.add_on),
        ("bundles", "bundle", catalog.bundles, check.bundle),
        ("promotions", "promotion", catalog.promotions, check.promotion),
        ("alerts", "alert", catalog.alerts, check.alert),
    )
    for section, kind, items, check_item in sections:
        seen: dict[str, int] = {}
        for index, item in enumerate(items):
            path = f"{section}[{index}]"
            check.key(f"{path}.key", item.key)
            first = seen.setdefault(item.key, index)
            if item.key and first != index:
                problem = f"{kind} {item.key!r} is already defined by {section}[{first}]; keys must be unique"
                check.fault(f"{path}.key", problem)
            check_item(path, item)
    return check.faults


def check_rates(rates: Iterable[Rate], path: str = "rates") -> list[Violation]:
    """Every fault of a list of rates, such as an account's own prices."""
    check = _Check()
    check.rates(path, rates)
    return check.faults


def check_override(override: Override, catalog: Catalog, path: str = "override") -> list[Violation]:
    """Every fault of an override beside a catalog that has its feature or credit."""
    check = _of(catalog)
    entitlement = override.entitlement
    if bool(override.feature) == bool(override.credit):
        check.fault(path, "is for a feature or for a credit; set exactly one of `entitlement` and `overage`")
    if entitlement is not None and entitlement.feature in check.features:
        feature = check.features[entitlement.feature]
        given = [entitlement.enabled, entitlement.value, entitlement.limit]
        if any(item is not None for item in given):
            check.entitlements(path, (entitlement,))
        elif not override.rates:
            check.fault(f"{path}.entitlement", "changes nothing; set what it gives, or `rates`")
        if override.rates and (feature.type is not FeatureType.CREDIT or feature.external_rate):
            check.fault(f"{path}.rates", "belong to CREDIT features with rates of their own")
    elif override.rates:
        check.fault(f"{path}.rates", "need the feature that they are for in `entitlement.feature`")
    check.rates(f"{path}.rates", override.rates)
    if override.overage is not None:
        check.overages(path, (override.overage,))
    return [Violation(_singular(fault.field, path), fault.problem) for fault in check.faults]


def _singular(field: str, path: str) -> str:
    """The path of a part that stands alone in an override, and in a list in a plan."""
    for plural, singular in (("entitlements[0]", "entitlement"), ("overages[0]", "overage")):
        field = field.replace(f"{path}.{plural}", f"{path}.{singular}")
    return field


def check_budget(rule: BudgetRule, catalog: Catalog, path: str) -> list[Violation]:
    """Every fault of a budget beside a catalog that has its credit."""
    check = _of(catalog)
    check.budget(path, rule)
    return check.faults


def _of(catalog: Catalog) -> _Check:
    return _Check(
        credits={credit.key: credit for credit in catalog.credits},
        features={feature.key: feature for feature in catalog.features},
    )


def unsupported(catalog: Catalog) -> list[Violation]:
    """The parts of `catalog` that are well-formed but not served yet."""
    return [Violation(path, NOT_SERVED) for path in _unsupported_paths(catalog)]


def _unsupported_paths(catalog: Catalog) -> Iterator[str]:
    yield from (name for name in ("alerts",) if getattr(catalog, name))


_Keyed = CreditType | Feature | Plan | AddOn | Bundle | Promotion | AlertRule


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


@dataclass
class _Check:
    """Walks the parts of a catalog and notes what is wrong with each."""

    credits: Mapping[str, CreditType] = field(default_factory=dict)
    features: Mapping[str, Feature] = field(default_factory=dict)
    faults: list[Violation] = field(default_factory=list)

    # ------------------------------------------------------------ single values

    def fault(self, path: str, problem: str) -> None:
        self.faults.append(Violation(path, problem))

    def key(self, path: str, key: str) -> None:
        if not key:
            self.fault(path, "is empty; expected a key of 1 to 255 bytes")
        elif len(key.encode("utf-8", "surrogatepass")) > KEY_BYTES_MAX:
            self.fault(path, f"is longer than {KEY_BYTES_MAX} bytes")
        elif not key.isprintable():
            self.fault(path, f"{key!r} has characters that cannot be printed; expected printable text")

    def between(self, path: str, number: int, low: int, high: int) -> None:
        if not low <= number <= high:
            self.fault(path, f"is {number}; expected {low} to {high}")

    def amount(self, path: str, micros: int, *, low: int = 0) -> None:
        self.between(path, micros, low, AMOUNT_MAX)

    def reference(self, path: str, kind: str, key: str, known: Collection[str]) -> bool:
        if not key:
            self.fault(path, f"is empty; expected the key of a {kind}")
        elif key not in known:
            self.fault(path, f"{kind} {key!r} is not in this catalog{did_you_mean(key, known)}")
        return key in known

    def money(self, path: str, money: Money | None) -> None:
        if money is None:
            return
        if not (len(money.currency) == 3 and money.currency.isascii() and money.currency.isupper()):
            problem = f"{money.currency!r} is no currency; expected three capital letters (ISO 4217), as USD"
            self.fault(f"{path}.currency_code", problem)
        if money.nanos < 0:
            self.fault(path, "is negative; expected an amount of 0 or more")

    def period(self, path: str, period: Period | None) -> None:
        if period is not None:
            self.between(f"{path}.count", period.count, 1, PERIOD_COUNT_MAX)

    def window(self, path: str, part: Limit | BudgetRule) -> None:
        self.period(f"{path}.per", part.per)
        if part.per is None and part.window is not Window.ANCHORED:
            self.fault(f"{path}.window", "needs a period: set `per`, or leave `window` out")
        if not part.time_zone:
            return
        if part.window is not Window.CALENDAR:
            self.fault(f"{path}.time_zone", "matters only to CALENDAR windows; leave it out")
        elif part.time_zone not in _time_zones():
            near = did_you_mean(part.time_zone, _time_zones())
            problem = f"{part.time_zone!r} is no IANA time zone; expected a name such as Europe/Berlin{near}"
            self.fault(f"{path}.time_zone", problem)

    # ------------------------------------------------------------ credits, features, rates

    def credit_type(self, path: str, credit: CreditType) -> None:
        self.money(f"{path}.value", credit.value)

    def feature(self, path: str, feature: Feature) -> None:
        if feature.type is FeatureType.CREDIT:
            self.reference(f"{path}.credit", "credit", feature.credit, self.credits)
            self._has_price(path, feature)
        else:
            for name in ("credit", "rates", "external_rate"):
                if getattr(feature, name):
                    problem = f"belongs to CREDIT features only; this one is {feature.type}"
                    self.fault(f"{path}.{name}", problem)
        if feature.default_meter:
            self._default_meter(path, feature)
        self.rates(f"{path}.rates", feature.rates)
        self._default_value(f"{path}.default_value", feature)

    def _has_price(self, path: str, feature: Feature) -> None:
        if not feature.rates and not feature.external_rate:
            self.fault(f"{path}.rates", "is empty; a CREDIT feature needs rates, or external_rate")
        elif feature.rates and feature.external_rate:
            problem = "excludes rates: with it the caller brings the cost of each request"
            self.fault(f"{path}.external_rate", problem)

    def _default_meter(self, path: str, feature: Feature) -> None:
        self.key(f"{path}.default_meter", feature.default_meter)
        if feature.type not in {FeatureType.CREDIT, FeatureType.LIMIT}:
            problem = f"belongs to CREDIT and LIMIT features; this one is {feature.type}"
            self.fault(f"{path}.default_meter", problem)
        meters = {price.meter for rate in feature.rates for price in rate.prices}
        if meters and feature.default_meter not in meters:
            near = did_you_mean(feature.default_meter, meters)
            problem = f"no rate prices meter {feature.default_meter!r}{near}"
            self.fault(f"{path}.default_meter", problem)

    def _default_value(self, path: str, feature: Feature) -> None:
        default = feature.default_value
        if default is None or feature.type is FeatureType.CONFIG:
            return
        if feature.type is FeatureType.LIMIT:
            if isinstance(default, bool) or not isinstance(default, int) or not 0 <= default <= AMOUNT_MAX:
                problem = f"is {default!r}; a LIMIT feature's default is a whole number of 0 to {AMOUNT_MAX}"
                self.fault(path, problem)
        elif not isinstance(default, bool):
            self.fault(path, f"is {default!r}; a {feature.type} feature's default is true or false")

    def rates(self, path: str, rates: Iterable[Rate]) -> None:
        seen: dict[object, int] = {}
        for index, rate in enumerate(rates):
            at = f"{path}[{index}]"
            identity = (frozenset(rate.match.items()), frozenset(rate.above.items()))
            first = seen.setdefault(identity, index)
            if first != index:
                self.fault(
                    at, f"has the same match and above as {path}[{first}]; only the first would ever apply"
                )
            self._rate(at, rate)

    def _rate(self, path: str, rate: Rate) -> None:
        for name, text in rate.match.items():
            if not name or not text:
                problem = f"has {name!r}: {text!r}; expected a name and a value, neither empty"
                self.fault(f"{path}.match", problem)
            elif not (name.isprintable() and text.isprintable()):
                self.fault(f"{path}.match", f"has {name!r}: {text!r}; expected printable text")
        for meter, number in rate.above.items():
            self.key(f"{path}.above", meter)
            if not 0 <= number <= AMOUNT_MAX:
                self.fault(f"{path}.above", f"has {meter!r}: {number}; expected 0 to {AMOUNT_MAX}")
        self.amount(f"{path}.minimum_micros", rate.minimum_micros)
        if not rate.prices:
            self.fault(f"{path}.prices", "is empty; a rate prices at least one meter")
        meters: dict[str, int] = {}
        for index, price in enumerate(rate.prices):
            first = meters.setdefault(price.meter, index)
            if first != index:
                problem = f"{price.meter!r} is already priced by {path}.prices[{first}]; once per rate"
                self.fault(f"{path}.prices[{index}].meter", problem)
            self._price(f"{path}.prices[{index}]", price)

    def _price(self, path: str, price: MeterPrice) -> None:
        self.key(f"{path}.meter", price.meter)
        self.amount(f"{path}.credits_micros", price.credits_micros)
        self.between(f"{path}.per", price.per, 1, INT64_MAX)
        self.money(f"{path}.unit_cost", price.unit_cost)
        self._tiers(f"{path}.tiers", price.tiers)
        if price.tiers and price.rounding is Rounding.UNIT_UP:
            self.fault(
                f"{path}.rounding",
                "is UNIT_UP, which graduated prices can't have; a unit may lie in two tiers",
            )

    def _tiers(self, path: str, tiers: tuple[Tier, ...]) -> None:
        reached = 0
        for index, tier in enumerate(tiers):
            at = f"{path}[{index}]"
            self.amount(f"{at}.credits_micros", tier.credits_micros)
            if index == len(tiers) - 1:
                if tier.up_to != 0:
                    self.fault(f"{at}.up_to", f"is {tier.up_to}; the last tier has 0, for all the rest")
            elif tier.up_to <= reached:
                self.fault(f"{at}.up_to", f"is {tier.up_to}; expected more than {reached}, tiers ascend")
            else:
                reached = tier.up_to

    # ------------------------------------------------------------ plans and add-ons

    def plan(self, path: str, plan: Plan) -> None:
        self.allowances(path, plan.allowances)
        self.entitlements(path, plan.entitlements)
        self.overages(path, plan.overages)
        for index, budget in enumerate(plan.budgets):
            self.budget(f"{path}.budgets[{index}]", budget)
        if plan.trial is not None:
            self.period(f"{path}.trial.length", plan.trial.length)
            self.allowances(f"{path}.trial", plan.trial.allowances)
        self.between(f"{path}.rank", plan.rank, -INT32_MAX, INT32_MAX)
        self.between(f"{path}.version", plan.version, 0, INT64_MAX)

    def add_on(self, path: str, add_on: AddOn) -> None:
        self.allowances(path, add_on.allowances)
        self.entitlements(path, add_on.entitlements)

    def allowances(self, path: str, allowances: tuple[Allowance, ...]) -> None:
        for index, allowance in enumerate(allowances):
            at = f"{path}.allowances[{index}]"
            self.reference(f"{at}.credit", "credit", allowance.credit, self.credits)
            self.amount(f"{at}.amount_micros", allowance.amount_micros, low=1)
            self.period(f"{at}.every", allowance.every)
            self.period(f"{at}.expires_after", allowance.expires_after)
            self.between(f"{at}.priority", allowance.priority, 0, PRIORITY_MAX)
            if allowance.rollover is not None:
                if allowance.every is None:
                    self.fault(f"{at}.rollover", "needs a period to roll over from: set `every`")
                self.rollover(f"{at}.rollover", allowance.rollover)
                if allowance.expires_after is not None:
                    problem = "excludes expires_after: what is left is carried over, or it lasts as it is"
                    self.fault(f"{at}.rollover", problem)
            leaves = allowance.rollover or allowance.expires_after
            if allowance.every is not None and leaves and allowance.every.unit not in ROLLOVER_UNITS:
                problem = "is shorter than a day, with credits that outlast it; expected days or more"
                self.fault(f"{at}.every", problem)

    def rollover(self, path: str, rollover: Rollover) -> None:
        self.amount(f"{path}.max_micros", rollover.max_micros)
        self.between(f"{path}.max_percent", rollover.max_percent, 0, 100)
        self.between(f"{path}.max_periods", rollover.max_periods, 0, PERIOD_COUNT_MAX)

    def entitlements(self, path: str, entitlements: tuple[Entitlement, ...]) -> None:
        seen: dict[str, list[Limit | None]] = {}
        for index, entitlement in enumerate(entitlements):
            at = f"{path}.entitlements[{index}]"
            if self.reference(f"{at}.feature", "feature", entitlement.feature, self.features):
                self._fits(at, entitlement, self.features[entitlement.feature].type)
            if entitlement.limit is not None:
                self.limit(f"{at}.limit", entitlement.limit)
            earlier = seen.setdefault(entitlement.feature, [])
            if entitlement.feature and not all(_differ(entitlement.limit, other) for other in earlier):
                problem = "is granted already; only different windows of a limit add up"
                self.fault(f"{at}.feature", f"{entitlement.feature!r} {problem}")
            earlier.append(entitlement.limit)

    def _fits(self, path: str, entitlement: Entitlement, kind: FeatureType) -> None:
        wanted = {
            FeatureType.BOOLEAN: ("enabled",),
            FeatureType.CONFIG: ("value",),
            FeatureType.LIMIT: ("limit",),
            FeatureType.CREDIT: ("enabled", "limit"),
        }[kind]
        given = [name for name in ("enabled", "value", "limit") if getattr(entitlement, name) is not None]
        if len(given) != 1:
            had = " and ".join(given) or "none of enabled, value, limit"
            self.fault(path, f"has {had}; a {kind} feature is granted with one {' or '.join(wanted)}")
        elif given[0] not in wanted:
            self.fault(f"{path}.{given[0]}", f"does not fit a {kind} feature; expected {' or '.join(wanted)}")

    def limit(self, path: str, limit: Limit) -> None:
        self.between(f"{path}.max", limit.max, 0, AMOUNT_MAX)
        if limit.unlimited and limit.max > 0:
            self.fault(f"{path}.unlimited", f"excludes max ({limit.max}); set one of them")
        self.window(path, limit)

    def overages(self, path: str, overages: tuple[Overage, ...]) -> None:
        seen: set[str] = set()
        for index, overage in enumerate(overages):
            at = f"{path}.overages[{index}]"
            self.reference(f"{at}.credit", "credit", overage.credit, self.credits)
            if overage.credit in seen:
                self.fault(f"{at}.credit", f"{overage.credit!r} has an overage already; one per credit")
            seen.add(overage.credit)
            self.amount(f"{at}.cap_micros", overage.cap_micros)
            self.amount(f"{at}.floor_micros", overage.floor_micros)
            self.money(f"{at}.price_per_credit", overage.price_per_credit)

    def budget(self, path: str, budget: BudgetRule) -> None:
        self.reference(f"{path}.credit", "credit", budget.credit, self.credits)
        self.amount(f"{path}.cap_micros", budget.cap_micros)
        self.amount(f"{path}.max_per_draw_micros", budget.max_per_draw_micros)
        if not budget.cap_micros and not budget.max_per_draw_micros:
            self.fault(path, "caps nothing; expected cap_micros or max_per_draw_micros")
        if budget.scope not in {"account", "subject"} and not budget.scope.partition("metadata:")[2]:
            problem = f"is {budget.scope!r}; expected account, subject or metadata:<key>"
            self.fault(f"{path}.scope", problem)
        self.window(path, budget)
        for index, feature in enumerate(budget.features):
            at = f"{path}.features[{index}]"
            if self.reference(at, "feature", feature, self.features):
                self._burns(at, feature, budget.credit)

    def _burns(self, path: str, feature: str, credit: str) -> None:
        burned = self.features[feature].credit
        if burned != credit:
            self.fault(path, f"feature {feature!r} burns {burned or 'no credit'}, not {credit}")

    # ------------------------------------------------------------ bundles, promotions, alerts

    def bundle(self, path: str, bundle: Bundle) -> None:
        self.reference(f"{path}.credit", "credit", bundle.credit, self.credits)
        self.amount(f"{path}.amount_micros", bundle.amount_micros, low=1)
        self.money(f"{path}.price", bundle.price)
        self.period(f"{path}.expires_after", bundle.expires_after)

    def promotion(self, path: str, promotion: Promotion) -> None:
        self.reference(f"{path}.credit", "credit", promotion.credit, self.credits)
        self.amount(f"{path}.amount_micros", promotion.amount_micros, low=1)
        self.period(f"{path}.expires_after", promotion.expires_after)
        self.between(f"{path}.max_redemptions", promotion.max_redemptions, 0, AMOUNT_MAX)
        self.between(f"{path}.priority", promotion.priority, 0, PRIORITY_MAX)
        starts, ends = promotion.starts_at, promotion.ends_at
        if starts is not None and ends is not None and ends <= starts:
            self.fault(f"{path}.ends_at", "is not after starts_at")

    def alert(self, path: str, alert: AlertRule) -> None:
        self.between(f"{path}.below_percent", alert.below_percent, 0, 100)
        self.amount(f"{path}.below_micros", alert.below_micros)
        self.between(f"{path}.above_percent_of_limit", alert.above_percent_of_limit, 0, PERIOD_COUNT_MAX)
        if bool(alert.credit) == bool(alert.feature):
            self.fault(path, "watches a credit or a feature; set exactly one of `credit` and `feature`")
        if alert.credit:
            self.reference(f"{path}.credit", "credit", alert.credit, self.credits)
            if not alert.below_percent and not alert.below_micros:
                self.fault(path, "never fires; set below_percent or below_micros")
        if alert.feature:
            self.reference(f"{path}.feature", "feature", alert.feature, self.features)
            if not alert.above_percent_of_limit:
                self.fault(path, "never fires; set above_percent_of_limit")


def _differ(one: Limit | None, other: Limit | None) -> bool:
    """Whether both are limits, with different windows."""
    if one is None or other is None:
        return False
    return (one.per, one.window, one.time_zone) != (other.per, other.window, other.time_zone)
