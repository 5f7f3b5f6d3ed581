"""Errors on the wire: the one place where what went wrong becomes a gRPC status.

A status carries google.rpc.ErrorInfo (domain `creditd`, the stable reason, the variables of the message), BadRequest
with the violations of a malformed request, and RetryInfo where waiting helps.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from creditd.domain.errors import (
    AlreadyExists,
    CreditdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Overloaded,
    Unavailable,
    Unimplemented,
    Violation,
)
from creditd.v1 import entitlements_pb2 as pb

DOMAIN: Final = "creditd"
DETAILS_KEY: Final = "grpc-status-details-bin"

_log = logging.getLogger(__name__)

_CODES: Final[tuple[tuple[type[CreditdError], grpc.StatusCode], ...]] = (
    (InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (OutOfRange, grpc.StatusCode.OUT_OF_RANGE),
    (Unimplemented, grpc.StatusCode.UNIMPLEMENTED),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
)

_RETRY_UNAVAILABLE_MS: Final = 1_000
"""Stores that fail over are away for seconds: sooner would only add to their load."""

_HEADERS_MAX: Final = 6_500
"""Room for the message and the details in trailers: gRPC for Java takes 8 KiB of metadata, others little more."""

_MESSAGE_BYTES_MAX: Final = 500
_METADATA_CHARACTERS_MAX: Final = 300


class InternalError(CreditdError):
    """What nobody foresaw. Its text is for the log alone; the caller gets the id to look it up by."""

    reason = "INTERNAL"


class DeadlineExceeded(CreditdError):
    """The time for the call is over, which says nothing about what became of it."""

    reason = "DEADLINE_EXCEEDED"


async def abort(context: Any, error: Exception, where: str = "") -> NoReturn:
    """Ends a call with the status of `error`."""
    status = status_of(as_refusal(error, where))
    code, message = _STATUS_CODES[status.code], status.message
    await context.abort(code, message, ((DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError("abort() returned")


def as_refusal(error: Exception, where: str = "") -> CreditdError:
    """The refusal that a caller may see for any exception; unforeseen ones are logged."""
    if isinstance(error, CreditdError):
        if type(error) in _CODE_BY_TYPE or code_of(error) is not grpc.StatusCode.INTERNAL:
            return error
    elif isinstance(error, TimeoutError):
        return DeadlineExceeded(
            "the call ran out of time; what became of it is unknown, and the same idempotency key tells"
        )
    error_id = secrets.token_hex(8)
    _log.error("internal error %s in %s", error_id, where or "a call", exc_info=error)
    return InternalError(f"internal error {error_id}", metadata={"errorId": error_id})


def code_of(error: CreditdError) -> grpc.StatusCode:
    """The status code of a refusal."""
    code = _CODE_BY_TYPE.get(type(error))
    if code is not None:
        return code
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def error_message(error: Exception) -> pb.Error:
    """The error of one item of a batch."""
    refusal = as_refusal(error)
    number: int = code_of(refusal).value[0]
    return pb.Error(code=number, message=refusal.message, reason=refusal.reason)


def status_of(error: CreditdError) -> Any:
    """The google.rpc.Status of a refusal, small enough for any client's limit on metadata."""
    code: int = code_of(error).value[0]
    message = _cut(error.message)
    status = status_pb2.Status(code=code, message=message)
    metadata = {key: _shorten(value) for key, value in error.metadata.items()}
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, Overloaded):
        _add(status, _retry_info(error.retry_after_ms))
    elif isinstance(error, Unavailable):
        _add(status, _retry_info(_RETRY_UNAVAILABLE_MS))
    elif isinstance(error, InvalidArgument) and error.violations:
        # Base64 makes four bytes of three; percent-encoding makes up to three of one.
        encoded = len(message) if message.isascii() else 3 * len(message.encode())
        room = (_HEADERS_MAX - encoded) * 3 // 4 - status.ByteSize()
        _add(status, _bad_request(error.violations, room))
    return status


def _bad_request(violations: tuple[Violation, ...], room: int) -> Message:
    """All the violations that fit; the last one tells how many don't."""
    message: Any = error_details_pb2.BadRequest()
    for place, violation in enumerate(violations):
        field, problem = _shorten(violation.field), _cut(violation.problem)
        room -= len(field.encode()) + len(problem.encode()) + 12
        if room < 100 and place:
            left = len(violations) - place
            message.field_violations.add(description=f"and {left:,} more violations that don't fit here")
            break
        message.field_violations.add(field=field, description=problem)
    return message  # type: ignore[no-any-return]


def _retry_info(milliseconds: int) -> Message:
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    return error_details_pb2.RetryInfo(retry_delay=delay)  # type: ignore[no-any-return]


def _add(status: Any, detail: Message) -> None:
    status.details.add().Pack(detail)


def _cut(text: str) -> str:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= _MESSAGE_BYTES_MAX:
        return data.decode()
    return data[: _MESSAGE_BYTES_MAX - 3].decode(errors="ignore") + "..."


def _shorten(text: str) -> str:
    return text if len(text) <= _METADATA_CHARACTERS_MAX else text[: _METADATA_CHARACTERS_MAX - 3] + "..."


_CODE_BY_TYPE: Final[dict[type[CreditdError], grpc.StatusCode]] = {
    **dict(_CODES),
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    InternalError: grpc.StatusCode.INTERNAL,
}
_STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
