"""Subscriptions: beginning, changing plan, seats and add-ons, ending; each a load transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from creditd.domain.accounts import Account, Subscription, SubscriptionStatus, subscription_at
from creditd.domain.allowances import Books, ChangeMode, Terms
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import Plan
from creditd.domain.entries import Effects, Entry, Kind
from creditd.domain.errors import InvalidArgument, NotFound, OutOfRange, Violation
from creditd.domain.fold import fold
from creditd.domain.grants import Grant
from creditd.domain.near import did_you_mean
from creditd.domain.periods import Span, add_periods, anchored_window
from creditd.domain.policy import BILLING_PERIOD, CatalogIndex
from creditd.domain.state import AccountState, balance, returnable
from creditd.domain.subscribing import begin, end, settle
from creditd.engine.balances import credit_balances
from creditd.engine.books import earlier_entry, write
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import SubscriptionChange, SubscriptionResult
from creditd.engine.ids import NewId, fingerprint
from creditd.engine.load import Loader
from creditd.ledger.transaction import AccountTransaction


class _Preview(Exception):
    """Carries a preview's result out of its transaction, which is rolled back."""

    def __init__(self, result: SubscriptionResult) -> None:
        super().__init__("preview")
        self.result = result


@dataclass(slots=True)
class SubscriptionsControl:
    """The use case of putting a subscription."""

    catalogs: Catalogs
    loader: Loader
    new_id: NewId

    async def put(self, change: SubscriptionChange) -> SubscriptionResult:
        """Subscribe, or change plan, seats, add-ons, status or cancellation of a subscription.

        With `preview` everything is done and then undone: the result is exactly what would happen.

        Raises:
            NotFound: the account, the plan or an add-on does not exist.
            InvalidArgument: instants that contradict each other.
            FailedPrecondition: a mode that does not fit the subscription.
            OutOfRange: the allowances would take the balance beyond 9e15.
        """
        subscription_id = change.id or self._id_for(change)
        try:
            async with self.loader.change(change.account) as (tx, now):
                return await self._put(tx, now, replace(change, id=subscription_id))
        except _Preview as preview:
            return preview.result

    def _id_for(self, change: SubscriptionChange) -> str:
        """The same idempotency key makes the same subscription."""
        if change.idempotency_key:
            return fingerprint("subscription", change.account, change.idempotency_key)
        return self.new_id()

    async def _put(self, tx: AccountTransaction, now: int, change: SubscriptionChange) -> SubscriptionResult:
        earlier = await earlier_entry(tx, change.idempotency_key, _mark(change))
        if earlier is not None:
            return await self._replayed(tx, now, change, earlier)
        stored = next((item for item in tx.account.subscriptions if item.id == change.id), None)
        before = None if stored is None else subscription_at(stored, now)
        index, _until = await self.catalogs.in_force(now)
        plan = await self._plan(change, before, index)
        _check_add_ons(change, index)
        known = any(item.plan == plan.key for item in tx.account.subscriptions)
        had = known or (plan.trial is not None and await tx.had_plan(plan.key, now))
        wanted = _wanted(change, plan, before, now, had=had)
        books = Books(tx.state, self.new_id, now, tx.account.revision)
        after = await self._settle(books, before, Terms(wanted, plan, index.add_ons), change)
        before_grants = tx.state.grants
        _must_all_fit(tx.state, books.entries)
        if after != stored or books.entries:
            await write(tx, books.entries)
            await tx.put_subscription(after)
            await tx.put_account(next_revision(tx.account))
        granted = _granted(books.entries)
        voided = tuple(
            replace(before_grants[entry.grant_id].grant, voided_at=entry.at)
            for entry in books.entries
            if entry.kind is Kind.VOID and entry.grant_id in before_grants
        )
        if change.idempotency_key and not change.preview:
            await tx.append(self._remembered(tx.state, now, change, granted, voided))
        result = await self._result(tx, now, after, granted, voided)
        if change.preview:
            raise _Preview(result)
        return result

    async def _result(
        self,
        tx: AccountTransaction,
        now: int,
        subscription: Subscription,
        granted: tuple[Grant, ...],
        voided: tuple[Grant, ...],
    ) -> SubscriptionResult:
        index, _until = await self.catalogs.in_force(now)
        span = _period(subscription, now)
        segment = await self.loader.segment(tx, now)
        balances = credit_balances(segment, index.orders, now)
        return SubscriptionResult(subscription, span.start, span.end, granted, voided, balances)

    async def _replayed(
        self, tx: AccountTransaction, now: int, change: SubscriptionChange, earlier: Entry
    ) -> SubscriptionResult:
        """What the first request with the key has granted and voided; the subscription and balances as they are now."""
        stored = next(item for item in tx.account.subscriptions if item.id == change.id)
        found: dict[str, list[Grant]] = {"granted": [], "voided": []}
        for key, grant_id in earlier.metadata.items():
            grant = await tx.get_grant(grant_id)
            if grant is not None:
                found[key.partition(" ")[0]].append(grant[0])
        granted, voided = tuple(found["granted"]), tuple(found["voided"])
        return await self._result(tx, now, subscription_at(stored, now), granted, voided)

    def _remembered(
        self,
        state: AccountState,
        now: int,
        change: SubscriptionChange,
        granted: tuple[Grant, ...],
        voided: tuple[Grant, ...],
    ) -> Entry:
        """The entry that stands for the request under its key: it does nothing, and names what was done."""
        return Entry(
            id=self.new_id(),
            account=state.account,
            sequence=state.sequence + 1,
            kind=Kind.ADJUST,
            at=max(now, state.at),
            idempotency_key=change.idempotency_key,
            fingerprint=_mark(change),
            metadata={
                **{f"granted {place}": grant.id for place, grant in enumerate(granted, 1)},
                **{f"voided {place}": grant.id for place, grant in enumerate(voided, 1)},
            },
            note=f"subscription {change.id}",
            effects=Effects(),
        )

    async def _settle(
        self, books: Books, before: Subscription | None, after: Terms, change: SubscriptionChange
    ) -> Subscription:
        """The subscription as it is stored; what the change does to grants is in the books."""
        wanted = after.subscription
        if before is None or before.status is SubscriptionStatus.CANCELED:
            if wanted.status is not SubscriptionStatus.CANCELED:
                begin(books, after)
            return wanted
        if wanted.status is SubscriptionStatus.CANCELED:
            end(books, before)
            return replace(wanted, pending=None)
        old = await self.catalogs.plan(before.plan, before.plan_version)
        scheduled = None
        if before.pending is not None:
            scheduled = await self.catalogs.plan(before.pending.plan, before.pending.plan_version)
        return settle(
            books,
            Terms(before, after.plan if old is None else old, after.add_ons),
            after,
            scheduled,
            mode=ChangeMode(change.mode) if change.mode else None,
            anchor=change.anchor,
            period=_period(before, books.now),
        )

    async def _plan(
        self, change: SubscriptionChange, before: Subscription | None, index: CatalogIndex
    ) -> Plan:
        """The plan version that the subscription is to be to: subscribers stay on theirs until they are moved."""
        key = change.plan or (before.plan if before else "")
        version = change.plan_version
        lasts = before is not None and before.status is not SubscriptionStatus.CANCELED
        if before is not None and lasts and key == before.plan and not version:
            version = before.plan_version
        if version:
            plan = await self.catalogs.plan(key, version)
        else:
            plan = next((plan for plan in index.catalog.plans if plan.key == key), None)
        if plan is None:
            near = did_you_mean(key, [item.key for item in index.catalog.plans])
            hint = f"catalog version {index.version} is in force{near}"
            raise NotFound("plan", f"{key}, version {version}" if version else key, hint=hint)
        return plan


