"""Subscriptions: beginning, changing plan, seats and add-ons, ending; each a load transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from creditd.domain.accounts import (
    Account,
    PendingPlan,
    Subscription,
    SubscriptionStatus,
    subscription_at,
)
from creditd.domain.allowances import (
    ChangeMode,
    Terms,
    activate_trial,
    begin,
    change_plan,
    end,
    reopen,
    resize,
)
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import Plan
from creditd.domain.entries import Entry, Kind
from creditd.domain.errors import InvalidArgument, NotFound, OutOfRange, Violation
from creditd.domain.fold import fold_all
from creditd.domain.grants import Grant
from creditd.domain.near import did_you_mean
from creditd.domain.periods import Span, add_periods, anchored_window
from creditd.domain.policy import BILLING_PERIOD, CatalogIndex
from creditd.domain.state import AccountState, balance
from creditd.engine.balances import credit_balances
from creditd.engine.books import write
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import SubscriptionChange, SubscriptionResult
from creditd.engine.ids import NewId, fingerprint
from creditd.engine.load import Loader
from creditd.ledger.transaction import AccountTransaction

_BEGINS: Final = frozenset(
    {SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE}
)


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
        stored = next((item for item in tx.account.subscriptions if item.id == change.id), None)
        before = None if stored is None else subscription_at(stored, now)
        index, _until = await self.catalogs.in_force(now)
        plan = await self._plan(change, before, index)
        _check_add_ons(change, index)
        wanted = _wanted(tx.account, change, plan, before, now)
        after, entries = await self._settle(tx.state, before, Terms(wanted, plan, index.add_ons), change, now)
        before_grants = tx.state.grants
        if after != stored:
            for grant in _granted(entries):
                must_fit(tx.state, grant)
            await write(tx, entries)
            await tx.put_subscription(after)
            await tx.put_account(next_revision(tx.account))
        span = _period(after, now)
        segment = await self.loader.segment(tx, now)
        result = SubscriptionResult(
            subscription=after,
            period_start=span.start,
            period_end=span.end,
            granted=_granted(entries),
            voided=tuple(
                replace(before_grants[entry.grant_id].grant, voided_at=entry.at)
                for entry in entries
                if entry.kind is Kind.VOID and entry.grant_id in before_grants
            ),
            balances=credit_balances(segment, index.orders, now),
        )
        if change.preview:
            raise _Preview(result)
        return result

    async def _settle(
        self,
        state: AccountState,
        before: Subscription | None,
        after: Terms,
        change: SubscriptionChange,
        now: int,
    ) -> tuple[Subscription, list[Entry]]:
        """The subscription as it is stored, and what the change does to grants."""
        wanted = after.subscription
        if before is None or before.status is SubscriptionStatus.CANCELED:
            return wanted, begin(state, after, now, self.new_id) if wanted.status in _BEGINS else []
        if wanted.status is SubscriptionStatus.CANCELED:
            return replace(wanted, pending=None), end(state, wanted, now, now, self.new_id)
        old = await self.catalogs.plan(before.plan, before.plan_version)
        former = Terms(before, after.plan if old is None else old, after.add_ons)
        entries: list[Entry] = []
        if (before.plan, before.plan_version) != (wanted.plan, wanted.plan_version):
            mode = ChangeMode(change.mode or ChangeMode.CARRY_USAGE)
            period = _period(before, now)
            entries += change_plan(state, after, mode=mode, period=period, now=now, new_id=self.new_id)
            if mode is ChangeMode.AT_PERIOD_END:
                pending = PendingPlan(wanted.plan, wanted.plan_version, period.end)
                wanted = replace(wanted, plan=before.plan, plan_version=before.plan_version, pending=pending)
                return wanted, entries
            return replace(wanted, pending=None), entries
        if _is_activated(before, wanted):
            wanted = replace(
                wanted, anchor=change.anchor or now, trial_ends_at=None, pauses_after_trial=False
            )
            entries = activate_trial(state, replace(after, subscription=wanted), now, self.new_id)
            return wanted, entries
        entries = resize(state, former, after, now, self.new_id)
        if wanted.cancel_at != before.cancel_at:
            state = fold_all(state, entries)
            if wanted.cancel_at is None:
                entries += reopen(state, wanted, now, self.new_id)
            else:
                reopened = reopen(state, wanted, now, self.new_id) if before.cancel_at is not None else []
                state = fold_all(state, reopened)
                entries += [*reopened, *end(state, wanted, wanted.cancel_at, now, self.new_id)]
        return wanted, entries

    async def _plan(
        self, change: SubscriptionChange, before: Subscription | None, index: CatalogIndex
    ) -> Plan:
        """The plan version that the subscription is to be to: subscribers stay on theirs until they are moved."""
        key = change.plan or (before.plan if before else "")
        version = change.plan_version
        if before is not None and key == before.plan and not version:
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


def _is_activated(before: Subscription, wanted: Subscription) -> bool:
    """Whether a trial, or the pause after one, ends by this change."""
    waited = before.status is SubscriptionStatus.TRIALING or (
        before.status is SubscriptionStatus.PAUSED and before.pauses_after_trial
    )
    return waited and wanted.status in {SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE}


def _wanted(
    account: Account, change: SubscriptionChange, plan: Plan, before: Subscription | None, now: int
) -> Subscription:
    """The subscription that the change asks for. What it leaves out stays as it is; add-ons and cancel_at do not."""
    fresh = before is None or before.status is SubscriptionStatus.CANCELED
    known = any(
        item.plan == plan.key for item in account.subscriptions if before is None or item.id != before.id
    )
    tries = change.status is SubscriptionStatus.TRIALING or (change.status is None and not known)
    trial = plan.trial if fresh and tries else None
    started_at = change.started_at or (before.started_at if before and not fresh else now)
    trial_ends_at = before.trial_ends_at if before and not fresh else None
    if trial is not None:
        trial_ends_at = change.trial_ends_at or add_periods(started_at, trial.length, 1)
    elif change.trial_ends_at is not None and change.trial_ends_at != trial_ends_at:
        problem = "can't be moved once the trial has begun; end it by putting the status active"
        raise InvalidArgument(violations=(Violation("subscription.trial_ends_at", problem),))
    status = change.status or (before.status if before and not fresh else None)
    if status is None:
        status = SubscriptionStatus.TRIALING if trial is not None else SubscriptionStatus.ACTIVE
    if status is SubscriptionStatus.TRIALING and trial_ends_at is None:
        problem = f"plan {plan.key!r} has no trial; set trial_ends_at, or another status"
        raise InvalidArgument(violations=(Violation("subscription.status", problem),))
    begins = trial_ends_at if status is SubscriptionStatus.TRIALING and fresh else started_at
    pauses = trial.require_activation if trial is not None else bool(before and before.pauses_after_trial)
    return Subscription(
        id=change.id,
        plan=plan.key,
        plan_version=plan.version,
        status=status,
        started_at=started_at,
        anchor=change.anchor or (before.anchor if before and not fresh else begins or started_at),
        seats=change.seats or (before.seats if before else 1),
        external_id=change.external_id or (before.external_id if before else ""),
        cancel_at=change.cancel_at,
        add_ons=change.add_ons,
        trial_ends_at=trial_ends_at,
        pauses_after_trial=pauses,
        pending=before.pending if before and not fresh else None,
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
    return tuple(
        entry.effects.put for entry in entries if entry.kind is Kind.GRANT and entry.effects.put is not None
    )


def must_fit(state: AccountState, grant: Grant) -> None:
    """Raise OutOfRange when a grant could take the balance of its credit beyond 9e15, now or once all are full."""
    room = AMOUNT_MAX - grant.amount
    for held in state.grants.values():
        if held.grant.credit == grant.credit and (not held.active or held.grant.recurrence is not None):
            room -= held.grant.amount - held.remaining
    if balance(state, grant.credit) > room:
        raise OutOfRange(
            f"the grant would take the balance of {grant.credit!r} beyond {AMOUNT_MAX} micros",
            reason="BALANCE_OUT_OF_RANGE",
            metadata={"credit": grant.credit},
        )


def next_revision(account: Account) -> Account:
    """The account after one more change of what decides for it."""
    return replace(account, revision=account.revision + 1, policy_version=account.policy_version + 1)
