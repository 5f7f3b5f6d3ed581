"""The load transaction: the fence is raised, then everything that is true of an account is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import asyncpg

from creditd.domain.accounts import Account, Budget, Epoch, Override, Subscription
from creditd.domain.entries import Entry, tombstone
from creditd.domain.errors import AlreadyExists, NotFound
from creditd.domain.fold import Folding, fold_all
from creditd.domain.grants import Grant
from creditd.domain.state import AccountState
from creditd.ledger import folding, redemptions
from creditd.ledger.accounts import account_values, keep_version, subscription_values, to_account
from creditd.ledger.codec import decode_grant, encode_grant
from creditd.ledger.connection import Connection, Connections
from creditd.ledger.documents import encode_budget, encode_override
from creditd.ledger.queries import load
from creditd.ledger.redemptions import Redemption
from creditd.ledger.rows import to_entry

_SQL: Final = load("accounts")
_ENTRIES: Final = load("entries")
_BY_KEYS: Final = _ENTRIES["by_keys"]


def override_key(feature: str, credit: str) -> str:
    """The key of an override: that of a feature, or of a credit."""
    return f"feature/{feature}" if feature else f"credit/{credit}"


class AccountTransaction:
    """What `Ledger.change` yields: one account, alone, in a transaction that has raised its epoch.

    `state` and `account` follow what the methods change. Nothing counts before the transaction commits, and
    after an error only leaving it is possible.

    Attributes:
        state: all entries folded, those appended here included.
        account: the account with its subscriptions.
        epoch: the new epoch; hot states of older ones can't append any more.
        tail_length: how many entries were read after the checkpoint.
        catalog_version: the newest catalog that there is, in force already or later.
    """

    def __init__(
        self, connection: Connection, connections: Connections, *, account: Account, epoch: Epoch
    ) -> None:
        self.account = account
        self.epoch = epoch
        self.state = AccountState(account.id)
        self.tail_length = 0
        self.catalog_version = 0
        self._connection = connection
        self._connections = connections
        self._failed = False

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        try:
            async with self._connections.mapped():
                yield self._connection
        except BaseException:
            self._failed = True
            raise

    async def finish(self, *, checkpoint: bool) -> None:
        """Make ready to commit; only `change` calls this.

        Raises:
            RuntimeError: an error of a statement was ignored; PostgreSQL would take COMMIT and roll back.
        """
        if self._failed:
            raise RuntimeError("the transaction can't commit: a statement in it failed")
        if checkpoint:
            async with self._session() as connection:
                await folding.write_checkpoint(connection, self.state)

    async def append(self, *entries: Entry) -> None:
        """Append entries, which must follow `state.sequence`, and fold them into `state`.

        Raises:
            BrokenLedger: they don't follow, or overdraw a grant; nothing was written.
            AlreadyExists: an idempotency key is taken (`find_key` tells by what).
        """
        if not entries:
            return
        state = fold_all(self.state, entries)
        try:
            async with self._session() as connection:
                await folding.insert(connection, *entries)
        except asyncpg.UniqueViolationError as error:
            raise AlreadyExists(
                "an entry with this idempotency key is in the ledger", reason="IDEMPOTENCY_KEY_TAKEN"
            ) from error
        self.state = state

    async def find_key(self, key: str) -> Entry | None:
        """The entry of an idempotency key."""
        async with self._session() as connection:
            row = await connection.fetchrow(_BY_KEYS, self.account.id, [key])
        return None if row is None else to_entry(row)

    async def find_burned(self, entry_id: str) -> Entry | None:
        """The CONSUME or COMMIT with an id."""
        async with self._session() as connection:
            row = await connection.fetchrow(_ENTRIES["burned"], self.account.id, entry_id)
        return None if row is None else to_entry(row)

    async def refunds_of(self, entry_id: str) -> list[Entry]:
        """The entries that undo parts of another one."""
        async with self._session() as connection:
            rows = await connection.fetch(_ENTRIES["reversing"], self.account.id, entry_id)
        return [to_entry(row) for row in rows]

    async def put_account(self, account: Account) -> None:
        """Store everything of the account but its subscriptions, overrides and budgets.

        Raises:
            NotFound: its test clock does not exist.
        """
        try:
            async with self._session() as connection:
                await connection.execute(_SQL["put_account"], *account_values(account))
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFound("test clock", account.test_clock) from error
        own = self.account
        self.account = replace(
            account, subscriptions=own.subscriptions, overrides=own.overrides, budgets=own.budgets
        )

    async def put_subscription(self, subscription: Subscription) -> None:
        """Add a subscription or replace the one with its id."""
        async with self._session() as connection:
            await connection.execute(
                _SQL["put_subscription"], *subscription_values(self.account.id, subscription)
            )
        others = [other for other in self.account.subscriptions if other.id != subscription.id]
        together = sorted([*others, subscription], key=lambda each: (each.started_at, each.id))
        self.account = replace(self.account, subscriptions=tuple(together))

    async def keep_version(self, at: int) -> None:
        """Keep the account as it is now as what decides from `at` (ms) on, for those who ask about the past."""
        async with self._session() as connection:
            await keep_version(connection, self.account, at)

    async def put_override(self, override: Override) -> None:
        """Add an override or replace the one of its feature or credit."""
        key = override_key(override.feature, override.credit)
        async with self._session() as connection:
            await connection.execute(_SQL["put_override"], self.account.id, key, encode_override(override))
        self._keep_overrides(key, override)

    async def delete_override(self, feature: str, credit: str) -> None:
        """Remove the override of a feature or credit, if there is one."""
        key = override_key(feature, credit)
        async with self._session() as connection:
            await connection.execute(_SQL["delete_override"], self.account.id, key)
        self._keep_overrides(key)

    def _keep_overrides(self, key: str, *added: Override) -> None:
        others = [each for each in self.account.overrides if override_key(each.feature, each.credit) != key]
        self.account = replace(self.account, overrides=(*others, *added))

    async def put_budget(self, budget: Budget) -> None:
        """Add a budget or replace the one with its id."""
        async with self._session() as connection:
            await connection.execute(_SQL["put_budget"], self.account.id, budget.id, encode_budget(budget))
        self._keep_budgets(budget.id, budget)

    async def delete_budget(self, budget_id: str) -> None:
        """Remove a budget, if it is there."""
        async with self._session() as connection:
            await connection.execute(_SQL["delete_budget"], self.account.id, budget_id)
        self._keep_budgets(budget_id)

    def _keep_budgets(self, budget_id: str, *added: Budget) -> None:
        others = [each for each in self.account.budgets if each.id != budget_id]
        together = sorted([*others, *added], key=lambda each: each.id)
        self.account = replace(self.account, budgets=tuple(together))

    async def redeem(self, promotion: str, maximum: int) -> Redemption:
        """Redeem a promotion for the account; see `redemptions.redeem`."""
        async with self._session() as connection:
            return await redemptions.redeem(connection, promotion, self.account.id, maximum)

    async def insert_grant(self, grant: Grant, fingerprint: str) -> None:
        """Keep a new grant's definition. `fingerprint` identifies the request that its id stands for.

        Raises:
            AlreadyExists: the account has a grant with this id.
        """
        async with self._session() as connection:
            inserted = await connection.fetchval(
                _SQL["insert_grant"],
                self.account.id,
                grant.id,
                grant.created_at,
                fingerprint,
                encode_grant(grant),
            )
        if inserted is None:
            raise AlreadyExists(f"grant {grant.id!r} exists", metadata={"kind": "grant", "key": grant.id})

    async def update_grant(self, grant: Grant) -> None:
        """Replace a grant's definition.

        Raises:
            NotFound: the account has no grant with this id.
        """
        async with self._session() as connection:
            updated = await connection.fetchval(
                _SQL["update_grant"], self.account.id, grant.id, encode_grant(grant)
            )
        if updated is None:
            raise NotFound("grant", grant.id)

    async def get_grant(self, grant_id: str) -> tuple[Grant, str] | None:
        """A grant's definition and its fingerprint."""
        async with self._session() as connection:
            row = await connection.fetchrow(_SQL["get_grant"], self.account.id, grant_id)
        return None if row is None else (decode_grant(row["document"]), row["fingerprint"])

    async def had_plan(self, key: str, now: int) -> bool:
        """Whether a subscription to the plan has given credits up to `now` (ms), and be it a canceled one."""
        async with self._session() as connection:
            rows = await connection.fetch(_SQL["list_grants"], self.account.id)
        given = [decode_grant(row["document"]) for row in rows]
        return any(
            grant.subscription
            and grant.source == f"plan/{key}"
            and grant.effective_at <= min(now, grant.voided_at or now)
            for grant in given
        )


