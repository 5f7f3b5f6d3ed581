"""What the decision script answered, decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from creditd.domain.accounts import Epoch
from creditd.domain.decide import Drawn
from creditd.hot.codec import decode_drawn, packed_within, unpack

_NO_EPOCH: Final = Epoch(0, 0)


class Code(StrEnum):
    """Why an operation could not be decided on the hot state."""

    COLD = "cold"
    ROLL = "roll"
    POLICY = "policy"
    CATALOG = "catalog"
    LATE = "late"
    RANGE = "range"
    PRICE = "price"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Decided:
    """The operation went ahead and is in the outbox. Its draws have the sequences `first`, `first` + 1 ..."""

    at: int
    first: int
    epoch: Epoch
    depends: int
    drawn: tuple[Drawn, ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """The last of `drawn` was denied; nothing changed. From check.lua also without a denial.

    `epoch` is that of the state which it was decided on.
    """

    at: int
    drawn: tuple[Drawn, ...]
    epoch: Epoch = field(default=_NO_EPOCH, compare=False)


@dataclass(frozen=True, slots=True)
class Record:
    """What an idempotency key stands for: one draw of an earlier unit."""

    unit_id: str
    at: int
    sequence: int
    head: bytes
    drawn: Drawn


@dataclass(frozen=True, slots=True)
class Replayed:
    """Every key of the operation is known. `outbox` is the unit's outbox value while it may not be durable yet."""

    records: tuple[Record, ...]
    outbox: bytes | None


@dataclass(frozen=True, slots=True)
class Again:
    """An earlier call, whose reply was lost, has decided this unit already."""

    outbox: bytes


@dataclass(frozen=True, slots=True)
class Reused:
    """The key of the draw with this index belongs to another request."""

    index: int


@dataclass(frozen=True, slots=True)
class Undecided:
    """Not decided: load the account, the policy or the catalog, or go by the instant `at`, and ask again.

    PRICE: price the draw anew, the counters of its tiers being at `tiers_used`.
    """

    code: Code
    at: int
    tiers_used: tuple[int, ...] = ()


Answer = Decided | Denied | Replayed | Again | Reused | Undecided


@dataclass(frozen=True, slots=True)
class OutboxUnit:
    """A unit as the outbox has it; `wall` is the clock of the server that decided it, in ms."""

    unit_id: str
    wall: int
    epoch: Epoch
    depends: int
    at: int
    first: int
    heads: tuple[bytes, ...]
    drawn: tuple[Drawn, ...]


def decode_answer(reply: list[Any]) -> Answer:
    """The answer in a reply of check.lua or decide.lua."""
    code: bytes = reply[0]
    if code == b"ok":
        if len(reply) == 5:
            return _denied(reply)
        epoch = Epoch(reply[3], int(reply[4]))
        return Decided(reply[1], reply[2], epoch, reply[5], _drawn(reply[6]))
    if code == b"deny":
        return _denied(reply)
    if code == b"replay":
        return Replayed(tuple(_record(item) for item in reply[2:]), reply[1] or None)
    if code == b"again":
        return Again(reply[1])
    if code == b"reused":
        return Reused(reply[1])
    if code == b"price":
        return Undecided(Code.PRICE, reply[1], tuple(unpack(reply[2])))
    return Undecided(Code(code.decode()), reply[1] if len(reply) > 1 else 0)


def decode_outbox(unit_id: str, value: bytes) -> OutboxUnit:
    """A unit from its outbox value."""
    number, nonce, depends, at, first, heads, results = unpack(value[13:])
    # An earlier release left the results themselves.
    drawn = results if isinstance(results, list) else unpack(packed_within(results))
    return OutboxUnit(
        unit_id=unit_id,
        wall=int(value[:13]),
        epoch=Epoch(number, int(nonce)),
        depends=depends,
        at=at,
        first=first,
        heads=tuple(packed_within(head) for head in heads),
        drawn=tuple(decode_drawn(result) for result in drawn),
    )


def _denied(reply: list[Any]) -> Denied:
    return Denied(reply[1], _drawn(reply[2]), Epoch(reply[3], int(reply[4])))


def _drawn(packed: bytes) -> tuple[Drawn, ...]:
    return tuple(decode_drawn(result) for result in unpack(packed))


def _record(value: bytes) -> Record:
    at, sequence, head, result = unpack(value[64:])
    return Record(value[32:64].decode(), at, sequence, packed_within(head), decode_drawn(result))
