"""An account's state from its checkpoint and the entries after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from creditd.domain.entries import Entry, Kind
from creditd.domain.fold import Folding
from creditd.domain.state import AccountState
from creditd.ledger.codec import decode_effects, decode_state, encode_state
from creditd.ledger.connection import Connection
from creditd.ledger.queries import load
from creditd.ledger.rows import to_columns, to_row

_SQL: Final = load("entries")

_PAGE: Final = 500
"""Entries of a tail that are in memory at once, and are folded before other work has its turn: some milliseconds."""


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
    """The entries with a sequence above `after`, oldest first, with what folding them needs and no more."""
    while True:
        rows = await connection.fetch(_SQL["tail"], account, after, _PAGE)
        for sequence, entry_id, at, credit, grant_id, effects in rows:
            yield Entry(
                id=entry_id,
                account=account,
                sequence=sequence,
                kind=Kind.ADJUST,
                at=at,
                credit=credit,
                grant_id=grant_id,
                effects=decode_effects(effects),
            )
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
    folding = Folding(state)
    async for entry in tail(connection, state.account, state.sequence):
        if entry.sequence != folding.sequence + 1:
            break
        folding.add(entry)
    return folding.state()
