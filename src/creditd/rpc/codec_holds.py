"""Reservations and refunds on the wire <-> the engine's terms."""

from __future__ import annotations

from typing import Final

from creditd.domain.decide import Mode
from creditd.engine.requests import Action, Refund, Reservation, Ruling, Use
from creditd.rpc.checks import TEXT_BYTES_MAX, Checks
from creditd.rpc.codec import ATTRIBUTE_BYTES_MAX, REASONS, balance_of, optional_limit_to_proto
from creditd.rpc.codec_values import allocations_to_proto, timestamp_to_proto
from creditd.v1 import entitlements_pb2 as pb

TTL_MIN_MS: Final = 1_000
TTL_MAX_MS: Final = 24 * 3_600_000
TTL_DEFAULT_MS: Final = 5 * 60_000


def read_reserve(request: pb.ReserveRequest, checks: Checks) -> Use:
    """A ReserveRequest; faults go to `checks`."""
    checks.identifier("feature", request.feature)
    checks.identifier("subject", request.subject, required=False)
    ttl = checks.duration("ttl", request, "ttl", TTL_MIN_MS, TTL_MAX_MS)
    reservation = Reservation(Action.RESERVE, ttl_ms=TTL_DEFAULT_MS if ttl is None else ttl)
    return Use(
        account=_account(request, checks),
        feature=request.feature,
        subject=request.subject,
        quantity=_quantity(request, checks),
        usage=dict(request.usage),
        attributes=_attributes(request, checks),
        metadata=_metadata(request, checks),
        idempotency_key=_key(request, checks),
        cost_micros=_cost(request, checks),
        reservation=reservation,
    )


def read_extend(request: pb.ExtendRequest, checks: Checks) -> Use:
    """An ExtendRequest; faults go to `checks`."""
    ttl = checks.duration("ttl", request, "ttl", TTL_MIN_MS, TTL_MAX_MS)
    return Use(
        account=_account(request, checks),
        feature="",
        quantity=_quantity(request, checks),
        usage=dict(request.usage),
        idempotency_key=_key(request, checks),
        cost_micros=_cost(request, checks),
        reservation=Reservation(Action.EXTEND, _reservation(request, checks), ttl_ms=ttl),
    )


def read_commit(request: pb.CommitRequest, checks: Checks) -> Use:
    """A CommitRequest; faults go to `checks`."""
    reservation_id = _reservation(request, checks)
    return Use(
        account=_account(request, checks),
        feature="",
        quantity=_quantity(request, checks),
        usage=dict(request.usage),
        attributes=_attributes(request, checks),
        metadata=_metadata(request, checks),
        mode=Mode.RECORD,
        idempotency_key=_key(request, checks),
        cost_micros=_cost(request, checks),
        reservation=Reservation(Action.COMMIT, reservation_id, keep_open=request.keep_open),
    )


def read_release(request: pb.ReleaseRequest, checks: Checks) -> Use:
    """A ReleaseRequest; faults go to `checks`."""
    reservation = Reservation(Action.RELEASE, _reservation(request, checks))
    return Use(_account(request, checks), "", mode=Mode.RECORD, reservation=reservation)


def read_refund(request: pb.RefundRequest, checks: Checks) -> Refund:
    """A RefundRequest; faults go to `checks`."""
    checks.identifier("entry_id", request.entry_id)
    checks.identifier("idempotency_key", request.idempotency_key)
    checks.text("reason", request.reason)
    amount = request.amount_micros if request.HasField("amount_micros") else None
    if amount is not None:
        checks.number("amount_micros", amount, low=1)
    return Refund(
        account=_account(request, checks),
        entry_id=request.entry_id,
        amount=amount,
        idempotency_key=request.idempotency_key,
        reason=request.reason,
    )


_Any = pb.ReserveRequest | pb.ExtendRequest | pb.CommitRequest | pb.ReleaseRequest | pb.RefundRequest
_Using = pb.ReserveRequest | pb.ExtendRequest | pb.CommitRequest


def _account(request: _Any, checks: Checks) -> str:
    checks.identifier("account", request.account)
    return request.account


def _reservation(request: pb.ExtendRequest | pb.CommitRequest | pb.ReleaseRequest, checks: Checks) -> str:
    checks.identifier("reservation_id", request.reservation_id)
    return request.reservation_id


def _key(request: _Using, checks: Checks) -> str:
    checks.identifier("idempotency_key", request.idempotency_key, required=False)
    return request.idempotency_key


def _quantity(request: _Using, checks: Checks) -> int | None:
    if request.usage:
        checks.quantities("usage", request.usage)
    if not request.HasField("quantity"):
        return None
    checks.number("quantity", request.quantity)
    if request.usage:
        checks.add("usage", "is given together with quantity; give one of them")
    return request.quantity


def _cost(request: _Using, checks: Checks) -> int | None:
    if not request.HasField("cost_micros"):
        return None
    checks.number("cost_micros", request.cost_micros)
    return request.cost_micros


def _attributes(request: pb.ReserveRequest | pb.CommitRequest, checks: Checks) -> dict[str, str]:
    checks.texts("attributes", request.attributes, ATTRIBUTE_BYTES_MAX)
    return dict(request.attributes)


def _metadata(request: pb.ReserveRequest | pb.CommitRequest, checks: Checks) -> dict[str, str]:
    checks.texts("metadata", request.metadata, TEXT_BYTES_MAX)
    return dict(request.metadata)


def reserve_response(ruling: Ruling) -> pb.ReserveResponse:
    """The answer to a Reserve or an Extend."""
    return pb.ReserveResponse(
        allowed=ruling.allowed,
        reason=REASONS[ruling.reason],
        message=ruling.message,
        reservation_id=ruling.reservation_id,
        held_micros=ruling.reserved,
        expires_at=timestamp_to_proto(ruling.expires_at) if ruling.expires_at else None,
        balance=balance_of(ruling),
        limit=optional_limit_to_proto(ruling.limit),
        replayed=ruling.replayed,
        shortfall_micros=ruling.shortfall,
    )


def commit_response(ruling: Ruling) -> pb.CommitResponse:
    """The answer to a Commit."""
    return pb.CommitResponse(
        charged_micros=ruling.charged,
        released_micros=ruling.released,
        overage_micros=ruling.overage,
        balance=balance_of(ruling),
        entry_id=ruling.entry_id,
        sequence=ruling.sequence,
        allocations=allocations_to_proto(ruling.allocations),
        replayed=ruling.replayed,
        limit=optional_limit_to_proto(ruling.limit),
    )


def release_response(ruling: Ruling) -> pb.ReleaseResponse:
    """The answer to a Release."""
    return pb.ReleaseResponse(
        released_micros=ruling.released,
        balance=balance_of(ruling),
        replayed=ruling.replayed,
    )


def refund_response(ruling: Ruling) -> pb.RefundResponse:
    """The answer to a Refund."""
    return pb.RefundResponse(
        refunded_micros=ruling.released,
        balance=balance_of(ruling),
        entry_id=ruling.entry_id,
        sequence=ruling.sequence,
        replayed=ruling.replayed,
    )
