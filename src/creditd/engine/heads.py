"""The part of a ledger entry that is known before the decision, and the entry that the two make together.

The head travels through the decision script untouched and lies in the outbox, so that any process can finish what
another one began.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

from creditd.domain.catalog import FeatureType, Money
from creditd.domain.decide import Charge, Draw, Drawn, Mode, OverageRoom, TierCount, owed_overage
from creditd.domain.entries import Answer, CounterChange, Effects, Entry, GrantChange, Kind
from creditd.domain.state import Balances
from creditd.engine.hold_entries import pack_step, unpack_step, with_hold
from creditd.engine.requests import LimitStatus, Ruling

NO_LIMIT = -1
UNLIMITED = -2


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
        packed: bytes = msgpack.packb(
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
                [draw.feature, draw.mode.value, draw.credit, draw.amount],
                None if room is None else [room.key, room.start, room.end, room.cap, room.carry_debt],
                [[c.key, c.start, c.end, c.cap, c.delta, c.soft, c.micros] for c in draw.charges],
                [[t.key, t.start, t.end, t.delta, t.low, t.high] for t in draw.tiers],
                None
                if self.kind is Kind.CONSUME
                else [self.kind.value, self.reservation_id, pack_step(draw.hold)],
            ]
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Head:
        """The head in `packed`; the draw has what an entry needs, not what a decision needs."""
        fields: list[Any] = msgpack.unpackb(packed, strict_map_key=False)
        feature, mode, credit, amount = fields[12]
        # A head that an earlier release left in an outbox has no tiers, and no reservation.
        kind, reservation_id, step = (fields[16] if len(fields) > 16 else None) or (Kind.CONSUME, "", None)
        draw = Draw(
            feature=feature,
            mode=Mode(mode),
            credit=credit,
            amount=amount,
            overage=None if fields[13] is None else OverageRoom(*fields[13]),
            charges=tuple(Charge(*charge) for charge in fields[14]),
            tiers=tuple(TierCount(*tier) for tier in (fields[15] if len(fields) > 15 else ())),
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


def entry_of(head: Head, at: int, sequence: int, drawn: Drawn) -> Entry:
    """The ledger entry of what went ahead."""
    draw = head.draw
    spans = spans_of(draw, drawn)
    counters = [
        CounterChange(charge.key, start, end, applied)
        for charge, (start, end), applied in zip(draw.charges, spans, drawn.applied, strict=True)
    ]
    counters += [CounterChange(tier.key, tier.start, tier.end, tier.delta) for tier in draw.tiers]
    if draw.overage is not None and drawn.from_overage:
        room = draw.overage
        counters.append(CounterChange(room.key, room.start, room.end, drawn.from_overage))
    balances = drawn.balances or Balances()
    owed = drawn.debt + owed_overage(draw, drawn.from_overage)
    limit = limit_of(draw, drawn.used, spans)
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


def spans_of(draw: Draw, drawn: Drawn) -> tuple[tuple[int, int], ...]:
    """The windows that a draw's charges count in."""
    return drawn.spans or tuple((charge.start, charge.end) for charge in draw.charges)


def limit_of(draw: Draw, used: Iterable[int], spans: Iterable[tuple[int, int]]) -> LimitStatus | None:
    """The tightest limit of a draw, its counters being at `used`: the least remaining; unlimited only when all are."""
    best: tuple[int, int, int] | None = None
    least = 0
    for charge, count, (_start, end) in zip(draw.charges, used, spans, strict=True):
        if charge.micros:
            continue
        cap = charge.cap
        left = cap - count if cap > count else 0
        if best is None or (cap >= 0 and (best[0] < 0 or left < least)):
            best, least = (cap, count, end), left
    return None if best is None else LimitStatus(*best)


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
    limit = limit_of(draw, drawn.used, spans_of(draw, drawn))
    if limit is None:
        return "RECORDED"
    if limit.limit < 0:
        return "UNLIMITED"
    if limit.used > limit.limit:
        return "RECORDED" if draw.mode is Mode.RECORD else "IN_OVERAGE"
    return "WITHIN_LIMIT"


def _units_left_out(draw: Draw, drawn: Drawn) -> int:
    """How many units less than asked a PARTIAL draw on limits has counted."""
    asked = zip(draw.charges, drawn.applied, strict=True)
    return max((charge.delta - applied for charge, applied in asked if charge.delta > 0), default=0)


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
