"""The allowances of a subscription, and the grants that they are laid down as: pure, as ledger entries.

A subscription's credits are grants of its own, one for each allowance: its **slot**. What happens later by itself
(the end of a trial, a change at the period's end, a cancellation) is laid down at once as expiries and future grants,
so that no job has to run at that instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from creditd.domain.accounts import Subscription
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import AddOn, Allowance, Plan
from creditd.domain.entries import Effects, Entry, GrantChange, Kind
from creditd.domain.fold import fold_all
from creditd.domain.grants import (
    Category,
    Grant,
    Recurrence,
    default_priority,
    derived_id,
)
from creditd.domain.periods import MS_MAX, add_periods
from creditd.domain.roll import NewId, give, pay_debt, void
from creditd.domain.state import AccountState, GrantState, balance

GRANT_ID_BYTES_MAX = 255
"""Longest id of a grant, in bytes of UTF-8."""


class ChangeMode(StrEnum):
    """What a change of plan does to plan credits; see the protos."""

    CARRY_USAGE = "CARRY_USAGE"
    FRESH = "FRESH"
    PRORATE = "PRORATE"
    AT_PERIOD_END = "AT_PERIOD_END"


@dataclass(frozen=True, slots=True)
class Terms:
    """A subscription with what it is to: its plan version, and its add-ons by key."""

    subscription: Subscription
    plan: Plan
    add_ons: Mapping[str, AddOn] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slot:
    """An allowance of a subscription: `units` times its amount."""

    key: str
    allowance: Allowance
    units: int
    category: Category
    source: str

    @property
    def amount(self) -> int:
        """Micros in all; at most AMOUNT_MAX."""
        return min(self.allowance.amount_micros * self.units, AMOUNT_MAX)


@dataclass(slots=True)
class Books:
    """The state while entries are added to it.

    `change` numbers the account's changes; `laid` has how many grants this one has laid down, by slot.
    """

    state: AccountState
    new_id: NewId
    now: int
    change: int
    entries: list[Entry] = field(default_factory=list)
    laid: dict[str, int] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take entries in, which must follow the state."""
        fresh = list(entries)
        self.state = fold_all(self.state, fresh)
        self.entries += fresh

    def held(self, subscription: str) -> list[GrantState]:
        """The subscription's grants, what they have carried over left out."""
        return [held for held in self.all(subscription) if held.grant.category is not Category.ROLLOVER]

    def all(self, subscription: str) -> list[GrantState]:
        """The subscription's grants and what they have carried over."""
        return [held for held in self.state.grants.values() if held.grant.subscription == subscription]

    def redefine(self, grant: Grant, change: int = 0, filled_at: int = 0) -> None:
        """Put another definition in a grant's place, and change what is left of it or when it was filled."""
        state = self.state
        self.add(
            [
                Entry(
                    id=self.new_id(),
                    account=state.account,
                    sequence=state.sequence + 1,
                    kind=Kind.ADJUST,
                    at=max(self.now, state.at),
                    credit=grant.credit,
                    amount=change,
                    balance_after=balance(state, grant.credit) + change,
                    grant_id=grant.id,
                    note="subscription changed",
                    effects=Effects(
                        put=grant,
                        grants=(GrantChange(grant.id, change),) if change else (),
                        filled_at=filled_at,
                    ),
                )
            ]
        )
        if change > 0:
            self.add(pay_debt(self.state, grant, change, self.entries[-1], self.new_id))

    def void(self, held: GrantState, note: str) -> None:
        """Take away what is left of a grant, now."""
        self.add([void(self.state, held, self.now, self.new_id(), note)])


def plan_slots(terms: Terms) -> list[Slot]:
    """The slots of the plan and the add-ons, as they are once a trial is over."""
    subscription, plan = terms.subscription, terms.plan
    slots = [
        _slot(f"plan/{index}", allowance, subscription.seats, 1, Category.PLAN, f"plan/{plan.key}")
        for index, allowance in enumerate(plan.allowances)
    ]
    for key, quantity in subscription.add_ons:
        add_on = terms.add_ons.get(key)
        slots += [
            _slot(
                f"add_on/{key}/{index}",
                allowance,
                subscription.seats,
                quantity,
                Category.PLAN,
                f"add_on/{key}",
            )
            for index, allowance in enumerate(add_on.allowances if add_on else ())
        ]
    return slots


