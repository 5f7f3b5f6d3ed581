"""What reservations add to ledger entries and to their heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from creditd.domain.decide import Draw, Drawn, join, owed_overage
from creditd.domain.entries import Answer, CounterChange, Effects, Entry, GrantChange
from creditd.domain.holds import HoldStep, Join, Settle, effects_of, merged, settles, total
from creditd.ledger.codec import hold_document, hold_of


def pack_step(step: HoldStep | None) -> list[Any] | None:
    """A draw's step as plain values, for its head."""
    if step is None:
        return None
    if isinstance(step, Join):
        return [hold_document(step.hold)]
    return [
        hold_document(step.hold),
        None if step.after is None else hold_document(step.after),
        step.burned,
        step.overage,
        step.owed,
        step.returns,
        step.lapsed,
        [[change.key, change.start, change.end, change.delta] for change in step.counts],
        [[change.key, change.start, change.end, change.delta] for change in step.counted],
    ]


def unpack_step(fields: list[Any] | None) -> HoldStep | None:
    """The reverse of `pack_step`."""
    if fields is None:
        return None
    if len(fields) == 1:
        return Join(hold_of(fields[0]))
    hold, after, burned, overage, owed, returns, lapsed, counts, counted = fields
    return Settle(
        hold=hold_of(hold),
        after=None if after is None else hold_of(after),
        burned=tuple((grant_id, micros) for grant_id, micros in burned),
        overage=overage,
        owed=owed,
        returns=tuple((grant_id, micros) for grant_id, micros in returns),
        lapsed=tuple((grant_id, micros) for grant_id, micros in lapsed),
        counts=tuple(CounterChange(*change) for change in counts),
        counted=tuple(CounterChange(*change) for change in counted),
    )


def with_hold(entry: Entry, draw: Draw, drawn: Drawn) -> Entry:
    """The entry of a draw with what it does to a reservation."""
    if isinstance(draw.hold, Join):
        return _held(entry, draw, drawn)
    if isinstance(draw.hold, Settle):
        return _settled(entry, draw, draw.hold, drawn)
    return entry


def works_on_hold(entry: Entry) -> bool:
    """Whether the entry changes a reservation that an earlier entry has opened."""
    hold = entry.effects.hold
    return bool(entry.effects.closed) or (hold is not None and hold.id != entry.id)


def settles_of(draws: list[Draw]) -> int:
    """The latest entry that changed the hold that a unit works on; 0 when there is none."""
    return max((settles(draw.hold) for draw in draws), default=0)


def _held(entry: Entry, draw: Draw, drawn: Drawn) -> Entry:
    """Nothing is burned: overage and charge are told by the Commit."""
    hold = join(draw, drawn)
    answer = entry.answer or Answer()
    return replace(
        entry,
        reservation_id=hold.id,
        overage=0,
        effects=replace(entry.effects, hold=hold, held=drawn.from_grants + drawn.from_overage),
        answer=replace(answer, charged=0, overage=0, reserved=hold.micros, expires_at=hold.expires_at),
    )


def _settled(entry: Entry, draw: Draw, step: Settle, drawn: Drawn) -> Entry:
    """What the hold covered, and what it did not, in one entry."""
    answer = entry.answer or Answer()
    own = effects_of(step, drawn.returned, drawn.repaid, drawn.counted)
    beyond = entry.effects
    charges = {charge.key for charge in draw.charges}
    back = total(drawn.returned) + total(drawn.repaid)
    owed = drawn.debt + owed_overage(draw, drawn.from_overage)
    overage = step.overage + drawn.from_overage
    return replace(
        entry,
        amount=back - step.owed - drawn.from_grants - owed,
        allocations=merged((*step.burned, *drawn.allocations)),
        overage=overage,
        effects=replace(
            own,
            grants=_together(own, beyond),
            # The draw's own charges only told how the limits stand.
            counters=(*own.counters, *(each for each in beyond.counters if each.key not in charges)),
            debt=own.debt + owed,
        ),
        answer=replace(
            answer,
            charged=step.charged + drawn.charged,
            overage=overage,
            released=step.released,
            reserved=0 if step.after is None else step.after.micros,
            expires_at=0 if step.after is None else step.after.expires_at,
        ),
    )


def _together(own: Effects, beyond: Effects) -> tuple[GrantChange, ...]:
    changes = merged((change.grant_id, change.remaining) for change in (*own.grants, *beyond.grants))
    return tuple(GrantChange(grant_id, micros) for grant_id, micros in changes if micros)
