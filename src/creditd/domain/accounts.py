"""Accounts, their subscriptions and test clocks: what the control plane keeps beside the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from creditd.domain.catalog import BudgetRule, Entitlement, Overage, Rate


class SubscriptionStatus(StrEnum):
    """Where a subscription stands; TRIALING, ACTIVE and PAST_DUE entitle, PAUSED and CANCELED don't."""

    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAST_DUE = "PAST_DUE"
    PAUSED = "PAUSED"
    CANCELED = "CANCELED"


ENTITLING = frozenset({SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE})


@dataclass(frozen=True, slots=True)
class PendingPlan:
    """The plan version that a subscription changes to by itself at the instant `at`."""

    plan: str
    plan_version: int
    at: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """An account's subscription to a version of a plan; instants in ms, `anchor` places its periods.

    It entitles from `started_at` on. `add_ons` are keys and how many of each, by key. With `pauses_after_trial` it
    waits for activation when the trial ends, else it is active then; one that began paused waits as well.
    """

    id: str
    plan: str
    plan_version: int
    status: SubscriptionStatus
    started_at: int
    anchor: int
    seats: int = 1
    external_id: str = ""
    cancel_at: int | None = None
    add_ons: tuple[tuple[str, int], ...] = ()
    trial_ends_at: int | None = None
    pauses_after_trial: bool = False
    pending: PendingPlan | None = None


def subscription_at(subscription: Subscription, now: int) -> Subscription:
    """The subscription as it is at `now`: what happens by itself takes effect at its instant."""
    pending = subscription.pending
    if pending is not None and pending.at <= now:
        subscription = replace(
            subscription, plan=pending.plan, plan_version=pending.plan_version, pending=None
        )
    status = subscription.status
    if status is SubscriptionStatus.TRIALING and (subscription.trial_ends_at or 0) <= now:
        paused = subscription.pauses_after_trial
        status = SubscriptionStatus.PAUSED if paused else SubscriptionStatus.ACTIVE
    if subscription.cancel_at is not None and subscription.cancel_at <= now:
        status = SubscriptionStatus.CANCELED
    return subscription if status is subscription.status else replace(subscription, status=status)


def changes_by_itself(subscription: Subscription, now: int) -> tuple[int, ...]:
    """The instants after `now` at which `subscription_at` changes."""
    pending = subscription.pending
    instants = (
        subscription.started_at,
        subscription.cancel_at,
        subscription.trial_ends_at,
        None if pending is None else pending.at,
    )
    return tuple(instant for instant in instants if instant is not None and instant > now)


@dataclass(frozen=True, slots=True)
class Override:
    """What one account gets instead of its plans: of a feature (`entitlement`, `rates`), or of a credit (`overage`).

    `entitlement` names the feature; without any of its grants only `rates` count. Until `expires_at` (ms, exclusive).
    """

    entitlement: Entitlement | None = None
    rates: tuple[Rate, ...] = ()
    overage: Overage | None = None
    expires_at: int | None = None
    note: str = ""

    @property
    def feature(self) -> str:
        """The feature that it is for; "" when it is for a credit."""
        return "" if self.entitlement is None else self.entitlement.feature

    @property
    def credit(self) -> str:
        """The credit type that it is for; "" when it is for a feature."""
        return "" if self.overage is None else self.overage.credit


@dataclass(frozen=True, slots=True)
class Budget:
    """A cap on an account's burning. `scope_value` is the subject or metadata value it is for; "" = each one."""

    id: str
    rule: BudgetRule
    scope_value: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """A customer of the product. `policy_version` counts the changes of what decides for it; `revision` all changes."""

    id: str
    created_at: int
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    suspended: bool = False
    external_id: str = ""
    test_clock: str = ""
    archived: bool = False
    policy_version: int = 1
    revision: int = 1
    subscriptions: tuple[Subscription, ...] = ()
    overrides: tuple[Override, ...] = ()
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class TestClock:
    """A clock that callers move; the accounts on it live at `now` (ms)."""

    __test__ = False  # not a test class, whatever its name

    id: str
    now: int


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """The fence of an account's hot state: raised by every load.

    `nonce` is random, so that a database that forgot some epochs in a failover can't repeat one.
    """

    number: int
    nonce: int
