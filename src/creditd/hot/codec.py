"""msgpack forms of segments, operations and results, as lua/kernel.lua lays them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from creditd.domain.accounts import Epoch
from creditd.domain.catalog import BurnOrder
from creditd.domain.decide import Charge, Denial, Draw, Drawn, Operation
from creditd.domain.draws import form_of
from creditd.domain.holds import HoldStep, Join
from creditd.domain.state import (
    Balances,
    Counter,
    Hold,
    HoldCharge,
    HoldOverage,
    HoldPart,
    Segment,
    SegmentCredit,
    SegmentGrant,
)
from creditd.hot.keys import group_of

FORMAT: Final = 2

_OPENS, _MICROS = 1, 2
"""Flags of a charge."""

_packer = msgpack.Packer(use_bin_type=False)
_pack = _packer.pack


def unpack(data: bytes) -> Any:
    """Decode what a script packed; texts as str, heads as they were."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogateescape")


def packed_within(text: str) -> bytes:
    """The bytes of what was packed before it became a part of something that `unpack` has decoded."""
    return text.encode("utf-8", "surrogateescape")


def pack(value: Any) -> bytes:
    """Encode for a script."""
    packed: bytes = _pack(value)
    return packed


@dataclass(frozen=True, slots=True)
class HotState:
    """What the hot store holds of an account: a segment, its fence and the server it was loaded into."""

    segment: Segment
    epoch: Epoch
    run_id: str


def encode_segment(segment: Segment, epoch: Epoch, run_id: str) -> list[bytes]:
    """Field, value, field, value ... of the account's hash."""
    meta = [
        FORMAT,
        run_id,
        epoch.number,
        str(epoch.nonce),
        segment.sequence,
        segment.policy_version,
        segment.at,
        segment.end,
        segment.raised,
    ]
    fields: list[bytes] = [b"m", pack(meta)]
    for key, credit in segment.credits.items():
        fields += [b"$" + key.encode(), pack(_credit(credit))]
    groups: dict[str, list[str | int]] = {}
    for key, counter in segment.counters.items():
        groups.setdefault(group_of(key), []).extend((key, counter.start, counter.end, counter.used))
    for name, group in groups.items():
        fields += [b"#" + name.encode(), pack(group)]
    for key, hold in segment.holds.items():
        fields += [hold_field(key), pack([hold.sequence, *_hold(hold)])]
    return fields


def hold_field(hold_id: str) -> bytes:
    """The field of the account's hash that has an open hold."""
    return b"!" + hold_id.encode()


def _hold(hold: Hold) -> list[Any]:
    return [
        hold.expires_at,
        [value for part in hold.parts for value in (part.grant_id, part.micros, int(part.lapsed))],
        [
            value
            for spent in hold.overage
            for value in (spent.key, spent.start, spent.end, spent.micros, int(spent.carry_debt))
        ],
        [
            value
            for charge in hold.charges
            for value in (charge.key, charge.start, charge.end, charge.applied, int(charge.micros))
        ],
        _describe(hold),
    ]


def _describe(hold: Hold) -> bytes:
    """What a hold is for; no script looks into it."""
    return pack(
        [
            hold.credit,
            hold.feature,
            hold.subject,
            dict(hold.usage),
            dict(hold.attributes),
            dict(hold.metadata),
        ]
    )


def decode_hold(hold_id: str, value: bytes) -> Hold:
    """The reverse of how a hold is stored."""
    sequence, expires_at, parts, overage, charges, description = unpack(value)
    credit, feature, subject, usage, attributes, metadata = unpack(packed_within(description))
    return Hold(
        id=hold_id,
        sequence=sequence,
        expires_at=expires_at,
        credit=credit,
        feature=feature,
        subject=subject,
        parts=tuple(HoldPart(grant, micros, bool(lapsed)) for grant, micros, lapsed in _groups(parts, 3)),
        overage=tuple(
            HoldOverage(key, start, end, micros, bool(carry))
            for key, start, end, micros, carry in _groups(overage, 5)
        ),
        charges=tuple(
            HoldCharge(key, start, end, applied, bool(micros))
            for key, start, end, applied, micros in _groups(charges, 5)
        ),
        usage=usage,
        attributes=attributes,
        metadata=metadata,
    )


def _groups(flat: Any, width: int) -> Iterable[list[Any]]:
    items = list(_sequence(flat))
    return (items[start : start + width] for start in range(0, len(items), width))


def _credit(credit: SegmentCredit) -> list[Any]:
    have = credit.balances
    limited = [
        value
        for place, grant in enumerate(credit.grants, 1)
        if grant.features
        for value in (place, list(grant.features))
    ]
    return [
        credit.order.value,
        have.available,
        have.held,
        have.granted,
        have.debt,
        have.next_expiry,
        have.next_refill,
        [grant.remaining for grant in credit.grants],
        pack([grant.id for grant in credit.grants]),
        limited or False,
    ]


