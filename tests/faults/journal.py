"""What the callers know: every operation that they asked for, every attempt at it, and what they were told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

ACKED: Final = "acked"
DENIED: Final = "denied"
UNKNOWN: Final = "unknown"
"""UNAVAILABLE, a deadline that passed, or a caller who went away: done or not."""
REFUSED: Final = "refused"
"""An error that says that nothing was done."""

Facts = dict[str, Any]
"""Of an answer, what every replay must repeat: ids, sequence, amounts in micros."""


@dataclass(slots=True)
class Attempt:
    """One call: when it began and ended (s, monotonic), and how."""

    began: float
    ended: float
    server: str
    code: str
    outcome: str
    facts: Facts = field(default_factory=dict)
    wall: float = 0.0
    """When it began by the wall clock, s."""


@dataclass(slots=True, eq=False)
class Op:
    """One operation. `kind` is consume, limit, reserve, extend, commit, release, refund, grant, void or purchase.

    `key` is what the ledger knows it by: the idempotency key, or for a void the grant. `asked` is what was asked for.
    Items of an atomic batch share `group`.
    """

    kind: str
    account: str
    key: str
    asked: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    batch: list[Op] = field(default_factory=list, repr=False)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def facts(self) -> Facts | None:
        """What was answered; None when it was not acknowledged."""
        for attempt in self.attempts:
            if attempt.outcome == ACKED:
                return attempt.facts
        return None

    @property
    def is_settled(self) -> bool:
        """Whether the caller knows how it ended."""
        return bool(self.attempts) and any(
            attempt.outcome in {ACKED, DENIED, REFUSED} for attempt in self.attempts
        )

    @property
    def never_done(self) -> bool:
        """Whether every attempt was answered by a denial or a refusal."""
        return bool(self.attempts) and all(attempt.outcome in {DENIED, REFUSED} for attempt in self.attempts)

    def __str__(self) -> str:
        tries = "; ".join(
            f"{attempt.began:.3f}-{attempt.ended:.3f} {attempt.server} {attempt.code} {attempt.outcome} "
            f"{attempt.facts or ''}"
            for attempt in [*self.attempts[:2], *self.attempts[2:][-3:]]
        )
        return f"{self.kind} {self.account} {self.key} {self.asked} [{tries}]"


@dataclass(slots=True)
class Journal:
    """Everything of one round. `wrong` are answers that no caller may get."""

    ops: list[Op] = field(default_factory=list)
    calls: int = 0
    wrong: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)

    def add(self, op: Op) -> Op:
        """Note an operation before it is sent."""
        self.ops.append(op)
        return op

    def count(self, code: str) -> None:
        """Note how a call ended."""
        self.calls += 1
        self.codes[code] = self.codes.get(code, 0) + 1

    @property
    def acknowledged(self) -> int:
        """How many operations were acknowledged."""
        return sum(op.facts is not None for op in self.ops)

    def contradictions(self) -> list[str]:
        """Answers to the same operation that contradict each other."""
        found = []
        for op in self.ops:
            acks = [attempt for attempt in op.attempts if attempt.outcome == ACKED]
            if not acks:
                continue
            if any(attempt.facts != acks[0].facts for attempt in acks[1:]):
                found.append(f"a replay was answered differently: {op}")
            known = min(attempt.ended for attempt in acks)
            if any(attempt.outcome == DENIED and attempt.began > known for attempt in op.attempts):
                found.append(f"denied after it had been acknowledged: {op}")
        return found
