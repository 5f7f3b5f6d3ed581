"""Resolution: what an account may do, from the catalog in force, its subscriptions, overrides and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from creditd.domain.accounts import (
    ENTITLING,
    Account,
    Budget,
    Override,
    Subscription,
    changes_by_itself,
    subscription_at,
)
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import (
    AddOn,
    BudgetRule,
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
from creditd.domain.windows import WindowRule

if TYPE_CHECKING:
    from creditd.domain.charging import ChargePlan

BILLING_PERIOD = Period(Unit.MONTH)
"""A subscription's period, by which overage is capped and reported, until plans carry one of their own."""

DEFAULT = "default"
OVERRIDE = "override"
"""Sources of what an account gets, beside plan/<key> and add_on/<key>."""


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A limit with its counter's key. The key does not depend on `max`: editing a limit keeps its counter.

    `limit` is as a caller would see it: `max` with seats and add-ons added up. `source` says what gave it.
    """

    key: str
    cap: int
    window: WindowRule
    limit: Limit
    source: str

    def charge(self, now: int) -> Charge:
        """The counter that a use at `now` touches."""
        return self.window.charge(self.key, now, self.cap, soft=self.limit.soft)

    @property
    def is_gauge(self) -> bool:
        """Whether it has no period, so that it can go down again."""
        return self.window.per is None


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """A budget that may cap a feature's burning. `scope_value` "" = each value has a counter of its own."""

    id: str
    rule: BudgetRule
    scope_value: str
    window: WindowRule

    def value_of(self, subject: str, metadata: Mapping[str, str]) -> str | None:
        """The value of its scope in a request; None when the budget does not match."""
        scope, _, name = self.rule.scope.partition(":")
        value = {"account": "", "subject": subject}.get(scope, metadata.get(name, ""))
        if scope != "account" and not value:
            return None
        return None if self.scope_value and value != self.scope_value else value

    def charge(self, value: str, now: int) -> Charge | None:
        """The counter of the budget for a value of its scope; None when it only caps single draws."""
        if not self.rule.cap_micros:
            return None
        return self.window.charge(
            self.counter(value), now, self.rule.cap_micros, soft=self.rule.soft, micros=True
        )

    def counter(self, value: str) -> str:
        """The key of the counter for a value of its scope."""
        return f"b:{self.id}:{self.window.key}:{value}"


@dataclass(frozen=True, slots=True)
class OverageRule:
    """Burning beyond the grants of one credit; `cap` in micros per window, -1 = uncapped."""

    credit: str
    allowed: bool
    cap: int
    floor: int
    anchor: int
    carry_debt: bool = False

    def window(self, now: int) -> Span:
        """The billing period that contains `now`."""
        return anchored_window(self.anchor, BILLING_PERIOD, now)

    def room(self, now: int) -> OverageRoom | None:
        """The overage counter at `now`, or None when overage is not allowed."""
        if not self.allowed:
            return None
        span = self.window(now)
        return OverageRoom(f"o:{self.credit}", span.start, span.end, self.cap, self.carry_debt)


@dataclass(frozen=True, slots=True)
class Granted:
    """One thing that gives an account a feature: the entitlement as it counts, and where from."""

    item: Entitlement
    source: str
    anchor: int


