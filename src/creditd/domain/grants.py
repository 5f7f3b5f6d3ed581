"""Grants, and the order in which they pay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2s
from typing import Final

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import BurnOrder, Money, Period, Rollover, Unit
from creditd.domain.periods import MS_MAX, add_periods, periods_elapsed


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


ROLLOVER_UNITS: Final = frozenset({Unit.DAY, Unit.WEEK, Unit.MONTH, Unit.YEAR})
"""Units of periods that credits may be carried over from or outlast: each such period leaves grants behind."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Fills a grant up to its amount at each anchor-aligned instant.

    What is left then is lost but for what `rollover` carries over, into a grant of its own. With `lasts` it is not
    filled: each period brings a grant of its own, which expires after that time. Never both.
    """

    every: Period
    anchor: int
    rollover: Rollover | None = None
    lasts: Period | None = None

    def next_after(self, instant: int) -> int:
        """The first anchor-aligned instant after `instant`, in ms."""
        return add_periods(self.anchor, self.every, periods_elapsed(self.anchor, self.every, instant) + 1)

    def last_until(self, instant: int) -> int:
        """The last anchor-aligned instant up to and including `instant`, in ms."""
        return add_periods(self.anchor, self.every, periods_elapsed(self.anchor, self.every, instant))


@dataclass(frozen=True, slots=True)
class Grant:
    """Credits given to an account. Active from `effective_at` (inclusive) to `expires_at` (exclusive).

    `parent` is the id of the recurring grant that carried these credits over, or that this one is a period of.
    `ends_at` is when a grant with `recurrence.lasts` has its last successor, exclusive, and `until` when the
    subscription ends, which none outlasts. `subscription` and `slot` say which of a subscription's allowances it is.
    `shrinks_to` is what it is filled up to from its next filling on (0 = `amount`), and `prorated` how many micros of
    its first period were never given.
    """

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
    parent: str = ""
    ends_at: int | None = None
    subscription: str = ""
    slot: str = ""
    until: int | None = None
    shrinks_to: int = 0
    prorated: int = 0


def default_priority(category: Category) -> int:
    """The priority of a grant whose creator gave none."""
    return DEFAULT_PRIORITY.get(category, PRIORITY_REST)


def burn_key(grant: Grant, order: BurnOrder, filled_at: int = 0) -> tuple[object, ...]:
    """Sort key: grants with smaller keys pay first.

    Lower priority, then the credit's burn order, then unpaid before paid, then grants limited to some
    features before general ones, then earlier effective_at, created_at, id. `filled_at` is the instant of the
    grant's latest filling: what is lost at the next one burns as if it expired then.
    """
    paid = grant.price is not None and grant.price.nanos > 0
    ordered: tuple[int, ...]
    if order is BurnOrder.OLDEST_FIRST:
        ordered = (grant.effective_at, grant.created_at)
    elif order is BurnOrder.NEWEST_FIRST:
        ordered = (-grant.effective_at, -grant.created_at)
    elif order is BurnOrder.PLAN_FIRST:
        from_plan = grant.category in {Category.PLAN, Category.TRIAL, Category.ROLLOVER}
        ordered = (0 if from_plan else 1, grant.effective_at)
    else:
        ordered = (_lost_at(grant, filled_at),)
    return (grant.priority, ordered, paid, not grant.features, grant.effective_at, grant.created_at, grant.id)


def _lost_at(grant: Grant, filled_at: int) -> int:
    expiry = MS_MAX + 1 if grant.expires_at is None else grant.expires_at
    if (
        grant.recurrence is None
        or grant.recurrence.lasts is not None
        or grant.recurrence.rollover is not None
    ):
        return expiry
    return min(expiry, grant.recurrence.next_after(filled_at))


def next_filling(grant: Grant, filled_at: int) -> int | None:
    """The instant at which an active grant that was filled at `filled_at` is filled again; None if never."""
    recurrence = grant.recurrence
    if recurrence is None or recurrence.lasts is not None:
        return None
    instant = recurrence.next_after(filled_at)
    return None if instant >= MS_MAX or (grant.expires_at or MS_MAX) <= instant else instant


def carried_over(rollover: Rollover, rest: int, outstanding: int) -> int:
    """How much of `rest` micros is carried over when `outstanding` micros of earlier periods still are."""
    carried = rest
    if rollover.max_percent:
        carried = rest * rollover.max_percent // 100
    if rollover.max_micros:
        carried = min(carried, max(0, rollover.max_micros - outstanding))
    return min(carried, AMOUNT_MAX)


def carried_until(grant: Grant, at: int) -> int | None:
    """The instant until which what `grant` carries over at `at` lasts by its rollover; None = for ever."""
    recurrence = grant.recurrence
    if recurrence is None or recurrence.rollover is None:
        raise ValueError(f"grant {grant.id!r} carries nothing over")
    periods = recurrence.rollover.max_periods
    if not periods:
        return None
    passed = periods_elapsed(recurrence.anchor, recurrence.every, at)
    return add_periods(recurrence.anchor, recurrence.every, passed + periods)


def rolled_over(grant: Grant, at: int, amount: int) -> Grant:
    """The grant of what is carried over from `grant` at the filling at `at`."""
    expires, until = grant.expires_at, carried_until(grant, at)
    if until is not None:
        expires = min(expires or MS_MAX, until)
    return replace(
        grant,
        id=derived_id(grant.id, at),
        amount=amount,
        category=Category.ROLLOVER,
        effective_at=at,
        created_at=at,
        expires_at=expires,
        recurrence=None,
        parent=grant.id,
        shrinks_to=0,
        prorated=0,
        price=_share(grant.price, amount, grant.amount),
    )


def successor(grant: Grant) -> Grant | None:
    """The next period's grant after one with `recurrence.lasts`; None when there is none or none any more."""
    recurrence = grant.recurrence
    if recurrence is None or recurrence.lasts is None:
        return None
    at = recurrence.next_after(grant.effective_at)
    if at >= (grant.ends_at or MS_MAX):
        return None
    root = grant.parent or grant.id
    return replace(
        grant,
        id=derived_id(root, at),
        effective_at=at,
        expires_at=min(add_periods(at, recurrence.lasts, 1), grant.until or MS_MAX),
        parent=root,
        prorated=0,
    )


def derived_id(grant_id: str, at: int) -> str:
    """The id of the grant that `grant_id` brings forth at `at`: always the same, so that nobody need write it down."""
    return blake2s(f"{at}:{grant_id}".encode(), digest_size=16).hexdigest()


def _share(price: Money | None, amount: int, whole: int) -> Money | None:
    return None if price is None else replace(price, nanos=price.nanos * amount // whole)
