"""Ledger entries in a load transaction: found by their key, and written with the grants that they bring or change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from creditd.domain.entries import Entry, Kind
from creditd.domain.errors import IdempotencyKeyReused
from creditd.ledger.transaction import AccountTransaction


async def earlier_entry(tx: AccountTransaction, key: str, mark: str) -> Entry | None:
    """The entry of the same request made before under its idempotency key; None without one, and without a key.

    Raises:
        IdempotencyKeyReused: the key belongs to another request, by the fingerprint `mark`.
    """
    entry = await tx.find_key(key) if key else None
    if entry is not None and entry.fingerprint != mark:
        raise IdempotencyKeyReused(key)
    return entry


async def write(tx: AccountTransaction, entries: Iterable[Entry]) -> None:
    """Append entries that follow the transaction's state, and keep its grants' definitions as they say."""
    written = list(entries)
    known = set(tx.state.grants)
    for entry in written:
        put = entry.effects.put
        if put is not None and put.id in known:
            await tx.update_grant(put)
        elif put is not None:
            await tx.insert_grant(put, entry.fingerprint)
            known.add(put.id)
        if entry.kind is Kind.VOID:
            found = await tx.get_grant(entry.grant_id)
            if found is not None:
                await tx.update_grant(replace(found[0], voided_at=entry.at))
    await tx.append(*written)
