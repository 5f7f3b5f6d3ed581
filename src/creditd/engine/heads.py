"""The part of a ledger entry that is known before the decision, and the entry that the two make together.

The head travels through the decision script untouched and lies in the outbox, so that any process can finish what
another one began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from creditd.domain.catalog import FeatureType, Money
from creditd.domain.decide import Charge, Draw, Drawn, Mode, OverageRoom, TierCount, owed_overage
from creditd.domain.draws import form_of
from creditd.domain.entries import Answer, CounterChange, Effects, Entry, GrantChange, Kind
from creditd.domain.state import Balances
from creditd.engine.hold_entries import pack_step, unpack_step, with_hold
from creditd.engine.requests import LimitStatus, Ruling

NO_LIMIT = -1
UNLIMITED = -2

_pack = msgpack.Packer().pack
_PAIR: Final = b"\x92"
"""The header of an array of two: a head's own fields, and the charges, which many heads share in packed form."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a burn or hold is for, and what it was decided on."""

    id: str
    account: str
    draw: Draw
    type: FeatureType
    subject: str
    idempotency_key: str
    fingerprint: str
    usage: dict[str, int]
    attributes: dict[str, str]
    metadata: dict[str, str]
    occurred_at: int | None
    catalog_version: int
    cost: Money | None
    kind: Kind = Kind.CONSUME
    reservation_id: str = ""

    def pack(self) -> bytes:
        """The head as bytes for the outbox."""
        draw, room, cost = self.draw, self.draw.overage, self.cost
        fields: bytes = _pack(
            [
                self.id,
                self.account,
                self.type.value,
                self.subject,
                self.idempotency_key,
                self.fingerprint,
                self.usage,
                self.attributes,
                self.metadata,
                self.occurred_at,
                self.catalog_version,
                None if cost is None else [cost.currency, str(cost.nanos)],
                [draw.feature, draw.mode.value, draw.credit, draw.amount, draw.units],
                None if room is None else [room.key, room.start, room.end, room.cap, room.carry_debt],
                [[t.key, t.start, t.end, t.delta, t.low, t.high] for t in draw.tiers],
                None
                if self.kind is Kind.CONSUME
                else [self.kind.value, self.reservation_id, pack_step(draw.hold)],
            ]
        )
        return _PAIR + fields + form_of(draw.charges, _pack_charges)

    @classmethod
    def unpack(cls, packed: bytes) -> Head:
        """The head in `packed`; the draw has what an entry needs, not what a decision needs."""
        unpacked: list[Any] = msgpack.unpackb(packed, strict_map_key=False)
        fields, charges = unpacked if len(unpacked) == 2 else _of_earlier_release(unpacked)
        feature, mode, credit, amount, units = fields[12]
        kind, reservation_id, step = fields[15] or (Kind.CONSUME, "", None)
        draw = Draw(
            feature=feature,
            mode=Mode(mode),
            credit=credit,
            amount=amount,
            overage=None if fields[13] is None else OverageRoom(*fields[13]),
            units=units,
            charges=tuple(Charge(*charge) for charge in charges),
            tiers=tuple(TierCount(*tier) for tier in fields[14]),
            hold=unpack_step(step),
        )
        cost = fields[11]
        return cls(
            id=fields[0],
            account=fields[1],
            draw=draw,
            type=FeatureType(fields[2]),
            subject=fields[3],
            idempotency_key=fields[4],
            fingerprint=fields[5],
            usage=fields[6],
            attributes=fields[7],
            metadata=fields[8],
            occurred_at=fields[9],
            catalog_version=fields[10],
            cost=None if cost is None else Money(cost[0], int(cost[1])),
            kind=Kind(kind),
            reservation_id=reservation_id,
        )


def _of_earlier_release(fields: list[Any]) -> tuple[list[Any], list[Any]]:
    """What an earlier release left in an outbox: each charge said the units, tiers and reservations came later."""
    charges, tiers = fields[14], fields[15] if len(fields) > 15 else []
    units = next((delta for _key, _start, _end, _cap, delta, _soft, micros in charges if not micros), 0)
    step = fields[16] if len(fields) > 16 else None
    without = [[key, start, end, cap, soft, micros] for key, start, end, cap, _, soft, micros in charges]
    return [*fields[:12], [*fields[12], units], fields[13], tiers, step], without


def _pack_charges(charges: tuple[Charge, ...]) -> bytes:
    packed: bytes = _pack([[c.key, c.start, c.end, c.cap, c.soft, c.micros] for c in charges])
    return packed


def _places(charges: tuple[Charge, ...]) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    """The keys, starts and ends of charges."""
    return (
        tuple(charge.key for charge in charges),
        tuple(charge.start for charge in charges),
        tuple(charge.end for charge in charges),
    )


def _counted(draw: Draw, drawn: Drawn) -> list[CounterChange]:
    """What a draw's charges have counted."""
    keys, starts, ends = form_of(draw.charges, _places)
    if drawn.spans:
        starts, ends = zip(*drawn.spans, strict=True)
    return list(map(CounterChange, keys, starts, ends, drawn.applied))