def decode_state(fields: Mapping[bytes, bytes]) -> HotState | None:
    """The state in an account's hash; None when there is none, or one of another layout."""
    packed = fields.get(b"m")
    if packed is None:
        return None
    form, run_id, number, nonce, sequence, policy, at, end, raised = unpack(packed)
    if form != FORMAT:
        return None
    credits: dict[str, SegmentCredit] = {}
    counters: dict[str, Counter] = {}
    holds: dict[str, Hold] = {}
    for name, value in fields.items():
        if name[:1] == b"$":
            credits[name[1:].decode()] = _decode_credit(unpack(value))
        elif name[:1] == b"#":
            counters.update((key, Counter(*counter)) for key, *counter in _groups(unpack(value), 4))
        elif name[:1] == b"!":
            holds[name[1:].decode()] = decode_hold(name[1:].decode(), value)
    segment = Segment(sequence, at, end, policy, raised, credits, counters, holds)
    return HotState(segment, Epoch(number, int(nonce)), run_id)


def epoch_of(packed: bytes | None, run_id: str) -> Epoch | None:
    """The epoch in the field `m`; None unless it is there, of this layout, and was put by the server of this run."""
    if packed is None:
        return None
    form, run, number, nonce, *_rest = unpack(packed)
    return Epoch(number, int(nonce)) if form == FORMAT and run == run_id else None


def _decode_credit(value: list[Any]) -> SegmentCredit:
    order, available, held, granted, debt, expiry, refill, remaining, packed, limited = value
    ids = unpack(packed_within(packed))
    features = dict(_groups(limited, 2))
    return SegmentCredit(
        BurnOrder(order),
        Balances(available, held, granted, debt, expiry, refill),
        tuple(
            SegmentGrant(grant, left, tuple(features.get(place, ())))
            for place, (grant, left) in enumerate(zip(ids, _sequence(remaining), strict=True), 1)
        ),
    )


def _sequence(value: Any) -> Iterable[Any]:
    # Lua can't tell an empty array from an empty map.
    return value if isinstance(value, list) else ()


def encode_operation(operation: Operation, run_id: str, revision: int) -> bytes:
    """The first argument of check.lua and decide.lua."""
    draws = b"".join(map(_draw, operation.draws))
    head = pack([run_id, operation.now, operation.policy_version, revision, ()])
    # The draws follow in the place of the empty array at the end.
    return head[:-1] + _array(len(operation.draws)) + draws


def _draw(draw: Draw) -> bytes:
    """A draw; its charges are spliced in, as they are packed once for many draws."""
    overage = draw.overage
    before = [
        draw.feature,
        draw.mode.value,
        draw.credit,
        draw.order.value,
        draw.amount,
        draw.floor,
        False
        if overage is None
        else [overage.key, overage.start, overage.end, overage.cap, int(overage.carry_debt)],
    ]
    after = [
        draw.cap,
        draw.cap_by,
        [[tier.key, tier.start, tier.end, tier.delta, tier.low, tier.high] for tier in draw.tiers] or False,
        False if draw.hold is None else _step(draw.hold),
        draw.units,
    ]
    # One array of all: each of the two lists comes with a header of one byte, as arrays of up to 15 do.
    charges = form_of(draw.charges, _charges)
    return b"".join((_array(len(before) + 1 + len(after)), pack(before)[1:], charges, pack(after)[1:]))


def _charges(charges: tuple[Charge, ...]) -> bytes:
    own = [group_of(charge.key) for charge in charges]
    beside = [group_of(key) for charge in charges for key, _start in charge.also]
    groups = list(dict.fromkeys((*own, *beside)))
    also = [
        value
        for place, charge in enumerate(charges, 1)
        if charge.also
        for value in (place, [part for pair in charge.also for part in pair])
    ]
    return pack(
        [
            [charge.key for charge in charges],
            [charge.start for charge in charges],
            [charge.end for charge in charges],
            [-1 if charge.soft else charge.cap for charge in charges],
            [_OPENS * charge.opens + _MICROS * charge.micros for charge in charges],
            groups,
            [groups.index(name) + 1 for name in own],
            also or False,
        ]
    )


def _array(length: int) -> bytes:
    """The header of an array."""
    header: bytes = _packer.pack_array_header(length)
    return header


def _step(step: HoldStep) -> list[Any]:
    hold = step.hold
    if isinstance(step, Join):
        return [1, hold.id, hold.sequence, hold.expires_at, _describe(hold)]
    return [
        2,
        hold.id,
        hold.sequence,
        step.held,
        step.owed,
        [value for pair in step.returns for value in pair],
        [
            value
            for each in step.counts
            for value in (each.key, group_of(each.key), each.start, each.end, each.delta)
        ],
        False if step.after is None else _hold(step.after),
    ]


def decode_drawn(value: list[Any]) -> Drawn:
    """The result of one draw."""
    # What an earlier release left in an outbox knows of no holds.
    settled = value[14] if len(value) > 14 else None
    returned, repaid, counted = settled or ((), (), ())
    return Drawn(
        denial=Denial(value[0]) if value[0] else None,
        denied_by=value[1],
        shortfall=value[2],
        from_grants=value[3],
        from_overage=value[4],
        debt=value[5],
        allocations=_pairs(value[6]),
        used=tuple(_sequence(value[7])),
        applied=tuple(_sequence(value[8])),
        overage_used=value[9],
        spendable=value[10],
        overage_room=value[11],
        balances=Balances(*value[12]) if value[12] else None,
        spans=_pairs(value[13]),
        returned=_pairs(returned),
        repaid=_pairs(repaid),
        counted=tuple(_sequence(counted)),
    )


def _pairs(flat: Any) -> tuple[tuple[Any, Any], ...]:
    items = list(_sequence(flat))
    return tuple(zip(items[::2], items[1::2], strict=True))
