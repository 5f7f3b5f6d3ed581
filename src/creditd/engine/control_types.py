"""What callers ask and are told on the control plane, in the engine's own terms.

Amounts in micros, instants in ms. Optional texts use "" for "not given", optional instants None.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from creditd.domain.accounts import Budget, Subscription, SubscriptionStatus
from creditd.domain.catalog import Catalog, Entitlement, Feature, Money, Rate
from creditd.domain.catalog_diff import Change
from creditd.domain.entries import Kind
from creditd.domain.grants import Category, Grant, Recurrence
from creditd.domain.state import Balances
from creditd.engine.requests import LimitStatus


@dataclass(frozen=True, slots=True)
class CreditBalance:
    """What an account has of one credit type; `overage_used` is what its current period has counted."""

    credit: str
    balances: Balances
    overage_used: int = 0


@dataclass(frozen=True, slots=True)
class GrantBalance:
    """A grant and what can still be drawn from it."""

    grant: Grant
    remaining: int


@dataclass(frozen=True, slots=True)
class BalanceView:
    """An account's balances by credit key, its active grants in burn order, and the last entry in them."""

    balances: tuple[CreditBalance, ...]
    grants: tuple[GrantBalance, ...]
    sequence: int


@dataclass(frozen=True, slots=True)
class AppliedCatalog:
    """The version that a catalog was given (the present one when nothing changed), and what differs."""

    version: int
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """A version of the catalog; it decides from `effective_at` on."""

    catalog: Catalog
    version: int
    effective_at: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """A subscription to create or change.

    `id` "" makes a new one. `plan_version` 0 keeps the present one, or takes the newest of another plan; `seats` 0
    means 1. `status`, `started_at` and `anchor` None leave the choice to the engine: trialing when the plan has a trial
    and the account has not had it, else active; now; the end of the trial, else `started_at`.
    `mode` says what a change of plan does to credits: CARRY_USAGE (also ""), FRESH, PRORATE or
    AT_PERIOD_END. With `preview` nothing changes.
    """

    account: str
    id: str
    plan: str
    plan_version: int = 0
    seats: int = 0
    status: SubscriptionStatus | None = None
    started_at: int | None = None
    anchor: int | None = None
    cancel_at: int | None = None
    trial_ends_at: int | None = None
    add_ons: tuple[tuple[str, int], ...] = ()
    external_id: str = ""
    mode: str = ""
    preview: bool = False
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class SubscriptionResult:
    """A subscription after a change, its current period [start, end), and what the change did to credits."""

    subscription: Subscription
    period_start: int
    period_end: int
    granted: tuple[Grant, ...] = ()
    voided: tuple[Grant, ...] = ()
    balances: tuple[CreditBalance, ...] = ()


@dataclass(frozen=True, slots=True)
class GrantDraft:
    """A grant to create.

    `id` "" makes a new one. `priority` 0 takes the category's, `category` None is ADJUSTMENT, `effective_at` None
    is now and `expires_at` None is never. A recurrence with a negative anchor is anchored to `effective_at`.
    """

    account: str
    id: str
    credit: str
    amount: int
    priority: int = 0
    category: Category | None = None
    effective_at: int | None = None
    expires_at: int | None = None
    price: Money | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    source: str = ""
    features: tuple[str, ...] = ()
    recurrence: Recurrence | None = None


@dataclass(frozen=True, slots=True)
class EntryQuery:
    """Which entries of an account to list, newest first; every condition given must hold.

    `since` is inclusive, `until` exclusive. `before` is a sequence, exclusive: the last one of the page before.
    No `kinds` are all kinds.
    """

    account: str
    since: int | None = None
    until: int | None = None
    kinds: tuple[Kind, ...] = ()
    feature: str = ""
    subject: str = ""
    credit: str = ""
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Verification:
    """What a comparison of an account's hot state with its ledger found; sequences are 0 where there is nothing."""

    consistent: bool
    ledger_sequence: int
    hot_sequence: int
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget, what its present window has burned in micros, and when that ends (ms; 0 = never, or none is open).

    `used` is 0 when the budget has a counter for each value of its scope.
    """

    budget: Budget
    used: int = 0
    resets_at: int = 0


@dataclass(frozen=True, slots=True)
class Entitled:
    """What an account gets of a feature in one window, and where from; `limit` where there is one."""

    feature: Feature
    item: Entitlement
    source: str
    limit: LimitStatus | None = None
    rates: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class EntitlementsView:
    """Everything that an account gets, by feature key, under a version of the catalog."""

    entitlements: tuple[Entitled, ...]
    catalog_version: int


@dataclass(frozen=True, slots=True)
class UsageReset:
    """What to reset: the limits of a feature ("" = all), the recurring grants of a credit ("" = all).

    One of them alone resets that alone. With `move_anchor` periods are counted from now on.
    """

    account: str
    feature: str = ""
    credit: str = ""
    move_anchor: bool = False
    idempotency_key: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What is there after a reset."""

    balances: tuple[CreditBalance, ...]
    limits: tuple[LimitStatus, ...]
