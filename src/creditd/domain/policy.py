"""Resolution: what an account may do, from the catalog in force and its subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from creditd.domain.accounts import ENTITLING, Account, Subscription, SubscriptionStatus
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import (
    BurnOrder,
    Catalog,
    Entitlement,
    Feature,
    FeatureType,
    Json,
    Limit,
    Overage,
    Period,
    Plan,
    Unit,
)
from creditd.domain.decide import Charge, OverageRoom
from creditd.domain.periods import MS_MAX, Span, anchored_window
from creditd.domain.rates import RateTable

BILLING_PERIOD = Period(Unit.MONTH)
"""A subscription's period, by which overage is capped and reported, until plans carry one of their own."""


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A limit with its counter's key. The key does not depend on `max`: editing a limit keeps its counter."""

    key: str
    cap: int
    soft: bool
    per: Period | None
    anchor: int

    def charge(self, now: int, delta: int) -> Charge:
        """The counter that `delta` units at `now` touch."""
        span = self.window(now)
        return Charge(self.key, span.start, span.end, self.cap, delta, self.soft)

    def window(self, now: int) -> Span:
        """The window that contains `now`; (0, 0) for a gauge."""
        return Span(0, 0) if self.per is None else anchored_window(self.anchor, self.per, now)


@dataclass(frozen=True, slots=True)
class OverageRule:
    """Burning beyond the grants of one credit; `cap` in micros per window, -1 = uncapped."""

    credit: str
    allowed: bool
    cap: int
    floor: int
    anchor: int

    def room(self, now: int) -> OverageRoom | None:
        """The overage counter at `now`, or None when overage is not allowed."""
        if not self.allowed:
            return None
        span = anchored_window(self.anchor, BILLING_PERIOD, now)
        return OverageRoom(f"o:{self.credit}", span.start, span.end, self.cap)


@dataclass(frozen=True, slots=True)
class FeaturePolicy:
    """What an account may do with one feature. `denied` is the reason's name when it is not entitled."""

    feature: Feature
    rates: RateTable
    denied: str
    source: str
    value: Json
    limits: tuple[LimitRule, ...]
    overage: OverageRule | None
    order: BurnOrder


@dataclass(slots=True)
class CatalogIndex:
    """A catalog version, prepared for look-ups. Rate tables are built on first use."""

    catalog: Catalog
    version: int
    features: dict[str, Feature] = field(init=False)
    orders: dict[str, BurnOrder] = field(init=False)
    _tables: dict[str, RateTable] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.features = {feature.key: feature for feature in self.catalog.features}
        self.orders = {credit.key: credit.burn_order for credit in self.catalog.credits}

    def rates(self, feature: Feature) -> RateTable:
        """The feature's rate table."""
        table = self._tables.get(feature.key)
        if table is None:
            table = self._tables[feature.key] = RateTable(feature)
        return table


@dataclass(slots=True)
class Policy:
    """An account's resolved policy, valid from `valid_from` until `valid_until` (ms). Features resolve on first use.

    `plans` has the plan versions of the account's subscriptions, by (key, version).
    """

    account: Account
    index: CatalogIndex
    plans: Mapping[tuple[str, int], Plan]
    valid_from: int
    valid_until: int
    _resolved: dict[str, FeaturePolicy] = field(default_factory=dict)

    def feature(self, key: str) -> FeaturePolicy | None:
        """The policy of one feature, or None when the catalog has no such feature."""
        resolved = self._resolved.get(key)
        if resolved is None:
            feature = self.index.features.get(key)
            if feature is None:
                return None
            resolved = self._resolved[key] = self._resolve(feature)
        return resolved

    def _resolve(self, feature: Feature) -> FeaturePolicy:
        entitling: list[tuple[Subscription, Plan]] = []
        inactive = False
        for subscription in self.account.subscriptions:
            plan = self.plans.get((subscription.plan, subscription.plan_version))
            if plan is None:
                continue
            if status_at(subscription, self.valid_from) in ENTITLING:
                entitling.append((subscription, plan))
            elif any(_grants(item) for item in plan.entitlements if item.feature == feature.key):
                inactive = True
        # The highest rank first; of equal ranks the older subscription.
        entitling.sort(key=lambda pair: (-pair[1].rank, pair[0].started_at, pair[0].id))
        items = [
            (subscription, plan, item)
            for subscription, plan in entitling
            for item in plan.entitlements
            if item.feature == feature.key
        ]
        denied, source, value = _entitled(feature, items)
        if self.account.suspended:
            denied = "ACCOUNT_SUSPENDED"
        elif denied and inactive:
            denied = "SUBSCRIPTION_INACTIVE"
        return FeaturePolicy(
            feature=feature,
            rates=self.index.rates(feature),
            denied=denied,
            source=source,
            value=value,
            limits=_limits(feature, items, self.account.created_at),
            overage=_overage(feature.credit, entitling),
            order=self.index.orders.get(feature.credit, BurnOrder.SOONEST_EXPIRY_FIRST),
        )


