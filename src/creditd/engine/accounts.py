"""Accounts and subscriptions: the control plane's changes, each a load transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from creditd.domain.accounts import Account, Subscription, SubscriptionStatus
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import Allowance, Plan
from creditd.domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Unimplemented,
    Violation,
)
from creditd.domain.grants import Category, Grant, default_priority
from creditd.domain.periods import add_periods, anchored_window
from creditd.domain.policy import BILLING_PERIOD
from creditd.domain.roll import give
from creditd.domain.state import AccountState, balance, returnable
from creditd.engine.balances import credit_balances
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import SubscriptionChange, SubscriptionResult
from creditd.engine.ids import NewId, fingerprint
from creditd.engine.load import Loader
from creditd.engine.policies import Policies
from creditd.ledger.store import Ledger
from creditd.ledger.transaction import AccountTransaction


class _Preview(Exception):
    """Carries a preview's result out of its transaction, which is rolled back."""

    def __init__(self, result: SubscriptionResult) -> None:
        super().__init__("preview")
        self.result = result


@dataclass(slots=True)
class AccountsControl:
    """Use cases on accounts and subscriptions."""

    ledger: Ledger
    policies: Policies
    catalogs: Catalogs
    loader: Loader
    new_id: NewId

    async def put(self, wanted: Account, *, etag: str) -> Account:
        """Create the account or replace what is its own: name, labels, suspended, external_id.

        Raises:
            FailedPrecondition: VERSION_MISMATCH, the account is not as `etag` says.
            InvalidArgument: the test clock of an account can't be changed.
            NotFound: the test clock does not exist.
        """
        existing = await self.ledger.get_account(wanted.id)
        if existing is None:
            if etag:
                raise NotFound("account", wanted.id, hint="leave the etag empty to create it")
            fresh = replace(wanted, created_at=await self.policies.now(wanted))
            existing = await self.ledger.create_account(fresh)
            if existing is fresh:
                return fresh
        async with self.loader.change(wanted.id) as (tx, _now):
            before = tx.account
            _must_match(before, etag)
            if wanted.test_clock != before.test_clock:
                problem = f"is {before.test_clock!r} since the account was created and can't be changed"
                raise InvalidArgument(violations=(Violation("account.test_clock", problem),))
            after = replace(
                before,
                name=wanted.name,
                labels=wanted.labels,
                suspended=wanted.suspended,
                external_id=wanted.external_id,
            )
            if after != before:
                await tx.put_account(_next(after))
            return tx.account

    async def get(self, account_id: str) -> Account:
        """The account as the database has it; NotFound when there is none."""
        account = await self.ledger.get_account(account_id)
        if account is None:
            raise NotFound("account", account_id, hint="create it with Accounts.PutAccount")
        return account

    async def put_subscription(self, change: SubscriptionChange) -> SubscriptionResult:
        """Subscribe, or change seats, status and cancellation of a subscription.

        The plan's allowances become grants once, when the subscription begins.

        Raises:
            NotFound: the account or the plan does not exist.
            Unimplemented: the subscription is to another plan already.
            OutOfRange: the allowances would take the balance beyond 9e15.
        """
        subscription_id = change.id or self._id_for(change)
        try:
            async with self.loader.change(change.account) as (tx, now):
                return await self._put_subscription(tx, now, replace(change, id=subscription_id))
        except _Preview as preview:
            return preview.result

    def _id_for(self, change: SubscriptionChange) -> str:
        """The same idempotency key makes the same subscription."""
        if change.idempotency_key:
            return fingerprint("subscription", change.account, change.idempotency_key)
        return self.new_id()

    async def _put_subscription(
        self, tx: AccountTransaction, now: int, change: SubscriptionChange
    ) -> SubscriptionResult:
        before = next((item for item in tx.account.subscriptions if item.id == change.id), None)
        plan = await self._plan(change, before, now)
        after = _subscription(change, plan, before, now)
        granted: list[Grant] = []
        if before is None and after.status is not SubscriptionStatus.CANCELED:
            granted = [_grant(after, plan, index, now) for index in range(len(plan.allowances))]
        if after != before:
            await tx.put_subscription(after)
            for grant in granted:
                must_fit(tx.state, grant)
                await tx.insert_grant(grant, fingerprint("allowance", grant.id))
                await tx.append(*give(tx.state, grant, now, self.new_id))
            await tx.put_account(_next(tx.account))
        span = anchored_window(after.anchor, BILLING_PERIOD, now)
        index, _until = await self.catalogs.in_force(now)
        segment = await self.loader.segment(tx, now)
        result = SubscriptionResult(
            subscription=after,
            period_start=span.start,
            period_end=span.end,
            granted=tuple(granted),
            balances=credit_balances(segment, index.orders, now),
        )
        if change.preview:
            raise _Preview(result)
        return result

    async def _plan(self, change: SubscriptionChange, before: Subscription | None, now: int) -> Plan:
        if before is not None and before.plan != change.plan and change.plan:
            raise Unimplemented(
                f"subscription {change.id!r} is to plan {before.plan!r}; changing its plan is not served by this "
                "release: cancel it and subscribe anew"
            )
        if before is not None:
            plan = await self.catalogs.plan(before.plan, before.plan_version)
        elif change.plan_version:
            plan = await self.catalogs.plan(change.plan, change.plan_version)
        else:
            index, _until = await self.catalogs.in_force(now)
            plan = next((plan for plan in index.catalog.plans if plan.key == change.plan), None)
        if plan is None:
            raise NotFound("plan", change.plan, hint="it is not in the catalog in force")
        return plan