def _mark(change: SubscriptionChange) -> str:
    """What an idempotency key stands for; a preview is no operation, so that it may come before under the same key."""
    return fingerprint(
        "subscription",
        change.id,
        change.plan,
        change.plan_version,
        change.seats,
        change.status,
        change.started_at,
        change.anchor,
        change.cancel_at,
        change.trial_ends_at,
        change.add_ons,
        change.external_id,
        change.mode,
    )


def _wanted(
    change: SubscriptionChange, plan: Plan, before: Subscription | None, now: int, *, had: bool
) -> Subscription:
    """The subscription that the change asks for. What it leaves out stays as it is; add-ons and cancel_at do not."""
    if before is None or before.status is SubscriptionStatus.CANCELED:
        return _begun(change, plan, now, had=had)
    if change.trial_ends_at is not None and change.trial_ends_at != before.trial_ends_at:
        problem = "can't be moved once the trial has begun; end it by putting the status active"
        raise InvalidArgument(violations=(Violation("subscription.trial_ends_at", problem),))
    if change.started_at is not None and change.started_at > now >= before.started_at:
        problem = "is later than now, but the subscription has begun; cancel it, or leave this out"
        raise InvalidArgument(violations=(Violation("subscription.started_at", problem),))
    status, pauses = change.status or before.status, before.pauses_after_trial
    if status is SubscriptionStatus.TRIALING and before.trial_ends_at is None:
        problem = "can't begin a trial any more; cancel and subscribe again, or leave it out"
        raise InvalidArgument(violations=(Violation("subscription.status", problem),))
    moved = (plan.key, plan.version) != (before.plan, before.plan_version)
    if moved and before.status is SubscriptionStatus.TRIALING and change.mode != ChangeMode.AT_PERIOD_END:
        # The trial goes on where the new plan has one too; without one the new plan begins at once.
        if plan.trial is not None:
            pauses = plan.trial.require_activation
        elif change.status is None:
            status = SubscriptionStatus.ACTIVE
    return replace(
        before,
        plan=plan.key,
        plan_version=plan.version,
        status=status,
        started_at=before.started_at if change.started_at is None else change.started_at,
        anchor=before.anchor if change.anchor is None else change.anchor,
        seats=change.seats or before.seats,
        external_id=change.external_id or before.external_id,
        cancel_at=change.cancel_at,
        add_ons=change.add_ons,
        pauses_after_trial=pauses,
    )


