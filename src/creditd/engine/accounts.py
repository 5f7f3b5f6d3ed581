"""Accounts: creating and changing them; a change is a load transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from creditd.domain.accounts import Account, subscription_at
from creditd.domain.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from creditd.engine.catalogs import Catalogs
from creditd.engine.ids import NewId
from creditd.engine.load import Loader
from creditd.engine.offers import signup_entries, signup_promotions
from creditd.engine.policies import Policies
from creditd.engine.subscriptions import next_revision
from creditd.ledger.accounts import Gift
from creditd.ledger.store import Ledger


@dataclass(slots=True)
class AccountsControl:
    """Use cases on accounts."""

    ledger: Ledger
    policies: Policies
    catalogs: Catalogs
    loader: Loader
    new_id: NewId

    async def put(self, wanted: Account, *, etag: str) -> Account:
        """Create the account or replace what is its own: name, labels, suspended, external_id.

        A new account is granted the promotions for signing up in the same step. An archived one is in use again.

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
            existing = await self.ledger.create_account(fresh, await self._gifts(fresh))
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
                archived=False,
            )
            if after != before:
                await tx.put_account(next_revision(after))
            return tx.account

    async def _gifts(self, account: Account) -> list[Gift]:
        index, _until = await self.catalogs.in_force(account.created_at)
        return [
            Gift(
                promotion.key,
                promotion.max_redemptions,
                partial(signup_entries, account, promotion, new_id=self.new_id),
            )
            for promotion in signup_promotions(index.catalog, account.created_at)
        ]

    async def archive(self, account_id: str) -> Account:
        """Take an account out of use: it is denied everything, as a suspended one. Its ledger stays."""
        async with self.loader.change(account_id) as (tx, _now):
            if not tx.account.archived:
                await tx.put_account(next_revision(replace(tx.account, archived=True)))
            return tx.account

    async def present(self, account: Account) -> Account:
        """The account with its subscriptions as they stand now: what happens to them by itself is not stored."""
        if not account.subscriptions:
            return account
        now = await self.policies.now(account)
        return replace(
            account, subscriptions=tuple(subscription_at(item, now) for item in account.subscriptions)
        )

    async def get(self, account_id: str) -> Account:
        """The account as the database has it; NotFound when there is none."""
        account = await self.ledger.get_account(account_id)
        if account is None:
            raise NotFound("account", account_id, hint="create it with Accounts.PutAccount")
        return account


def _must_match(account: Account, etag: str) -> None:
    if etag and etag != str(account.revision):
        raise FailedPrecondition(
            f"account {account.id!r} has changed: its etag is {account.revision}, not {etag}; read it and try again",
            reason="VERSION_MISMATCH",
            metadata={"account": account.id, "etag": str(account.revision)},
        )
