"""From the draw of a use to one that opens a reservation, adds to it, or settles it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from creditd.domain.decide import Draw
from creditd.domain.holds import Join, settle
from creditd.domain.state import Hold
from creditd.engine.requests import Action, Reservation, Use

NO_SUCH = -1
"""Sequence of a hold that no state has: what is decided on it is answered by its key, or by nothing."""


def on_hold(draw: Draw, use: Use, usage: Mapping[str, int], *, units: int, now: int) -> Draw:
    """The draw of a use with what it does to its reservation; `units` are those that limits count."""
    reservation = use.reservation
    if reservation is None or reservation.is_expired:
        return draw
    if reservation.action is Action.RESERVE:
        return _joining(draw, _opened(use, draw, usage), reservation, now)
    hold = _known(reservation)
    if reservation.action is Action.EXTEND:
        meters = hold.usage.keys() | usage.keys()
        sums = {meter: hold.usage.get(meter, 0) + usage.get(meter, 0) for meter in sorted(meters)}
        return _joining(draw, replace(hold, usage=sums), reservation, now)
    step = settle(hold, cost=draw.amount, units=units, usage=usage, keep_open=reservation.keep_open)
    return replace(
        draw,
        amount=draw.amount - step.charged,
        # What is counted is in the step; the charges tell how the limits stand after it.
        units=0,
        charges=tuple(charge for charge in draw.charges if not charge.micros),
        hold=step,
    )


def untouched(use: Use, now: int) -> Draw:
    """The draw of a use that uses nothing: a release, a longer hold, or a question whether a key is known."""
    reservation = use.reservation
    if reservation is None:
        raise TypeError("not a use of a reservation")
    hold = _known(reservation)
    if reservation.action is Action.RELEASE and hold.sequence != NO_SUCH:
        step = settle(hold, cost=0, units=0, usage={}, keep_open=False)
        return Draw(use.feature, use.mode, credit=hold.credit, hold=step)
    draw = Draw(use.feature, use.mode, credit=hold.credit)
    return _joining(draw, hold, reservation, now)


def uses_nothing(use: Use) -> bool:
    """Whether a use only releases a hold, makes it longer, or asks whether a key is known."""
    reservation = use.reservation
    if reservation is None:
        return False
    if reservation.hold is not None and reservation.hold.sequence == NO_SUCH:
        return True
    if reservation.action is Action.RELEASE:
        return True
    asked = use.quantity is not None or bool(use.usage) or use.cost_micros is not None
    return reservation.action is Action.EXTEND and not asked


def _opened(use: Use, draw: Draw, usage: Mapping[str, int]) -> Hold:
    """A new hold; its id is that of the entry, which is not made yet."""
    return Hold(
        id="",
        sequence=0,
        expires_at=0,
        credit=draw.credit,
        feature=use.feature,
        subject=use.subject,
        usage=dict(usage),
        attributes=use.attributes,
        metadata=use.metadata,
    )


def _joining(draw: Draw, hold: Hold, reservation: Reservation, now: int) -> Draw:
    expires_at = hold.expires_at if reservation.ttl_ms is None else now + reservation.ttl_ms
    # Graduated prices count what is burned, at the Commit.
    tiers = tuple(replace(tier, delta=0) for tier in draw.tiers)
    return replace(draw, tiers=tiers, hold=Join(replace(hold, expires_at=expires_at)))


def _known(reservation: Reservation) -> Hold:
    if reservation.hold is None:
        raise TypeError("a reservation must be looked up before it is worked on")
    return reservation.hold
