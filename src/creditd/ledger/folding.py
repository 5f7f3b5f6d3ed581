"""An account's state from its checkpoint and the entries after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from creditd.domain.entries import Entry
from creditd.domain.fold import fold
from creditd.domain.state import AccountState
from creditd.ledger.codec import decode_state, encode_state
from creditd.ledger.connection import Connection
from creditd.ledger.queries import load
from creditd.ledger.rows import to_columns, to_entry, to_row

_SQL: Final = load("entries")

_PAGE: Final = 2_000
"""Entries of a tail that are in memory at once."""


async def read_checkpoint(connection: Connection, account: str) -> AccountState:
    """The state of the last checkpoint; the empty state when there is none that this release can read."""
    text = await connection.fetchval(_SQL["checkpoint"], account)
    state = None if text is None else decode_state(account, text)
    return AccountState(account) if state is None else state


async def write_checkpoint(connection: Connection, state: AccountState) -> None:
    """Keep a state, unless a later one is kept already."""
    await connection.execute(
        _SQL["put_checkpoint"], state.account, state.sequence, state.at, encode_state(state)
    )


async def tail(connection: Connection, account: str, after: int) -> AsyncIterator[Entry]:
    """The entries with a sequence above `after`, oldest first."""
    while True:
        rows = await connection.fetch(_SQL["tail"], account, after, _PAGE)
        for row in rows:
            yield to_entry(row)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["sequence"]


async def insert(connection: Connection, *entries: Entry) -> None:
    """Insert entries under the account's head lock; any conflict is an error."""
    await connection.execute(_SQL["insert"], *to_columns([to_row(entry) for entry in entries]))


async def fold_prefix(connection: Connection, state: AccountState) -> AccountState:
    """`state` with the entries that follow it up to the first hole.

    A hole is the place of an append that has not landed yet, or never will.
    """
    async for entry in tail(connection, state.account, state.sequence):
        if entry.sequence != state.sequence + 1:
            break
        state = fold(state, entry)
    return state
