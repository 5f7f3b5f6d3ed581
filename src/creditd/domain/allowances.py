"""What subscribing, and every change of a subscription, does to grants: pure, as ledger entries.

A subscription's credits are grants of its own, one for each allowance: its **slot**. What happens later by itself
(the end of a trial, a change at the period's end, a cancellation) is laid down at once as expiries and future grants,
so that no job has to run at that instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from creditd.domain.accounts import Subscription, SubscriptionStatus
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import AddOn, Allowance, Plan
from creditd.domain.entries import Effects, Entry, GrantChange, Kind
from creditd.domain.fold import fold_all
from creditd.domain.grants import Category, Grant, Recurrence, default_priority, derived_id
from creditd.domain.periods import MS_MAX, Span, add_periods
from creditd.domain.roll import NewId, give, void
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
class _Books:
    """The state while entries are added to it."""

    state: AccountState
    new_id: NewId
    now: int
    entries: list[Entry] = field(default_factory=list)

    def add(self, entries: Iterable[Entry]) -> None:
        fresh = list(entries)
        self.state = fold_all(self.state, fresh)
        self.entries += fresh

    def held(self, subscription: str) -> list[GrantState]:
        """The subscription's grants, what they have carried over left out."""
        return [
            held
            for held in self.state.grants.values()
            if held.grant.subscription == subscription and held.grant.category is not Category.ROLLOVER
        ]

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

    def void(self, held: GrantState, note: str) -> None:
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


def begin(state: AccountState, terms: Terms, now: int, new_id: NewId) -> list[Entry]:
    """The entries of a new subscription, or of one that starts anew after its end."""
    books = _Books(state, new_id, now)
    subscription = terms.subscription
    if subscription.status is SubscriptionStatus.CANCELED:
        return []
    begins = now
    if subscription.status is SubscriptionStatus.TRIALING and subscription.trial_ends_at is not None:
        for slot in trial_slots(terms):
            _give(books, subscription, slot, now, ends_at=subscription.trial_ends_at)
        begins = subscription.trial_ends_at
        if terms.plan.trial is not None and terms.plan.trial.require_activation:
            return books.entries
    for slot in plan_slots(terms):
        _give(books, subscription, slot, max(begins, now), ends_at=subscription.cancel_at)
    return books.entries


def end(state: AccountState, subscription: Subscription, at: int, now: int, new_id: NewId) -> list[Entry]:
    """The entries by which a subscription's recurring credits end at `at`; those granted once stay."""
    books = _Books(state, new_id, now)
    for held in books.held(subscription.id):
        _end(books, held, at)
    return books.entries


def reopen(state: AccountState, subscription: Subscription, now: int, new_id: NewId) -> list[Entry]:
    """The entries that take a cancellation back which has not taken effect yet."""
    books = _Books(state, new_id, now)
    for held in books.held(subscription.id):
        grant = held.grant
        if grant.recurrence is None or grant.category is Category.TRIAL:
            continue
        open_end = replace(grant, ends_at=None) if grant.recurrence.lasts else replace(grant, expires_at=None)
        if open_end != grant:
            books.redefine(open_end)
    return books.entries


def activate_trial(state: AccountState, terms: Terms, now: int, new_id: NewId) -> list[Entry]:
    """The entries that end a trial and begin the plan: what the trial left is gone, the allowances come now."""
    books = _Books(state, new_id, now)
    for held in books.held(terms.subscription.id):
        books.void(held, "trial ended")
    for slot in plan_slots(terms):
        _give(books, terms.subscription, slot, now, ends_at=terms.subscription.cancel_at)
    return books.entries


def resize(state: AccountState, before: Terms, after: Terms, now: int, new_id: NewId) -> list[Entry]:
    """The entries of other seats or add-ons. More comes at once; less comes with the next filling.

    What an add-on that is gone had granted once stays; what it fills again and again is taken away.
    """
    books = _Books(state, new_id, now)
    subscription = after.subscription
    old = {slot.key: slot for slot in (*plan_slots(before), *trial_slots(before))}
    new = {slot.key: slot for slot in (*plan_slots(after), *trial_slots(after))}
    held = {item.grant.slot: item for item in books.held(subscription.id)}
    for key in old.keys() - new.keys():
        if key in held:
            _end(books, held[key], now)
    for key, slot in new.items():
        more = slot.amount - (old[key].amount if key in old else 0)
        if not more or (slot.category is Category.TRIAL and key not in held):
            continue
        if key not in old:
            begins = now
            if subscription.status is SubscriptionStatus.TRIALING and subscription.trial_ends_at is not None:
                begins = max(now, subscription.trial_ends_at)
            _give(books, subscription, slot, begins, ends_at=subscription.cancel_at)
        elif slot.allowance.every is None:
            if more > 0:
                _give(books, subscription, slot, now, ends_at=None, amount=more)
        else:
            _resize_recurring(books, subscription.id, slot, more)
    return books.entries