@asynccontextmanager
async def change(
    connections: Connections, account_id: str, *, nonce: int, checkpoint_every: int
) -> AsyncIterator[AccountTransaction]:
    """See `Ledger.change`."""
    async with connections.lent() as connection:
        async with connections.mapped():
            transaction = await _load(connection, connections, account_id, nonce)
        yield transaction
        await transaction.finish(checkpoint=transaction.tail_length > checkpoint_every // 2)


async def _load(
    connection: Connection, connections: Connections, account_id: str, nonce: int
) -> AccountTransaction:
    # First the fence: what is read below in new statements is complete, because this one waited.
    head = await connection.fetchrow(_SQL["raise_epoch"], account_id, nonce)
    row = await connection.fetchrow(_SQL["get_account"], account_id)
    if head is None or row is None:
        raise NotFound("account", account_id)
    epoch = Epoch(head["epoch"], head["nonce"])
    transaction = AccountTransaction(connection, connections, account=to_account(row), epoch=epoch)
    transaction.catalog_version = row["catalog_version"]
    folded = Folding(await folding.read_checkpoint(connection, account_id))
    tombstones: list[Entry] = []
    async for entry in folding.tail(connection, account_id, folded.sequence):
        while folded.sequence + 1 < entry.sequence:
            # At the instant of what is beside the hole.
            filler = tombstone(account_id, folded.sequence + 1, folded.at or entry.at, epoch)
            tombstones.append(filler)
            folded.add(filler)
        folded.add(entry)
        transaction.tail_length += 1
    if tombstones:
        await folding.insert(connection, *tombstones)
    transaction.state = folded.state()
    return transaction