def entry_of(head: Head, at: int, sequence: int, drawn: Drawn) -> Entry:
    """The ledger entry of what went ahead."""
    draw = head.draw
    counters = _counted(draw, drawn)
    counters += [CounterChange(tier.key, tier.start, tier.end, tier.delta) for tier in draw.tiers]
    if draw.overage is not None and drawn.from_overage:
        room = draw.overage
        counters.append(CounterChange(room.key, room.start, room.end, drawn.from_overage))
    balances = drawn.balances or Balances()
    owed = drawn.debt + owed_overage(draw, drawn.from_overage)
    limit = limit_of(draw, drawn, drawn.used)
    entry = Entry(
        id=head.id,
        account=head.account,
        sequence=sequence,
        kind=head.kind,
        at=at,
        credit=draw.credit,
        amount=-(drawn.from_grants + owed),
        balance_after=balances.available,
        feature=draw.feature,
        subject=head.subject,
        idempotency_key=head.idempotency_key or None,
        fingerprint=head.fingerprint,
        usage=head.usage,
        attributes=head.attributes,
        metadata=head.metadata,
        allocations=drawn.allocations,
        overage=drawn.from_overage,
        occurred_at=head.occurred_at,
        catalog_version=head.catalog_version,
        reservation_id=head.reservation_id,
        cost=head.cost,
        effects=Effects(
            grants=tuple(GrantChange(grant_id, -amount) for grant_id, amount in drawn.allocations),
            counters=tuple(counters),
            debt=owed,
        ),
        answer=Answer(
            reason=reason_of(head.type, draw, drawn),
            charged=drawn.charged,
            overage=drawn.from_overage,
            shortfall=drawn.shortfall or _units_left_out(draw, drawn),
            available=balances.available,
            held=balances.held,
            granted=balances.granted,
            debt=balances.debt,
            overage_used=drawn.overage_used,
            next_expiry=balances.next_expiry,
            next_refill=balances.next_refill,
            limit_max=NO_LIMIT if limit is None else UNLIMITED if limit.limit < 0 else limit.limit,
            limit_used=0 if limit is None else limit.used,
            resets_at=0 if limit is None else limit.resets_at,
        ),
    )
    return with_hold(entry, draw, drawn)


def ruling_of(entry: Entry, *, replayed: bool) -> Ruling:
    """The answer that an entry stands for: the first one, however often it is asked for."""
    answer = entry.answer or Answer()
    limit = None
    if answer.limit_max != NO_LIMIT:
        maximum = -1 if answer.limit_max == UNLIMITED else answer.limit_max
        limit = LimitStatus(maximum, answer.limit_used, answer.resets_at)
    balances = None
    if entry.credit:
        balances = Balances(
            answer.available,
            answer.held,
            answer.granted,
            answer.debt,
            answer.next_expiry,
            answer.next_refill,
        )
    return Ruling(
        allowed=True,
        reason=answer.reason,
        feature=entry.feature,
        credit=entry.credit,
        charged=answer.charged,
        overage=answer.overage,
        shortfall=answer.shortfall,
        balances=balances,
        overage_used=answer.overage_used,
        limit=limit,
        catalog_version=entry.catalog_version,
        entry_id=entry.id,
        sequence=entry.sequence,
        allocations=entry.allocations,
        replayed=replayed,
        reservation_id=entry.reservation_id,
        released=answer.released,
        reserved=answer.reserved,
        expires_at=answer.expires_at,
    )


def limit_of(draw: Draw, drawn: Drawn, used: Sequence[int]) -> LimitStatus | None:
    """The tightest limit of a draw, its counters being at `used`: the least remaining; unlimited only when all are."""
    best = -1
    least = tightest = 0
    for place, cap in form_of(draw.charges, _caps):
        left = cap - used[place] if cap > used[place] else 0
        if best < 0 or (cap >= 0 and (tightest < 0 or left < least)):
            best, least, tightest = place, left, cap
    if best < 0:
        return None
    end = drawn.spans[best][1] if drawn.spans else draw.charges[best].end
    return LimitStatus(tightest, used[best], end)


def _caps(charges: tuple[Charge, ...]) -> tuple[tuple[int, int], ...]:
    """The limits among charges: the place of each and its cap."""
    return tuple((place, charge.cap) for place, charge in enumerate(charges) if not charge.micros)


def reason_of(feature_type: FeatureType, draw: Draw, drawn: Drawn) -> str:
    """The name of the Reason of a draw that went ahead."""
    if draw.credit:
        if drawn.debt or _is_beyond(draw, drawn):
            return "RECORDED"
        if drawn.shortfall:
            return "PARTIALLY_COVERED"
        return "IN_OVERAGE" if drawn.from_overage else "COVERED"
    if feature_type is not FeatureType.LIMIT:
        return "RECORDED" if draw.mode is Mode.RECORD else "ENTITLED"
    if _units_left_out(draw, drawn):
        return "PARTIALLY_COVERED"
    limit = limit_of(draw, drawn, drawn.used)
    if limit is None:
        return "RECORDED"
    if limit.limit < 0:
        return "UNLIMITED"
    if limit.used > limit.limit:
        return "RECORDED" if draw.mode is Mode.RECORD else "IN_OVERAGE"
    return "WITHIN_LIMIT"


def _units_left_out(draw: Draw, drawn: Drawn) -> int:
    """How many units less than asked a PARTIAL draw on limits has counted."""
    if draw.mode is not Mode.PARTIAL or draw.units <= 0:
        return 0
    counted = zip(draw.charges, drawn.applied, strict=True)
    return max((draw.units - applied for charge, applied in counted if not charge.micros), default=0)


def _is_beyond(draw: Draw, drawn: Drawn) -> bool:
    """Whether a draw that was recorded went past a limit, a budget or the floor that would have denied it."""
    if draw.mode is not Mode.RECORD:
        return False
    for charge, used, applied in zip(draw.charges, drawn.used, drawn.applied, strict=True):
        if 0 <= charge.cap < used and applied > 0 and not charge.soft:
            return True
    if 0 <= draw.cap < draw.amount:
        return True
    if drawn.balances is None or not draw.floor:
        return False
    before = (
        drawn.balances.available + drawn.from_grants + drawn.debt + owed_overage(draw, drawn.from_overage)
    )
    below = drawn.from_grants - max(0, before - draw.floor)
    return below > 0 and 0 <= drawn.overage_room < below + drawn.from_overage
