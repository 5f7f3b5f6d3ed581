"""Ledger entries on the wire."""

from __future__ import annotations

from dataclasses import replace

from creditd.domain.entries import INTERNAL_KEY, Entry, Kind
from creditd.engine.control_types import EntryQuery
from creditd.rpc.checks import MAP_MAX, Checks
from creditd.rpc.codec_values import allocations_to_proto, money_to_proto, timestamp_to_proto
from creditd.v1 import ledger_pb2 as pb

_KINDS = pb.Entry.Kind


def read_query(request: pb.ListEntriesRequest, checks: Checks) -> EntryQuery:
    """Which entries to list."""
    checks.identifier("account", request.account)
    for field in ("feature", "subject", "credit"):
        checks.identifier(field, getattr(request, field), required=False)
    if len(request.kinds) > MAP_MAX:
        checks.add("kinds", f"has {len(request.kinds)} kinds; at most {MAP_MAX} are allowed")
    for place, kind in enumerate(request.kinds[:MAP_MAX]):
        checks.enum(f"kinds[{place}]", kind, _KINDS)
        if kind == 0:
            checks.add(f"kinds[{place}]", "is KIND_UNSPECIFIED; leave kinds empty for every kind")
    query = EntryQuery(
        account=request.account,
        since=checks.instant("since", request, "since"),
        until=checks.instant("until", request, "until"),
        feature=request.feature,
        subject=request.subject,
        credit=request.credit,
        before=checks.page_number(request.page_token),
        limit=checks.page_size(request.page_size),
    )
    checks.done()
    kinds = tuple(Kind(_KINDS.Name(kind).removeprefix("KIND_")) for kind in request.kinds)
    return replace(query, kinds=kinds)


def told_key(entry: Entry) -> str:
    """The key that a caller gave the entry; those that creditd makes for itself are nobody's business."""
    key = entry.idempotency_key or ""
    return "" if key.startswith(INTERNAL_KEY) else key


def entry_to_proto(entry: Entry) -> pb.Entry:
    """An entry on the wire."""
    message = pb.Entry(
        id=entry.id,
        account=entry.account,
        sequence=entry.sequence,
        kind=_KINDS.Value(f"KIND_{entry.kind.value}"),
        credit=entry.credit,
        amount_micros=entry.amount,
        feature=entry.feature,
        subject=entry.subject,
        usage=entry.usage,
        attributes=entry.attributes,
        metadata=entry.metadata,
        allocations=allocations_to_proto(entry.allocations),
        overage_micros=entry.overage,
        balance_after_micros=entry.balance_after,
        at=timestamp_to_proto(entry.at),
        idempotency_key=told_key(entry),
        catalog_version=entry.catalog_version,
        reservation_id=entry.reservation_id,
        grant_id=entry.grant_id,
        reverses=entry.reverses,
    )
    if entry.occurred_at is not None:
        message.occurred_at.CopyFrom(timestamp_to_proto(entry.occurred_at))
    if entry.cost is not None:
        message.cost.CopyFrom(money_to_proto(entry.cost))
    return message