def _resize_recurring(books: _Books, subscription: str, slot: Slot, more: int) -> None:
    """The present period's credits grow at once and never shrink; those to come are as large as the slot."""
    mine = [held for held in books.held(subscription) if held.grant.slot == slot.key]
    present = max((held.grant.effective_at for held in mine if held.active), default=0)
    for held in mine:
        if held.active and held.grant.effective_at < present:
            continue
        books.redefine(replace(held.grant, amount=slot.amount), max(0, more) if held.active else 0)


def reanchor(state: AccountState, credit: str, now: int, new_id: NewId) -> list[Entry]:
    """The entries by which the recurring grants of a credit ("" = all) count their periods from now on."""
    books = _Books(state, new_id, now)
    for held in state.grants.values():
        grant = held.grant
        if held.next_filling is None or grant.recurrence is None or (credit and grant.credit != credit):
            continue
        books.redefine(replace(grant, recurrence=replace(grant.recurrence, anchor=now)), filled_at=now)
    return books.entries


def change_plan(
    state: AccountState,
    after: Terms,
    *,
    mode: ChangeMode,
    period: Span,
    now: int,
    new_id: NewId,
) -> list[Entry]:
    """The entries of a change of plan; `period` is the subscription's present one.

    AT_PERIOD_END ends the old plan's credits and begins the new one's at the period's end. The other modes void what
    is left of the old plan's grants now and give the new plan's, less what the mode holds back.
    """
    books = _Books(state, new_id, now)
    subscription = after.subscription
    mine = [held for held in books.held(subscription.id) if not held.grant.slot.startswith("add_on/")]
    slots = [slot for slot in plan_slots(after) if not slot.key.startswith("add_on/")]
    if mode is ChangeMode.AT_PERIOD_END:
        for held in mine:
            _end(books, held, period.end)
        for slot in slots:
            _give(books, subscription, slot, period.end, ends_at=subscription.cancel_at)
        return books.entries
    burned: dict[str, int] = {}
    for held in mine:
        if held.active and held.grant.category is Category.PLAN:
            used = max(0, held.grant.amount - held.remaining)
            burned[held.grant.credit] = burned.get(held.grant.credit, 0) + used
        books.void(held, f"changed to plan {after.plan.key}")
    for slot in slots:
        withheld = 0
        if mode is ChangeMode.CARRY_USAGE:
            withheld = min(slot.amount, burned.get(slot.allowance.credit, 0))
            burned[slot.allowance.credit] = burned.get(slot.allowance.credit, 0) - withheld
        elif mode is ChangeMode.PRORATE:
            # Rounded in the customer's favour.
            withheld = slot.amount * (now - period.start) // (period.end - period.start)
        _give(books, subscription, slot, now, ends_at=subscription.cancel_at, withheld=withheld)
    return books.entries


def _end(books: _Books, held: GrantState, at: int) -> None:
    """Let a grant of a subscription end at `at`, unless it was granted once."""
    grant = held.grant
    if not held.active:
        if grant.effective_at >= at or at <= books.now:
            books.void(held, "subscription ends")
        elif grant.recurrence is not None:
            books.redefine(_bounded(grant, at))
    elif grant.recurrence is None and grant.category is not Category.TRIAL:
        return
    elif at <= books.now:
        books.void(held, "subscription ends")
    else:
        books.redefine(_bounded(grant, at))


def _bounded(grant: Grant, at: int) -> Grant:
    bounded = replace(grant, expires_at=min(grant.expires_at or MS_MAX, at))
    if grant.recurrence is not None and grant.recurrence.lasts is not None:
        return replace(bounded, ends_at=min(grant.ends_at or MS_MAX, at))
    return bounded


def _give(
    books: _Books,
    subscription: Subscription,
    slot: Slot,
    at: int,
    *,
    ends_at: int | None,
    amount: int | None = None,
    withheld: int = 0,
) -> None:
    if ends_at is not None and ends_at <= at:
        return
    grant = replace(
        _grant(subscription, slot, at, books.now, ends_at),
        id=_grant_id(subscription, slot, books.state.sequence + 1),
        amount=slot.amount if amount is None else amount,
    )
    books.add(give(books.state, grant, books.now, books.new_id, withheld=withheld))


def _grant_id(subscription: Subscription, slot: Slot, sequence: int) -> str:
    """The id of a grant that is given at a place of the ledger: unique, and the same in a preview."""
    readable = f"{subscription.id}/{slot.key}/{sequence}"
    return readable if len(readable.encode()) <= GRANT_ID_BYTES_MAX else derived_id(readable, sequence)


def _grant(subscription: Subscription, slot: Slot, at: int, now: int, ends_at: int | None) -> Grant:
    allowance = slot.allowance
    lasts = allowance.expires_after
    expires_at = ends_at if slot.category is Category.TRIAL or allowance.every else None
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
        ends_at=ends_at if lasts is not None and allowance.every is not None else None,
    )
