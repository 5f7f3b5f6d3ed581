"""Entries and units for the ledger's tests."""

from __future__ import annotations

from typing import Any

import asyncpg

from creditd.domain.accounts import Account, Epoch
from creditd.domain.entries import Effects, Entry, GrantChange, Kind
from creditd.domain.grants import Category, Grant
from creditd.ledger import Ledger, Unit

ACCOUNT = "acme"
NONCE = 7
FIRST = Epoch(1, NONCE)
"""The epoch of a new account, with the tests' nonce."""


def grant(grant_id: str = "g", amount: int = 1_000) -> Grant:
    return Grant(grant_id, "ai", amount, Category.PURCHASE, priority=30, effective_at=0, created_at=0)


def granted(sequence: int = 1, amount: int = 1_000, **fields: Any) -> Entry:
    """An entry that gives a grant, active at once."""
    given = grant(amount=amount)
    effects = Effects(put=given, activated=given.id, grants=(GrantChange(given.id, amount),))
    return entry(sequence, kind=Kind.GRANT, amount=amount, effects=effects, **fields)


def burned(sequence: int, amount: int = 10, **fields: Any) -> Entry:
    """An entry that burns of that grant."""
    return entry(sequence, amount=-amount, effects=Effects(grants=(GrantChange("g", -amount),)), **fields)


def entry(sequence: int, **fields: Any) -> Entry:
    defaults: dict[str, Any] = {
        "id": f"entry-{sequence}",
        "account": ACCOUNT,
        "kind": Kind.CONSUME,
        "at": 1_000 + sequence,
        "credit": "ai",
    }
    return Entry(sequence=sequence, **(defaults | fields))


def unit(*entries: Entry, epoch: Epoch = FIRST, depends: int = 0, settles: int = 0) -> Unit:
    return Unit(entries[0].account, epoch, depends, entries, settles)


async def ids(ledger: Ledger, account: str = ACCOUNT) -> dict[int, str]:
    """What is in the ledger of an account: the ids by sequence."""
    listed = await ledger.list_entries(account, limit=10_000)
    return {each.sequence: each.id for each in reversed(listed)}


async def new_account(ledger: Ledger, account: str = ACCOUNT) -> None:
    await ledger.create_account(Account(account, created_at=0))


_WAITING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'
"""


async def waiting(connection: asyncpg.Connection, statement: str) -> int:
    """The backend that waits for a lock in a statement with this text, once there is one."""
    while True:
        pid: int | None = await connection.fetchval(_WAITING, statement)
        if pid is not None:
            return pid
