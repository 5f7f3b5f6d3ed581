"""Grants, and the order in which they pay."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from creditd.domain.catalog import BurnOrder, Money, Period, Rollover
from creditd.domain.periods import MS_MAX


class Category(StrEnum):
    """Where the credits of a grant came from."""

    PLAN = "PLAN"
    TRIAL = "TRIAL"
    PROMOTION = "PROMOTION"
    PURCHASE = "PURCHASE"
    AUTO_TOP_UP = "AUTO_TOP_UP"
    ADJUSTMENT = "ADJUSTMENT"
    ROLLOVER = "ROLLOVER"
    REFUND = "REFUND"


DEFAULT_PRIORITY: Final = {
    Category.TRIAL: 10,
    Category.PROMOTION: 10,
    Category.PLAN: 20,
    Category.ROLLOVER: 20,
}
"""Use-it-or-lose-it credits burn before bought ones; categories not named here have 30."""

PRIORITY_REST: Final = 30


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Fills a grant up to its amount at each anchor-aligned instant."""

    every: Period
    anchor: int
    rollover: Rollover | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Credits given to an account. Active from `effective_at` (inclusive) to `expires_at` (exclusive)."""

    id: str
    credit: str
    amount: int
    category: Category
    priority: int
    effective_at: int
    created_at: int
    expires_at: int | None = None
    recurrence: Recurrence | None = None
    voided_at: int | None = None
    price: Money | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    source: str = ""
    features: tuple[str, ...] = ()


def default_priority(category: Category) -> int:
    """The priority of a grant whose creator gave none."""
    return DEFAULT_PRIORITY.get(category, PRIORITY_REST)


def burn_key(grant: Grant, order: BurnOrder) -> tuple[object, ...]:
    """Sort key: grants with smaller keys pay first.

    Lower priority, then the credit's burn order, then unpaid before paid, then grants limited to some
    features before general ones, then earlier effective_at, created_at, id.
    """
    paid = grant.price is not None and grant.price.nanos > 0
    expiry = MS_MAX + 1 if grant.expires_at is None else grant.expires_at
    ordered: tuple[int, ...]
    if order is BurnOrder.OLDEST_FIRST:
        ordered = (grant.effective_at, grant.created_at)
    elif order is BurnOrder.NEWEST_FIRST:
        ordered = (-grant.effective_at, -grant.created_at)
    elif order is BurnOrder.PLAN_FIRST:
        from_plan = grant.category in {Category.PLAN, Category.TRIAL, Category.ROLLOVER}
        ordered = (0 if from_plan else 1, grant.effective_at)
    else:
        ordered = (expiry,)
    return (grant.priority, ordered, paid, not grant.features, grant.effective_at, grant.created_at, grant.id)
