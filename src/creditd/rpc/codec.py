"""Entitlements on the wire <-> the engine's terms."""

from __future__ import annotations

from typing import Any

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.decide import Mode
from creditd.domain.errors import CreditdError
from creditd.domain.state import Balances
from creditd.engine.control_types import BalanceView, GrantBalance
from creditd.engine.requests import LimitStatus, Ruling, Use
from creditd.rpc.checks import TEXT_BYTES_MAX, Checks
from creditd.rpc.codec_accounts import grant_to_proto
from creditd.rpc.codec_values import allocations_to_proto, json_to_proto, timestamp_to_proto
from creditd.rpc.errors import error_message
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1 import grants_pb2

REASONS = {name.removeprefix("REASON_"): number for name, number in pb.Reason.items()}
_MODES = {0: Mode.ENFORCE, 1: Mode.ENFORCE, 2: Mode.PARTIAL, 3: Mode.RECORD}
ATTRIBUTE_BYTES_MAX = 255


def read_check(request: pb.CheckRequest, checks: Checks, path: str = "") -> Use:
    """A CheckRequest; faults go to `checks`."""
    _common(request, checks, path)
    return Use(
        account=request.account,
        feature=request.feature,
        subject=request.subject,
        quantity=request.quantity if request.HasField("quantity") else None,
        usage=dict(request.usage),
        attributes=dict(request.attributes),
        metadata=dict(request.metadata),
        explain=request.explain,
    )


def read_consume(request: pb.ConsumeRequest, checks: Checks, path: str = "") -> Use:
    """A ConsumeRequest; faults go to `checks`."""
    _common(request, checks, path)
    if request.idempotency_key:
        checks.identifier(f"{path}idempotency_key", request.idempotency_key)
    mode = _MODES.get(request.mode)
    if mode is None:
        checks.enum(f"{path}mode", request.mode, pb.Mode)
    cost = request.cost_micros if request.HasField("cost_micros") else None
    if cost is not None:
        checks.number(f"{path}cost_micros", cost)
    return Use(
        account=request.account,
        feature=request.feature,
        subject=request.subject,
        quantity=request.quantity if request.HasField("quantity") else None,
        usage=dict(request.usage),
        attributes=dict(request.attributes),
        metadata=dict(request.metadata),
        mode=mode or Mode.ENFORCE,
        idempotency_key=request.idempotency_key,
        occurred_at=checks.instant(f"{path}occurred_at", request, "occurred_at"),
        cost_micros=cost,
    )


def _common(request: pb.CheckRequest | pb.ConsumeRequest, checks: Checks, path: str) -> None:
    checks.identifier(f"{path}account", request.account)
    checks.identifier(f"{path}feature", request.feature)
    if request.subject:
        checks.identifier(f"{path}subject", request.subject)
    if request.HasField("quantity"):
        checks.number(f"{path}quantity", request.quantity, low=-AMOUNT_MAX)
        if request.usage:
            checks.add(f"{path}usage", "is given together with quantity; give one of them")
    if request.usage:
        checks.quantities(f"{path}usage", request.usage)
    if request.attributes:
        checks.texts(f"{path}attributes", request.attributes, ATTRIBUTE_BYTES_MAX)
    if request.metadata:
        checks.texts(f"{path}metadata", request.metadata, TEXT_BYTES_MAX)


def check_response(ruling: Ruling) -> pb.CheckResponse:
    """The answer to a Check."""
    response = pb.CheckResponse(
        allowed=ruling.allowed,
        reason=REASONS[ruling.reason],
        message=ruling.message,
        cost_micros=ruling.charged,
        affordable_quantity=ruling.affordable,
        credit=ruling.credit,
        catalog_version=ruling.catalog_version,
        balance=balance_of(ruling),
        limit=optional_limit_to_proto(ruling.limit),
        explanation=[
            pb.Step(kind=step.kind, key=step.key, detail=step.detail, amount_micros=step.amount)
            for step in ruling.explanation
        ],
    )
    if ruling.value is not None:
        response.value.CopyFrom(json_to_proto(ruling.value))
    return response


def consume_response(ruling: Ruling) -> pb.ConsumeResponse:
    """The answer to a Consume."""
    return pb.ConsumeResponse(
        allowed=ruling.allowed,
        reason=REASONS[ruling.reason],
        message=ruling.message,
        charged_micros=ruling.charged,
        overage_micros=ruling.overage,
        balance=balance_of(ruling),
        limit=optional_limit_to_proto(ruling.limit),
        entry_id=ruling.entry_id,
        sequence=ruling.sequence,
        allocations=allocations_to_proto(ruling.allocations),
        replayed=ruling.replayed,
        credit=ruling.credit,
        shortfall_micros=ruling.shortfall,
    )


def check_result(outcome: Ruling | CreditdError) -> pb.CheckResult:
    """One item of a BatchCheck."""
    if isinstance(outcome, CreditdError):
        return pb.CheckResult(error=error_message(outcome))
    return pb.CheckResult(response=check_response(outcome))


def consume_result(outcome: Ruling | CreditdError) -> pb.ConsumeResult:
    """One item of a BatchConsume."""
    if isinstance(outcome, CreditdError):
        return pb.ConsumeResult(error=error_message(outcome))
    return pb.ConsumeResult(response=consume_response(outcome))


def balance_of(ruling: Ruling) -> pb.Balance | None:
    """The balance in an answer."""
    if ruling.balances is None:
        return None
    return balance_to_proto(ruling.credit, ruling.balances, ruling.overage_used)


def balance_to_proto(credit: str, balances: Balances, overage_used: int) -> pb.Balance:
    """A balance on the wire."""
    message = pb.Balance(
        credit=credit,
        available_micros=balances.available,
        held_micros=balances.held,
        overage_micros=overage_used,
        granted_micros=balances.granted,
        debt_micros=balances.debt,
    )
    if balances.next_expiry:
        message.next_expiry.CopyFrom(timestamp_to_proto(balances.next_expiry))
    if balances.next_refill:
        message.next_refill.CopyFrom(timestamp_to_proto(balances.next_refill))
    return message


def optional_limit_to_proto(limit: LimitStatus | None) -> pb.LimitStatus | None:
    """Where a limit stands, where there is one."""
    return None if limit is None else limit_to_proto(limit)


def limit_to_proto(limit: LimitStatus) -> pb.LimitStatus:
    """Where a limit stands, on the wire."""
    unlimited = limit.limit < 0
    return pb.LimitStatus(
        limit=0 if unlimited else limit.limit,
        used=limit.used,
        remaining=0 if unlimited else limit.remaining,
        unlimited=unlimited,
        resets_at=timestamp_to_proto(limit.resets_at) if limit.resets_at else None,
    )


def balance_response(view: BalanceView, account: str) -> pb.GetBalanceResponse:
    """The answer to GetBalance."""
    return pb.GetBalanceResponse(
        balances=[balance_to_proto(item.credit, item.balances, item.overage_used) for item in view.balances],
        grants=[grant_balance_to_proto(item, account) for item in view.grants],
        sequence=view.sequence,
    )


def grant_balance_to_proto(item: GrantBalance, account: str) -> grants_pb2.GrantBalance:
    """A grant with what is left of it."""
    message: Any = grants_pb2.GrantBalance(remaining_micros=item.remaining)
    message.grant.CopyFrom(grant_to_proto(item.grant, account))
    return message  # type: ignore[no-any-return]
