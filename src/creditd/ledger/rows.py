"""An `Entry` as a row of the table `entries`, and back. Hand-written: appends go through here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import asyncpg

from creditd.domain.entries import Entry, Kind
from creditd.ledger.codec import decode_detail, encode_detail

COLUMNS: Final = (
    "account",
    "sequence",
    "id",
    "kind",
    "at",
    "credit",
    "amount",
    "balance_after",
    "feature",
    "subject",
    "idempotency_key",
    "fingerprint",
    "overage",
    "occurred_at",
    "catalog_version",
    "grant_id",
    "reservation_id",
    "reverses",
    "note",
    "detail",
)
"""The columns of an entry, in the order of `to_row`, of every query here, and of the appends' parameters."""

Row = tuple[Any, ...]


def to_row(entry: Entry) -> Row:
    """The values of `COLUMNS`."""
    return (
        entry.account,
        entry.sequence,
        entry.id,
        entry.kind,
        entry.at,
        entry.credit,
        entry.amount,
        entry.balance_after,
        entry.feature,
        entry.subject,
        entry.idempotency_key,
        entry.fingerprint,
        entry.overage,
        entry.occurred_at,
        entry.catalog_version,
        entry.grant_id,
        entry.reservation_id,
        entry.reverses,
        entry.note,
        encode_detail(entry),
    )


def to_columns(rows: Sequence[Row]) -> Iterable[tuple[Any, ...]]:
    """Rows as arrays, one for each column, as `unnest` takes them; at least one row."""
    return zip(*rows, strict=True)


def to_entry(row: asyncpg.Record | Row) -> Entry:
    """The entry of a row with exactly `COLUMNS`."""
    (
        account,
        sequence,
        entry_id,
        kind,
        at,
        credit,
        amount,
        balance_after,
        feature,
        subject,
        idempotency_key,
        fingerprint,
        overage,
        occurred_at,
        catalog_version,
        grant_id,
        reservation_id,
        reverses,
        note,
        text,
    ) = row
    detail = decode_detail(text)
    return Entry(
        id=entry_id,
        account=account,
        sequence=sequence,
        kind=Kind(kind),
        at=at,
        credit=credit,
        amount=amount,
        balance_after=balance_after,
        feature=feature,
        subject=subject,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
        usage=detail.usage,
        attributes=detail.attributes,
        metadata=detail.metadata,
        allocations=detail.allocations,
        overage=overage,
        occurred_at=occurred_at,
        catalog_version=catalog_version,
        reservation_id=reservation_id,
        grant_id=grant_id,
        reverses=reverses,
        cost=detail.cost,
        note=note,
        effects=detail.effects,
        answer=detail.answer,
    )