def _subscription(
    change: SubscriptionChange, plan: Plan, before: Subscription | None, now: int
) -> Subscription:
    started_at = change.started_at or (before.started_at if before else now)
    return Subscription(
        id=change.id,
        plan=plan.key,
        plan_version=plan.version,
        status=change.status or (before.status if before else SubscriptionStatus.ACTIVE),
        started_at=started_at,
        anchor=change.anchor or (before.anchor if before else started_at),
        seats=change.seats or (before.seats if before else 1),
        external_id=change.external_id or (before.external_id if before else ""),
        cancel_at=change.cancel_at,
    )


def _grant(subscription: Subscription, plan: Plan, index: int, now: int) -> Grant:
    allowance: Allowance = plan.allowances[index]
    expires = allowance.expires_after
    return Grant(
        id=f"{subscription.id}/{plan.key}/{plan.version}/{index}"[-255:],
        credit=allowance.credit,
        amount=allowance.amount_micros,
        category=Category.PLAN,
        priority=allowance.priority or default_priority(Category.PLAN),
        effective_at=now,
        created_at=now,
        expires_at=None if expires is None else add_periods(now, expires, 1),
        source=f"plan/{plan.key}",
    )


def must_fit(state: AccountState, grant: Grant) -> None:
    """Raise OutOfRange when a grant could take the balance of its credit beyond 9e15, now or once it is active."""
    waiting = sum(
        held.grant.amount
        for held in state.grants.values()
        if not held.active and held.grant.credit == grant.credit
    )
    have = balance(state, grant.credit) + returnable(state, grant.credit)
    if have + waiting + grant.amount > AMOUNT_MAX:
        raise OutOfRange(
            f"the grant would take the balance of {grant.credit!r} beyond {AMOUNT_MAX} micros",
            reason="BALANCE_OUT_OF_RANGE",
            metadata={"credit": grant.credit},
        )


def _next(account: Account) -> Account:
    return replace(account, revision=account.revision + 1, policy_version=account.policy_version + 1)


def _must_match(account: Account, etag: str) -> None:
    if etag and etag != str(account.revision):
        raise FailedPrecondition(
            f"account {account.id!r} has changed: its etag is {account.revision}, not {etag}; read it and try again",
            reason="VERSION_MISMATCH",
            metadata={"account": account.id, "etag": str(account.revision)},
        )
