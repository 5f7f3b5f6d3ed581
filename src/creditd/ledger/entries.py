"""Reading the log outside of load transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from creditd.domain.entries import Entry, Kind
from creditd.domain.fold import Folding
from creditd.domain.state import AccountState
from creditd.ledger import folding
from creditd.ledger.connection import Connections
from creditd.ledger.queries import load
from creditd.ledger.rows import to_entry

_SQL: Final = load("entries")
_FOUND_BY_KEY: Final = load("append")["found_by_key"]


async def by_keys(connections: Connections, account: str, keys: Sequence[str]) -> dict[str, Entry]:
    """See `Ledger.find_keys`."""
    async with connections.session() as connection:
        rows = await connection.fetch(_SQL["by_keys"], account, keys)
    return {row["idempotency_key"]: to_entry(row) for row in rows}


async def by_pairs(
    connections: Connections, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Entry]:
    """See `Ledger.find_pairs`."""
    async with connections.session() as connection:
        rows = await connection.fetch(
            _FOUND_BY_KEY, [account for account, _key in pairs], [key for _account, key in pairs]
        )
    return {(row["account"], row["idempotency_key"]): to_entry(row) for row in rows}


async def read(connections: Connections, account: str, *, from_start: bool) -> AccountState:
    """See `Ledger.read`."""
    async with connections.snapshot() as connection:
        state = AccountState(account) if from_start else await folding.read_checkpoint(connection, account)
        return await folding.fold_prefix(connection, state)


async def read_until(connections: Connections, account: str, at: int) -> AccountState:
    """See `Ledger.read_until`. Instants never go down along the sequence, so that the first later one ends it."""
    folded = Folding(AccountState(account))
    async with connections.snapshot() as connection:
        async for entry in folding.tail(connection, account, 0):
            if entry.at > at or entry.sequence != folded.sequence + 1:
                break
            folded.add(entry)
    return folded.state()


async def checkpoint(connections: Connections, account: str) -> int:
    """See `Ledger.checkpoint`."""
    async with connections.session() as connection:
        # No snapshot is needed: what is below the first hole never changes.
        before = await folding.read_checkpoint(connection, account)
        state = await folding.fold_prefix(connection, before)
        if state.sequence > before.sequence:
            await folding.write_checkpoint(connection, state)
    return state.sequence


async def head_sequence(connections: Connections, account: str) -> int:
    """See `Ledger.head_sequence`."""
    async with connections.session() as connection:
        sequence: int | None = await connection.fetchval(_SQL["head_sequence"], account)
    return sequence or 0


async def listed(
    connections: Connections,
    account: str,
    *,
    limit: int,
    before_sequence: int | None,
    since: int | None,
    until: int | None,
    kinds: Sequence[Kind],
    feature: str,
    subject: str,
    credit: str,
) -> list[Entry]:
    """See `Ledger.list_entries`."""
    async with connections.session() as connection:
        rows = await connection.fetch(
            _SQL["listed"], account, before_sequence, limit, since, until, kinds, feature, subject, credit
        )
    return [to_entry(row) for row in rows]