@dataclass(frozen=True, slots=True)
class FeaturePolicy:
    """What an account may do with one feature. `denied` is the reason's name when it is not entitled.

    `granted` is all that speaks for or against it, in the order in which it counts; `inactive` are subscriptions that
    would give it and don't entitle. Its budgets tell uses apart by the metadata in `names`, where None is
    the subject; `plans` has the counters of recent uses (see `charging`).
    """

    feature: Feature
    rates: RateTable
    denied: str
    source: str
    value: Json
    limits: tuple[LimitRule, ...]
    budgets: tuple[BudgetPolicy, ...]
    overage: OverageRule | None
    order: BurnOrder
    anchor: int
    granted: tuple[Granted, ...] = ()
    inactive: tuple[tuple[Subscription, Plan], ...] = ()
    names: tuple[str | None, ...] = field(init=False, compare=False)
    plans: dict[tuple[str, ...], ChargePlan] = field(
        init=False, compare=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        scopes = dict.fromkeys(budget.rule.scope for budget in self.budgets)
        names = [
            None if scope == "subject" else scope.removeprefix("metadata:")
            for scope in scopes
            if scope != "account"
        ]
        object.__setattr__(self, "names", tuple(names))

    def period(self, now: int) -> Span:
        """The account's period that contains `now`, in which graduated prices count."""
        return anchored_window(self.anchor, BILLING_PERIOD, now)


@dataclass(slots=True)
class CatalogIndex:
    """A catalog version, prepared for look-ups. Rate tables are built on first use."""

    catalog: Catalog
    version: int
    features: dict[str, Feature] = field(init=False)
    orders: dict[str, BurnOrder] = field(init=False)
    add_ons: dict[str, AddOn] = field(init=False)
    _tables: dict[str, RateTable] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.features = {feature.key: feature for feature in self.catalog.features}
        self.orders = {credit.key: credit.burn_order for credit in self.catalog.credits}
        self.add_ons = {add_on.key: add_on for add_on in self.catalog.add_ons}

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
    _subscribed: tuple[tuple[Subscription, Plan], ...] | None = None

    def feature(self, key: str) -> FeaturePolicy | None:
        """The policy of one feature, or None when the catalog has no such feature."""
        resolved = self._resolved.get(key)
        if resolved is None:
            feature = self.index.features.get(key)
            if feature is None:
                return None
            resolved = self._resolved[key] = self._resolve(feature)
        return resolved

    def subscribed(self) -> tuple[tuple[Subscription, Plan], ...]:
        """Every subscription as it stands, with its plan: the highest rank first; of equal ranks the older one."""
        if self._subscribed is None:
            pairs: list[tuple[Subscription, Plan]] = []
            for item in self.account.subscriptions:
                subscription = subscription_at(item, self.valid_from)
                plan = self.plans.get((subscription.plan, subscription.plan_version))
                if plan is not None:
                    pairs.append((subscription, plan))
            pairs.sort(key=lambda pair: (-pair[1].rank, pair[0].started_at, pair[0].id))
            self._subscribed = tuple(pairs)
        return self._subscribed

    def entitling(self) -> list[tuple[Subscription, Plan]]:
        """The subscriptions that entitle now."""
        return [pair for pair in self.subscribed() if self._entitles(pair[0])]

    def _entitles(self, subscription: Subscription) -> bool:
        return subscription.status in ENTITLING and subscription.started_at <= self.valid_from

    def overrides(self) -> list[Override]:
        """The overrides that count now."""
        return [
            item
            for item in self.account.overrides
            if item.expires_at is None or item.expires_at > self.valid_from
        ]

    def budgets(self) -> list[BudgetPolicy]:
        """Every budget that counts now: the plans', each plan's once, and the account's own."""
        found: dict[str, BudgetPolicy] = {}
        for subscription, plan in self.entitling():
            for index, rule in enumerate(plan.budgets):
                key = f"plan/{plan.key}/{index}"
                found.setdefault(key, _budget(key, rule, "", subscription.anchor))
        own = [self.own_budget(budget) for budget in self.account.budgets]
        return [*found.values(), *own]

    def own_budget(self, budget: Budget) -> BudgetPolicy:
        """One of the account's own budgets."""
        return _budget(budget.id, budget.rule, budget.scope_value, self.anchor())

    def anchor(self) -> int:
        """What places the anchored windows that no subscription does: the first subscription's, else the creation."""
        entitling = self.entitling()
        return entitling[0][0].anchor if entitling else self.account.created_at

    def overage(self, credit: str) -> OverageRule | None:
        """The overage and floor of a credit: the override's, else the highest plan's that has one."""
        for item in self.overrides():
            if item.overage is not None and item.credit == credit:
                return _overage_rule(item.overage, self.anchor())
        for subscription, plan in self.entitling():
            for overage in plan.overages:
                if overage.credit == credit:
                    return _overage_rule(overage, subscription.anchor)
        return None

    def _resolve(self, feature: Feature) -> FeaturePolicy:
        override = next((item for item in self.overrides() if item.feature == feature.key), None)
        own = None if override is None else override.entitlement
        if own is not None and (own.enabled, own.value, own.limit) != (None, None, None):
            items = [Granted(own, OVERRIDE, self.anchor())]
        else:
            items = list(self._granted(feature))
        denied, source, value = _entitled(feature, items)
        if self.account.suspended or self.account.archived:
            denied = "ACCOUNT_SUSPENDED"
        elif denied and self._inactive(feature):
            denied = "SUBSCRIPTION_INACTIVE"
        rates = self.index.rates(feature)
        if override is not None and override.rates:
            rates = RateTable(replace(feature, rates=override.rates))
        return FeaturePolicy(
            feature=feature,
            rates=rates,
            denied=denied,
            source=source,
            value=value,
            limits=_limits(feature, items, self.account.created_at),
            budgets=tuple(budget for budget in self.budgets() if _caps(budget.rule, feature)),
            overage=self.overage(feature.credit) if feature.credit else None,
            order=self.index.orders.get(feature.credit, BurnOrder.SOONEST_EXPIRY_FIRST),
            anchor=self.anchor(),
            granted=tuple(items),
            inactive=tuple(self._inactive(feature)),
        )

    def _granted(self, feature: Feature) -> Iterable[Granted]:
        """What the plans give of a feature, then what the add-ons do."""
        entitling = self.entitling()
        for subscription, plan in entitling:
            for item in plan.entitlements:
                if item.feature == feature.key:
                    yield Granted(_times(item, subscription, 1), f"plan/{plan.key}", subscription.anchor)
        for subscription, _plan in entitling:
            for key, quantity in subscription.add_ons:
                add_on = self.index.add_ons.get(key)
                for item in add_on.entitlements if add_on else ():
                    if item.feature == feature.key:
                        yield Granted(
                            _times(item, subscription, quantity), f"add_on/{key}", subscription.anchor
                        )

    def _inactive(self, feature: Feature) -> list[tuple[Subscription, Plan]]:
        """The subscriptions that would give the feature if they entitled."""
        return [
            (subscription, plan)
            for subscription, plan in self.subscribed()
            if not self._entitles(subscription)
            and any(
                item.feature == feature.key and _grants(item)
                for item in (*plan.entitlements, *self._added(subscription))
            )
        ]

    def _added(self, subscription: Subscription) -> Iterable[Entitlement]:
        for key, _quantity in subscription.add_ons:
            add_on = self.index.add_ons.get(key)
            yield from add_on.entitlements if add_on else ()


def policy_ends(account: Account, now: int) -> int:
    """The next instant after `now` at which a subscription or override changes by itself; MS_MAX if none."""
    instants = [instant for item in account.subscriptions for instant in changes_by_itself(item, now)]
    instants += [
        item.expires_at for item in account.overrides if (item.expires_at or 0) > now and item.expires_at
    ]
    return min(instants, default=MS_MAX)


def _times(item: Entitlement, subscription: Subscription, quantity: int) -> Entitlement:
    """The entitlement with its limit times seats and quantity."""
    limit = item.limit
    if limit is None:
        return item
    times = quantity * (subscription.seats if limit.per_seat else 1)
    return replace(item, limit=replace(limit, max=min(limit.max * times, AMOUNT_MAX), per_seat=False))


def _grants(item: Entitlement) -> bool:
    return item.enabled is not False


def _entitled(feature: Feature, items: list[Granted]) -> tuple[str, str, Json]:
    """The reason's name when denied (else ""), the source and, for CONFIG, the value."""
    for granted in items:
        if _grants(granted.item):
            return "", granted.source, granted.item.value
    if items and items[0].source == OVERRIDE:
        return "NOT_ENTITLED", OVERRIDE, None
    if feature.type is FeatureType.CONFIG or (feature.type is FeatureType.LIMIT and not items):
        denied = "NOT_ENTITLED" if feature.default_value is None else ""
    else:
        denied = "" if feature.default_value is True else "NOT_ENTITLED"
    return denied, DEFAULT, feature.default_value


def _limits(feature: Feature, items: list[Granted], created_at: int) -> tuple[LimitRule, ...]:
    """One rule per distinct window: the largest limit among the plans, plus every add-on's."""
    rules: dict[str, LimitRule] = {}
    for granted in items:
        if granted.item.limit is None:
            continue
        rule = _rule(feature, granted.item.limit, granted.anchor, granted.source)
        before = rules.get(rule.key)
        added = granted.source.startswith("add_on/")
        rules[rule.key] = rule if before is None else _sum(before, rule) if added else _larger(before, rule)
    if not items and feature.type is FeatureType.LIMIT and isinstance(feature.default_value, int | float):
        rule = _rule(feature, Limit(max=int(feature.default_value)), created_at, DEFAULT)
        rules[rule.key] = rule
    return tuple(rules.values())


def _rule(feature: Feature, limit: Limit, anchor: int, source: str) -> LimitRule:
    window = WindowRule(limit.per, limit.window, limit.time_zone, anchor)
    cap = -1 if limit.unlimited else min(limit.max, AMOUNT_MAX)
    return LimitRule(f"l:{feature.key}:{window.key}", cap, window, limit, source)


def _larger(one: LimitRule, other: LimitRule) -> LimitRule:
    return other if one.cap >= 0 and (other.cap < 0 or other.cap > one.cap) else one


def _sum(one: LimitRule, other: LimitRule) -> LimitRule:
    """A limit with an add-on's added: the window and everything else stay those of the plan's."""
    if one.cap < 0 or other.cap < 0:
        return replace(one, cap=-1, limit=replace(one.limit, max=0, unlimited=True))
    cap = min(one.cap + other.cap, AMOUNT_MAX)
    return replace(one, cap=cap, limit=replace(one.limit, max=cap), source=f"{one.source} + {other.source}")


def _caps(rule: BudgetRule, feature: Feature) -> bool:
    return (
        bool(feature.credit)
        and rule.credit == feature.credit
        and (not rule.features or feature.key in rule.features)
    )


def _budget(budget_id: str, rule: BudgetRule, scope_value: str, anchor: int) -> BudgetPolicy:
    return BudgetPolicy(
        budget_id, rule, scope_value, WindowRule(rule.per, rule.window, rule.time_zone, anchor)
    )


def _overage_rule(overage: Overage, anchor: int) -> OverageRule:
    cap = overage.cap_micros if overage.cap_micros > 0 else -1
    return OverageRule(overage.credit, overage.allowed, cap, overage.floor_micros, anchor, overage.carry_debt)
