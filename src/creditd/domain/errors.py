"""Everything that creditd refuses, as one tree; `rpc.errors` alone maps it to gRPC statuses.

CreditdError
├── InvalidArgument          the request is malformed; it will never succeed as it is
│   └── IdempotencyKeyReused the key belongs to another request
├── NotFound                 an account, feature, credit, grant ... that does not exist
├── AlreadyExists            a caller-chosen id that is taken by something else
├── FailedPrecondition       well-formed, but not in the present state (NO_RATE, VERSION_MISMATCH ...)
├── OutOfRange               a balance or counter would leave +-9e15
├── Unimplemented            declared in the API, not served by this release
├── Overloaded               refused early; retry after `retry_after_ms`
└── Unavailable              a store is away or the outcome is unknown; retry with the same key

A denial (no credits, limit reached, not entitled) is an answer, never one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request.

    `field` is the path in the request, as in `catalog.features[2].rates[0].prices[1].per`;
    `problem` says what is wrong and what was expected.
    """

    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}" if self.field else self.problem


class CreditdError(Exception):
    """Base of all refusals.

    `reason` is UPPER_SNAKE and stable: it is API. `metadata` holds the variables of the message, by
    lowerCamel name.
    """

    reason = "INTERNAL"

    def __init__(
        self, message: str, *, reason: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.metadata = dict(metadata or {})


class InvalidArgument(CreditdError):
    """The request can never succeed as it is; `violations` names every fault, not the first."""

    reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str = "",
        violations: Iterable[Violation] = (),
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.violations = tuple(violations)
        text = message or "; ".join(str(violation) for violation in self.violations[:5])
        if not message and len(self.violations) > 5:
            text += f"; and {len(self.violations) - 5} more"
        super().__init__(text, reason=reason, metadata=metadata)


class IdempotencyKeyReused(InvalidArgument):
    """The idempotency key was used on this account for a different request."""

    reason = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, key: str) -> None:
        problem = "was used for a different request; use a new key for a new operation"
        super().__init__(
            f"idempotency key {key!r} {problem}",
            (Violation("idempotency_key", problem),),
            metadata={"idempotencyKey": key},
        )


class NotFound(CreditdError):
    """What the request names does not exist."""

    reason = "NOT_FOUND"

    def __init__(self, kind: str, key: str, *, hint: str = "") -> None:
        super().__init__(
            f"{kind} {key!r} does not exist" + (f"; {hint}" if hint else ""),
            reason=f"{kind.upper().replace(' ', '_')}_NOT_FOUND",
            metadata={"kind": kind, "key": key},
        )


class AlreadyExists(CreditdError):
    """The id that the caller chose is taken by something different."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(CreditdError):
    """The request is well-formed but the present state does not allow it."""

    reason = "FAILED_PRECONDITION"


class OutOfRange(CreditdError):
    """A balance or counter would leave the range of exact arithmetic (+-9e15); nothing changed."""

    reason = "OUT_OF_RANGE"


class Unimplemented(CreditdError):
    """The API declares it, this release does not serve it yet."""

    reason = "UNIMPLEMENTED"


class Overloaded(CreditdError):
    """Refused before any work was done; try again after `retry_after_ms` milliseconds."""

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message, metadata={"retryAfterMs": str(retry_after_ms)})
        self.retry_after_ms = retry_after_ms


class Unavailable(CreditdError):
    """A store is away, or the outcome is unknown: retry with the same idempotency key."""

    reason = "UNAVAILABLE"