def _begun(change: SubscriptionChange, plan: Plan, now: int, *, had: bool) -> Subscription:
    """A new subscription, or one that starts anew after its end. An account that `had` a plan has no trial of it."""
    tries = change.status is SubscriptionStatus.TRIALING or (change.status is None and not had)
    trial = plan.trial if tries else None
    started_at = now if change.started_at is None else change.started_at
    trial_ends_at = change.trial_ends_at
    if trial is not None and trial_ends_at is None:
        trial_ends_at = add_periods(started_at, trial.length, 1)
    status = change.status
    if status is None:
        status = SubscriptionStatus.TRIALING if trial is not None else SubscriptionStatus.ACTIVE
    if status is SubscriptionStatus.TRIALING and trial_ends_at is None:
        problem = f"plan {plan.key!r} has no trial; set trial_ends_at, or another status"
        raise InvalidArgument(violations=(Violation("subscription.status", problem),))
    if status is not SubscriptionStatus.TRIALING and (trial_ends_at or 0) > now:
        problem = (
            "is later than now, but the subscription is to begin without a trial; put the status trialing"
        )
        raise InvalidArgument(violations=(Violation("subscription.trial_ends_at", problem),))
    paused = status is SubscriptionStatus.PAUSED
    begins = started_at if trial_ends_at is None else trial_ends_at
    return Subscription(
        id=change.id,
        plan=plan.key,
        plan_version=plan.version,
        status=status,
        started_at=started_at,
        anchor=begins if change.anchor is None else change.anchor,
        seats=change.seats or 1,
        external_id=change.external_id,
        cancel_at=change.cancel_at,
        add_ons=change.add_ons,
        trial_ends_at=trial_ends_at,
        pauses_after_trial=paused or (trial is not None and trial.require_activation),
    )


def _check_add_ons(change: SubscriptionChange, index: CatalogIndex) -> None:
    for key, _quantity in change.add_ons:
        if key not in index.add_ons:
            near = did_you_mean(key, index.add_ons)
            raise NotFound("add_on", key, hint=f"catalog version {index.version} is in force{near}")


def _period(subscription: Subscription, now: int) -> Span:
    """The subscription's present period; while it is trialing, the trial."""
    ends = subscription.trial_ends_at
    if subscription.status is SubscriptionStatus.TRIALING and ends is not None and ends > now:
        return Span(subscription.started_at, ends)
    return anchored_window(subscription.anchor, BILLING_PERIOD, now)


def _granted(entries: list[Entry]) -> tuple[Grant, ...]:
    """The grants that the entries bring, without those that follow them in later periods."""
    return tuple(
        entry.effects.put
        for entry in entries
        if entry.kind is Kind.GRANT and entry.effects.put is not None and not entry.effects.put.parent
    )


def _must_all_fit(state: AccountState, entries: list[Entry]) -> None:
    """Raise OutOfRange when the entries, each on those before it, could take a balance beyond 9e15."""
    for entry in entries:
        put = entry.effects.put
        if entry.kind is Kind.GRANT and put is not None:
            must_fit(state, put)
        state = fold(state, entry)
        if entry.credit and balance(state, entry.credit) > AMOUNT_MAX:
            raise _beyond(entry.credit)


def must_fit(state: AccountState, grant: Grant) -> None:
    """Raise OutOfRange when a grant could take the balance of its credit beyond 9e15, now or once all are full."""
    room = AMOUNT_MAX - grant.amount
    for held in state.grants.values():
        if held.grant.credit == grant.credit and (not held.active or held.grant.recurrence is not None):
            room -= held.grant.amount - held.remaining
    if balance(state, grant.credit) + returnable(state, grant.credit) > room:
        raise _beyond(grant.credit)


def _beyond(credit: str) -> OutOfRange:
    return OutOfRange(
        f"the grant would take the balance of {credit!r} beyond {AMOUNT_MAX} micros",
        reason="BALANCE_OUT_OF_RANGE",
        metadata={"credit": credit},
    )


def next_revision(account: Account) -> Account:
    """The account after one more change of what decides for it."""
    return replace(account, revision=account.revision + 1, policy_version=account.policy_version + 1)