def trial_slots(terms: Terms) -> list[Slot]:
    """The slots of the plan's trial."""
    plan = terms.plan
    allowances = plan.trial.allowances if plan.trial else ()
    return [
        _slot(f"trial/{index}", allowance, terms.subscription.seats, 1, Category.TRIAL, f"plan/{plan.key}")
        for index, allowance in enumerate(allowances)
    ]


def _slot(key: str, allowance: Allowance, seats: int, quantity: int, category: Category, source: str) -> Slot:
    return Slot(key, allowance, quantity * (seats if allowance.per_seat else 1), category, source)


def ends(subscription: Subscription, slot: str) -> int:
    """The instant at which the credits of a slot of the subscription end, MS_MAX when none is known."""
    instants = [subscription.cancel_at or MS_MAX]
    if slot.startswith("trial/"):
        instants.append(subscription.trial_ends_at or MS_MAX)
    elif slot.startswith("plan/") and subscription.pending is not None:
        instants.append(subscription.pending.at)
    return min(instants)


def lay(
    books: Books,
    subscription: Subscription,
    slot: Slot,
    at: int,
    *,
    amount: int | None = None,
    withheld: int = 0,
    prorated: int = 0,
) -> None:
    """Lay a slot's grant down for the instant `at`: its amount, or `amount`, less what is withheld or prorated.

    Nothing is laid down for an instant at which the slot has ended.
    """
    ends_at = _ends_of_new(subscription, slot, at)
    if ends_at <= at:
        return
    grant = replace(
        _grant(subscription, slot, at, books.now, None if ends_at == MS_MAX else ends_at),
        id=_grant_id(books, subscription, slot),
        amount=slot.amount if amount is None else amount,
        prorated=prorated,
    )
    books.add(give(books.state, grant, books.now, books.new_id, withheld=withheld + prorated))


def _ends_of_new(subscription: Subscription, slot: Slot, at: int) -> int:
    """When what a slot gives at `at` ends with the subscription; a plan that takes over then has no end of its own."""
    pending = subscription.pending
    if pending is not None and at >= pending.at:
        return subscription.cancel_at or MS_MAX
    return ends(subscription, slot.key)


def _grant_id(books: Books, subscription: Subscription, slot: Slot) -> str:
    """The id of a grant: unique, the same in a preview, and however often the account was looked at before."""
    earlier = books.laid.get(slot.key, 0)
    books.laid[slot.key] = earlier + 1
    readable = f"{subscription.id}/{slot.key}/{books.change}" + (f".{earlier}" if earlier else "")
    return readable if len(readable.encode()) <= GRANT_ID_BYTES_MAX else derived_id(readable, books.change)


def _grant(subscription: Subscription, slot: Slot, at: int, now: int, ends_at: int | None) -> Grant:
    allowance = slot.allowance
    lasts = allowance.expires_after
    expires_at = ends_at if slot.category is Category.TRIAL or allowance.every else None
    lasting = lasts is not None and allowance.every is not None
    if lasting:
        expires_at = subscription.cancel_at
    if lasts is not None:
        expires_at = min(expires_at or MS_MAX, add_periods(at, lasts, 1))
    recurrence = None
    if allowance.every is not None:
        recurrence = Recurrence(allowance.every, subscription.anchor, allowance.rollover, lasts)
    return Grant(
        id="",
        credit=allowance.credit,
        amount=slot.amount,
        category=slot.category,
        priority=allowance.priority or default_priority(slot.category),
        effective_at=at,
        created_at=now,
        expires_at=expires_at,
        recurrence=recurrence,
        source=slot.source,
        subscription=subscription.id,
        slot=slot.key,
        ends_at=ends_at if lasting else None,
        until=subscription.cancel_at if lasting else None,
    )
