"""Accounts, their subscriptions and test clocks: what the control plane keeps beside the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class SubscriptionStatus(StrEnum):
    """Where a subscription stands; TRIALING, ACTIVE and PAST_DUE entitle, PAUSED and CANCELED don't."""

    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAST_DUE = "PAST_DUE"
    PAUSED = "PAUSED"
    CANCELED = "CANCELED"


ENTITLING = frozenset({SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE})


@dataclass(frozen=True, slots=True)
class Subscription:
    """An account's subscription to a version of a plan; instants in ms, `anchor` places its periods."""

    id: str
    plan: str
    plan_version: int
    status: SubscriptionStatus
    started_at: int
    anchor: int
    seats: int = 1
    external_id: str = ""
    cancel_at: int | None = None


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
