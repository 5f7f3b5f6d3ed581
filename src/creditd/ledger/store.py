"""`Ledger`: everything that the rest of creditd asks of PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from creditd.domain.accounts import Account, Epoch, TestClock
from creditd.domain.catalog import Catalog, Plan
from creditd.domain.entries import Entry, Kind
from creditd.domain.grants import Grant
from creditd.domain.state import AccountState
from creditd.ledger import accounts, catalogs, clocks, entries, transaction
from creditd.ledger.accounts import Gift
from creditd.ledger.append import Outcome, Unit, append
from creditd.ledger.catalogs import CatalogVersion
from creditd.ledger.connection import Connections, Line
from creditd.ledger.transaction import AccountTransaction

CHECKPOINT_EVERY: Final = 256
"""Entries of an account between two checkpoints."""


def random_nonce() -> int:
    """The random part of an epoch: 53 bits, which Lua and JSON keep exactly."""
    return secrets.randbits(53)


class Ledger:
    """The truth about every account. One per process and event loop; safe for concurrent use.

    Every method raises `Unavailable` when the database is away or did not answer in time; after a write the
    outcome is then unknown, and doing the same again is right. Instants are ms, amounts micros.
    """

    def __init__(self, connections: Connections, *, nonce: Callable[[], int], checkpoint_every: int) -> None:
        self._connections = connections
        self._nonce = nonce
        self._checkpoint_every = checkpoint_every
        # One plan for every flight, by keys only: never planned anew, never a scan for lack of statistics.
        self._line = Line(connections, plan_cache_mode="force_generic_plan", enable_seqscan="off")

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        pool_min: int = 1,
        pool_max: int = 8,
        timeout_s: float = 5.0,
        nonce: Callable[[], int] = random_nonce,
        checkpoint_every: int = CHECKPOINT_EVERY,
    ) -> Ledger:
        """Connect to a migrated database.

        Args:
            dsn: the database. With several hosts, add `target_session_attrs=read-write`.
            pool_min: connections that are kept open.
            pool_max: connections at most, besides the one for appends.
            timeout_s: bounds each statement, each wait for a connection and each pause in a transaction.
            nonce: gives the random part of each new epoch, 0 to 2**63 - 1.
            checkpoint_every: entries of an account between two checkpoints.
        """
        connections = await Connections.open(dsn, pool_min=pool_min, pool_max=pool_max, timeout_s=timeout_s)
        return cls(connections, nonce=nonce, checkpoint_every=checkpoint_every)

    async def close(self) -> None:
        """Close all connections, after what is running on them."""
        await self._line.close()
        await self._connections.close()

    async def ping(self) -> None:
        """Return when the database has answered."""
        async with self._connections.session() as connection:
            await connection.execute("SELECT 1")

    # Appends and loads: the write protocol.

    async def append(self, units: Sequence[Unit]) -> list[Outcome]:
        """Append decided entries; see `ledger.append`. The outcomes are in the order of the units.

        Calls take turns on one connection: gather what arrives meanwhile into the next call.
        """
        if not units:
            return []
        async with self._line.use() as connection:
            return await append(connection, units)

    def change(self, account: str) -> AbstractAsyncContextManager[AccountTransaction]:
        """Load an account and change it, in one transaction that has raised its epoch.

        It waits for the appends in flight and turns away every later one of an older epoch; places below the
        head that they have left empty become tombstones. It commits at a clean end and rolls back, epoch and
        all, on an exception, which passes unchanged.

        Raises:
            NotFound: there is no such account.
            Unavailable: at the end, as from any write: the outcome is unknown.
        """
        return transaction.change(
            self._connections, account, nonce=self._nonce(), checkpoint_every=self._checkpoint_every
        )

    # Reading the log.

    async def find_key(self, account: str, key: str) -> Entry | None:
        """The entry of an idempotency key."""
        return (await self.find_keys(account, [key])).get(key)

    async def find_keys(self, account: str, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries of idempotency keys, by key; those that are not in the ledger are left out."""
        return await entries.by_keys(self._connections, account, keys)

    async def find_pairs(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Entry]:
        """The entries of (account, idempotency key) pairs of any accounts; unknown ones are left out."""
        return await entries.by_pairs(self._connections, pairs)

    async def read(self, account: str, *, from_start: bool = False) -> AccountState:
        """The folded entries up to the first hole, from one snapshot; nothing is locked or changed.

        The empty state for an account without entries. With `from_start` no checkpoint is used.
        """
        return await entries.read(self._connections, account, from_start=from_start)

    async def read_until(self, account: str, at: int) -> AccountState:
        """The folded entries up to and including the instant `at` (ms), in pages from the first one."""
        return await entries.read_until(self._connections, account, at)

    async def account_at(self, account: str, at: int) -> Account | None:
        """The account with all that decided for it at the instant `at` (ms); None before it was created."""
        return await accounts.version_at(self._connections, account, at)

    async def checkpoint(self, account: str) -> int:
        """Keep the folded entries up to the first hole for later loads; returns their sequence."""
        return await entries.checkpoint(self._connections, account)

    async def head_sequence(self, account: str) -> int:
        """The last sequence in the ledger, 0 when there is none; there may be holes below."""
        return await entries.head_sequence(self._connections, account)

    async def list_entries(
        self,
        account: str,
        *,
        limit: int,
        before_sequence: int | None = None,
        since: int | None = None,
        until: int | None = None,
        kinds: Sequence[Kind] = (),
        feature: str = "",
        subject: str = "",
        credit: str = "",
    ) -> list[Entry]:
        """Entries newest first, tombstones included; `since` is inclusive, `until` exclusive, empty = all."""
        return await entries.listed(
            self._connections,
            account,
            limit=limit,
            before_sequence=before_sequence,
            since=since,
            until=until,
            kinds=kinds,
            feature=feature,
            subject=subject,
            credit=credit,
        )

    # Accounts.

    async def create_account(self, account: Account, gifts: Sequence[Gift] = ()) -> Account:
        """Create an account with its subscriptions, its fence at epoch 1, and what it is given at the start.

        Returns `account` itself when it is new, else the one that has its id.

        Raises:
            NotFound: its test clock does not exist.
        """
        return await accounts.create(self._connections, account, nonce=self._nonce(), gifts=gifts)

    async def get_account(self, account: str) -> Account | None:
        """An account with its subscriptions."""
        return await accounts.get(self._connections, account)

    async def epochs(self, ids: Sequence[str]) -> dict[str, Epoch]:
        """The epoch in force of each account; unknown ones are left out."""
        return await accounts.epochs(self._connections, ids)

    async def list_accounts(
        self, *, limit: int, after_id: str = "", prefix: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Account]:
        """Accounts by id (bytewise), after an id; only those with the prefix and all the labels, if given."""
        return await accounts.listed(
            self._connections, after_id=after_id, limit=limit, prefix=prefix, labels=labels or {}
        )

    async def list_grants(self, account: str) -> list[Grant]:
        """All grants ever made to an account, oldest first. What is left of them is in its state."""
        return await accounts.grants(self._connections, account)

    # Catalogs.

    async def apply_catalog(
        self,
        catalog: Catalog,
        *,
        effective_at: int,
        created_at: int,
        note: str = "",
        expected_version: int | None = None,
        plans: Sequence[Plan] = (),
    ) -> int:
        """Keep a catalog as the next version, and new versions of its plans; returns the version.

        Replicas that listen on `catalogs.CATALOG_CHANNEL` are told the version.

        Raises:
            FailedPrecondition: VERSION_MISMATCH, the latest version is not the expected one (0 = none yet),
                or a plan version is taken.
        """
        return await catalogs.apply(
            self._connections,
            catalog,
            effective_at=effective_at,
            created_at=created_at,
            note=note,
            expected_version=expected_version,
            plans=plans,
        )

    async def catalog_timeline(self) -> list[tuple[int, int]]:
        """(version, effective_at) of every catalog, by version."""
        return await catalogs.timeline(self._connections)

    async def get_catalog(self, version: int) -> CatalogVersion | None:
        """One version of the catalog."""
        return await catalogs.get(self._connections, version)

    async def list_catalogs(self, *, limit: int, before: int | None = None) -> list[CatalogVersion]:
        """Versions of the catalog before one, newest first."""
        return await catalogs.listed(self._connections, before=before, limit=limit)

    async def get_plan(self, key: str, version: int) -> Plan | None:
        """One version of a plan."""
        return await catalogs.get_plan(self._connections, key, version)

    async def latest_plans(self) -> dict[str, Plan]:
        """The highest version of every plan that ever was, by key."""
        return await catalogs.latest_plans(self._connections)

    async def plans_in_use(self) -> list[tuple[str, int]]:
        """The plan versions that somebody subscribes to, canceled subscriptions left out."""
        return await catalogs.plans_in_use(self._connections)

    async def count_subscribers(self, plans: Sequence[tuple[str, int]]) -> int:
        """How many accounts subscribe to any of some plan versions."""
        return await catalogs.count_subscribers(self._connections, plans)

    async def add_on_users(self, add_on: str) -> int:
        """How many accounts have an add-on."""
        return await catalogs.add_on_users(self._connections, add_on)

    async def count_accounts(self) -> int:
        """How many accounts there are, archived ones left out."""
        return await catalogs.count_accounts(self._connections)

    # Test clocks.

    async def create_clock(self, clock: TestClock) -> None:
        """Create a test clock.

        Raises:
            AlreadyExists: the id is taken.
        """
        await clocks.create(self._connections, clock)

    async def get_clock(self, clock: str) -> TestClock | None:
        """A test clock by its id."""
        return await clocks.get(self._connections, clock)

    async def advance_clock(self, clock: str, now: int) -> TestClock:
        """Move a test clock to `now`; to where it is already is allowed.

        Raises:
            NotFound: there is no such clock.
            FailedPrecondition: CLOCK_BACKWARDS, it is further already.
        """
        return await clocks.advance(self._connections, clock, now)

    async def delete_clock(self, clock: str) -> None:
        """Delete a test clock.

        Raises:
            NotFound: there is no such clock.
            FailedPrecondition: CLOCK_IN_USE, accounts are on it.
        """
        await clocks.delete(self._connections, clock)
