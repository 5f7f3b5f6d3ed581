"""What the error of a call tells, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault of a request.

    Attributes:
        field: path of the field, such as `usage["input_tokens"]`.
        description: what is wrong with it.
    """

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """What a failed call tells.

    Attributes:
        code: the gRPC status code.
        message: what is wrong, in words; for people, not stable.
        reason: stable, such as FEATURE_NOT_FOUND: decide on it. Empty when the error was not made by a creditd
            server, as when none answers.
        domain: `creditd`, or empty like `reason`.
        metadata: the variables of `message`, such as the id that was not found.
        violations: all the faults of a malformed request.
        retry_delay: how long to wait before a retry; None when the server does not say.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_delay: timedelta | None = None


def error_details(error: grpc.RpcError) -> ErrorDetails:
    """Take the error of a call apart, whether of a channel of grpc or of grpc.aio.

    Raises:
        TypeError: `error` is no error of a call: it has no status.
        ValueError: its details contradict its status, so something between client and server is broken.
    """
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        raise TypeError(f"{type(error).__name__} is no error of a call")
    # An AioRpcError has what from_call reads, whatever its type says.
    status = rpc_status.from_call(cast("grpc.Call", error))
    info, request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    violations: list[Violation] = []
    delay: timedelta | None = None
    for detail in status.details if status else ():
        # Unpack says whether it was of that kind.
        if detail.Unpack(request):
            violations += [Violation(each.field, each.description) for each in request.field_violations]
        elif detail.Unpack(retry):
            delay = retry.retry_delay.ToTimedelta()
        else:
            detail.Unpack(info)
    return ErrorDetails(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        violations=tuple(violations),
        retry_delay=delay,
    )