def status_at(subscription: Subscription, now: int) -> SubscriptionStatus:
    """The subscription's status at `now`: a cancellation takes effect at its instant."""
    if subscription.cancel_at is not None and subscription.cancel_at <= now:
        return SubscriptionStatus.CANCELED
    return subscription.status


def policy_ends(account: Account, now: int) -> int:
    """The next instant after `now` at which a subscription changes by itself; MS_MAX if none."""
    ends = [
        item.cancel_at
        for item in account.subscriptions
        if item.cancel_at is not None and item.cancel_at > now
    ]
    return min(ends, default=MS_MAX)


def _grants(item: Entitlement) -> bool:
    return item.enabled is not False


def _entitled(feature: Feature, items: list[tuple[Subscription, Plan, Entitlement]]) -> tuple[str, str, Json]:
    """The reason's name when denied (else ""), the source and, for CONFIG, the value."""
    for _subscription, plan, item in items:
        if _grants(item):
            return "", f"plan/{plan.key}", item.value
    if feature.type is FeatureType.CONFIG or (feature.type is FeatureType.LIMIT and not items):
        denied = "NOT_ENTITLED" if feature.default_value is None else ""
    else:
        denied = "" if feature.default_value is True else "NOT_ENTITLED"
    return denied, "default", feature.default_value


def _limits(
    feature: Feature, items: list[tuple[Subscription, Plan, Entitlement]], created_at: int
) -> tuple[LimitRule, ...]:
    """One rule per distinct window: the largest limit among the plans."""
    rules: dict[str, LimitRule] = {}
    for subscription, _plan, item in items:
        if item.limit is None:
            continue
        rule = _rule(feature, item.limit, subscription.anchor)
        rules[rule.key] = _larger(rules.get(rule.key), rule)
    if not items and feature.type is FeatureType.LIMIT and isinstance(feature.default_value, int | float):
        rule = _rule(feature, Limit(max=int(feature.default_value)), created_at)
        rules[rule.key] = rule
    return tuple(rules.values())


def _rule(feature: Feature, limit: Limit, anchor: int) -> LimitRule:
    window = "gauge" if limit.per is None else f"{limit.per.count}{limit.per.unit.value.lower()}"
    cap = -1 if limit.unlimited else min(limit.max, AMOUNT_MAX)
    return LimitRule(f"l:{feature.key}:{window}", cap, limit.soft, limit.per, anchor)


def _larger(one: LimitRule | None, other: LimitRule) -> LimitRule:
    if one is None or (one.cap >= 0 and (other.cap < 0 or other.cap > one.cap)):
        return other
    return one


def _overage(credit: str, entitling: list[tuple[Subscription, Plan]]) -> OverageRule | None:
    for subscription, plan in entitling:
        for overage in plan.overages:
            if overage.credit == credit:
                return _overage_rule(overage, subscription.anchor)
    return None


def _overage_rule(overage: Overage, anchor: int) -> OverageRule:
    cap = overage.cap_micros if overage.cap_micros > 0 else -1
    return OverageRule(overage.credit, overage.allowed, cap, overage.floor_micros, anchor)
