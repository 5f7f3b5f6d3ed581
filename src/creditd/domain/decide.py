"""`decide`: may this operation go ahead on this segment, and what does it take? The specification of decide.lua.

A decision looks at nothing but the segment and the operation, and everything in both is an integer: the Lua
script does the same steps in the same order, and a property test holds the two together.

Order of checks, which is the precedence of denials: counters in the order given (limits, then budgets), then
credits. All draws of an operation go ahead, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import BurnOrder
from creditd.domain.state import Balances, Counter, Segment, SegmentCredit, SegmentGrant


class Mode(IntEnum):
    """What happens when there is not enough: all or nothing, what is there, or record it as debt."""

    ENFORCE = 1
    PARTIAL = 2
    RECORD = 3


@dataclass(frozen=True, slots=True)
class Charge:
    """A counter that a draw touches: `delta` units in the window [start, end), at most `cap` (-1 = unlimited).

    With `micros` it counts what the draw burns and `delta` is 0. `soft` counters never deny. A gauge has start
    and end 0; its delta may be negative and it never goes below 0. One that `opens` counts in the counter's own window
    while that lasts, and in [start, end) only when it is over. `also` are other counters, with the starts of their
    windows, whose use counts as this one's: the earlier parts of a sliding window.
    """

    key: str
    start: int
    end: int
    cap: int
    delta: int = 0
    soft: bool = False
    micros: bool = False
    opens: bool = False
    also: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OverageRoom:
    """The counter of overage: up to `cap` micros in the window [start, end), -1 = uncapped.

    With `carry_debt` the overage is owed as well: the next grants pay it.
    """

    key: str
    start: int
    end: int
    cap: int
    carry_debt: bool = False


@dataclass(frozen=True, slots=True)
class TierCount:
    """A meter with graduated prices: `delta` units more in the window [start, end) of the counter `key`.

    The draw's price holds only while the counter is within [low, high].
    """

    key: str
    start: int
    end: int
    delta: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Draw:
    """One thing that an operation takes: `amount` micros of `credit` ("" = none) and the counters beside it.

    `cap` bounds the amount of this draw (-1 = unlimited); `cap_by` names the budget that says so.
    """

    feature: str
    mode: Mode = Mode.ENFORCE
    credit: str = ""
    order: BurnOrder = BurnOrder.SOONEST_EXPIRY_FIRST
    amount: int = 0
    floor: int = 0
    overage: OverageRoom | None = None
    charges: tuple[Charge, ...] = ()
    cap: int = -1
    cap_by: str = ""
    tiers: tuple[TierCount, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """All draws go ahead or none; `now` in ms; `policy_version` is the one that the draws were priced with."""

    now: int
    policy_version: int
    draws: tuple[Draw, ...]


class Denial(StrEnum):
    """Why a draw may not go ahead."""

    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    FLOOR_REACHED = "FLOOR_REACHED"
    OVERAGE_CAP_REACHED = "OVERAGE_CAP_REACHED"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one draw took, or would need; amounts in micros.

    `used` and `applied` go with the draw's charges: what each counter has afterwards and what was added to it; and so
    do `spans`, the windows that were counted in, left out when they are the charges' own.
    `spendable` and `overage_room` (-1 = unlimited) are what was there before; `balances` those after. On a
    denial nothing was taken:
    `denial` says why, `denied_by` names the counter if one did, `shortfall` what was missing.
    """

    denial: Denial | None = None
    denied_by: str = ""
    shortfall: int = 0
    from_grants: int = 0
    from_overage: int = 0
    debt: int = 0
    allocations: tuple[tuple[str, int], ...] = ()
    used: tuple[int, ...] = ()
    applied: tuple[int, ...] = ()
    overage_used: int = 0
    spendable: int = 0
    overage_room: int = 0
    balances: Balances | None = None
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def charged(self) -> int:
        """What is burned in all: from grants, as overage and as debt."""
        return self.from_grants + self.from_overage + self.debt


class Outcome(StrEnum):
    """What became of an operation."""

    DECIDED = "decided"
    DENIED = "denied"
    ROLL = "roll"
    POLICY = "policy"
    LATE = "late"
    RANGE = "range"
    PRICE = "price"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of `decide`.

    DECIDED: `drawn` has every draw and `segment` is the new one. DENIED: the last of `drawn` is the denied one
    and nothing changed. ROLL: the segment is over, or was built for an older policy or another burn order.
    POLICY: the operation was priced
    with an older policy than the segment's. LATE: the operation's `now` lies before the segment's latest entry and
    another window; decide again at `at`. RANGE: a balance or counter would leave +-9e15. PRICE: a meter with graduated
    prices is elsewhere than the price was made for; `tiers_used` has the counters of the draw's tiers.
    """

    outcome: Outcome
    segment: Segment
    at: int
    drawn: tuple[Drawn, ...] = ()
    tiers_used: tuple[int, ...] = ()


class _Range(Exception):
    """A balance or counter would leave the range of exact arithmetic."""


class _Late(Exception):
    """A counter's stored window is later than the operation's."""


class _Price(Exception):
    """A draw's graduated price is for another place of its counters than `used`."""

    def __init__(self, used: tuple[int, ...]) -> None:
        super().__init__("price")
        self.used = used


def decide(segment: Segment, operation: Operation) -> Decision:
    """Decide an operation on a segment; pure."""
    at = max(operation.now, segment.at)
    if segment.policy_version > operation.policy_version:
        return Decision(Outcome.POLICY, segment, at)
    if segment.policy_version < operation.policy_version:
        return Decision(Outcome.ROLL, segment, operation.now)
    if at >= segment.end or _reordered(segment, operation):
        return Decision(Outcome.ROLL, segment, at)
    work = replace(segment, credits=dict(segment.credits), counters=dict(segment.counters))
    drawn: list[Drawn] = []
    try:
        for draw in operation.draws:
            work, result = _draw(work, draw, at)
            drawn.append(result)
            if result.denial is not None:
                return Decision(Outcome.DENIED, segment, at, tuple(drawn))
    except _Late:
        return Decision(Outcome.LATE, segment, at)
    except _Range:
        return Decision(Outcome.RANGE, segment, at)
    except _Price as price:
        return Decision(Outcome.PRICE, segment, at, tiers_used=price.used)
    sequence = segment.sequence + len(operation.draws)
    raised = segment.raised
    for offset, result in enumerate(drawn, 1):
        if any(delta < 0 for delta in result.applied):
            raised = segment.sequence + offset
    after = replace(work, sequence=sequence, at=at, raised=raised)
    return Decision(Outcome.DECIDED, after, at, tuple(drawn))


def _reordered(segment: Segment, operation: Operation) -> bool:
    for draw in operation.draws:
        if draw.credit:
            credit = segment.credits.get(draw.credit)
            if credit is None or credit.order is not draw.order:
                return True
    return False


def _used(counters: Mapping[str, Counter], key: str, start: int, end: int, at: int) -> int:
    """What the window [start, end) has counted by `at`."""
    counter = counters.get(key)
    if counter is None or counter.start < start:
        return 0
    if counter.start > start:
        # The present window, and another one is stored: windows lie elsewhere since then, and count anew.
        if end > at:
            return 0
        raise _Late
    return counter.used


def _span(counters: Mapping[str, Counter], charge: Charge, at: int) -> tuple[int, int]:
    """The window that a charge counts in."""
    counter = counters.get(charge.key)
    if charge.opens and counter is not None and counter.end > at:
        return counter.start, counter.end
    return charge.start, charge.end


def _used_by(counters: Mapping[str, Counter], charge: Charge, span: tuple[int, int], at: int) -> int:
    used = _used(counters, charge.key, *span, at)
    for key, start in charge.also:
        used += _used(counters, key, start, 0, at)
        if used > AMOUNT_MAX:
            raise _Range
    return used


def _check_tiers(counters: Mapping[str, Counter], draw: Draw, at: int) -> None:
    used = tuple(_used(counters, tier.key, tier.start, tier.end, at) for tier in draw.tiers)
    if any(not tier.low <= count <= tier.high for tier, count in zip(draw.tiers, used, strict=True)):
        raise _Price(used)


def _draw(segment: Segment, draw: Draw, at: int) -> tuple[Segment, Drawn]:
    _check_tiers(segment.counters, draw, at)
    spans = tuple(_span(segment.counters, charge, at) for charge in draw.charges)
    used = tuple(
        _used_by(segment.counters, charge, span, at) for charge, span in zip(draw.charges, spans, strict=True)
    )
    room = draw.overage
    overage_used = 0 if room is None else _used(segment.counters, room.key, room.start, room.end, at)
    credit = segment.credits.get(draw.credit)
    facts = Drawn(
        used=used,
        applied=(0,) * len(used),
        overage_used=overage_used,
        balances=None if credit is None else credit.balances,
        spendable=0 if credit is None else _spendable(credit, draw),
        overage_room=0 if credit is None else _overage_room(draw, overage_used),
        spans=spans if any(charge.opens for charge in draw.charges) else (),
    )
    units, micros_room, denial = _counter_room(draw, used)
    if denial is not None:
        reason, key, shortfall = denial
        return segment, replace(facts, denial=reason, denied_by=key, shortfall=shortfall)
    if credit is not None:
        segment, facts = _burn(segment, draw, credit, facts, micros_room)
        if facts.denial is not None:
            return segment, facts
    return _count(segment, draw, facts, units, spans, at)


def _burn(
    segment: Segment, draw: Draw, credit: SegmentCredit, facts: Drawn, micros_room: int
) -> tuple[Segment, Drawn]:
    spendable, overage_room = facts.spendable, facts.overage_room
    amount = draw.amount
    if draw.mode is Mode.PARTIAL and micros_room >= 0:
        amount = min(amount, micros_room)
        if amount == 0 and draw.amount > 0:
            return segment, replace(facts, denial=Denial.BUDGET_EXCEEDED, shortfall=draw.amount)
    from_grants = min(amount, spendable)
    rest = amount - from_grants
    from_overage = rest if overage_room < 0 else min(rest, overage_room)
    rest -= from_overage
    debt = rest if draw.mode is Mode.RECORD else 0
    if rest > debt and (draw.mode is Mode.ENFORCE or rest == amount):
        return segment, replace(facts, denial=_no_credit(credit, draw, spendable), shortfall=rest)
    before = credit.balances
    owed = debt + owed_overage(draw, from_overage)
    if before.available - from_grants - owed < -AMOUNT_MAX:
        raise _Range
    balances = replace(before, available=before.available - from_grants - owed, debt=before.debt + owed)
    grants, allocations = _allocate(credit.grants, draw.feature, from_grants)
    counters = dict(segment.counters)
    overage_used = facts.overage_used + from_overage
    if draw.overage is not None and from_overage > 0:
        _set(counters, draw.overage.key, draw.overage.start, draw.overage.end, overage_used)
    facts = replace(
        facts,
        from_grants=from_grants,
        from_overage=from_overage,
        debt=debt,
        allocations=allocations,
        overage_used=overage_used,
        shortfall=draw.amount - from_grants - from_overage - debt,
        balances=balances,
    )
    after = replace(credit, balances=balances, grants=grants)
    return replace(segment, credits={**segment.credits, draw.credit: after}, counters=counters), facts


def _counter_room(
    draw: Draw, used: tuple[int, ...]
) -> tuple[int | None, int, tuple[Denial, str, int] | None]:
    """How much the counters leave.

    The units that a PARTIAL draw without credits may take (None = as asked), the micros that may be burned (-1 =
    unlimited), and a denial.
    """
    units: int | None = None
    micros_room = -1
    if draw.mode is Mode.RECORD:
        return units, micros_room, None
    if draw.cap >= 0 and draw.amount > draw.cap:
        if draw.mode is Mode.ENFORCE:
            return None, 0, (Denial.BUDGET_EXCEEDED, draw.cap_by, draw.amount - draw.cap)
        micros_room = draw.cap
    for charge, before in zip(draw.charges, used, strict=True):
        if charge.cap < 0 or charge.soft:
            continue
        room = max(0, charge.cap - before)
        if charge.micros:
            if draw.mode is Mode.ENFORCE and draw.amount > room:
                return None, 0, (Denial.BUDGET_EXCEEDED, charge.key, draw.amount - room)
            micros_room = room if micros_room < 0 else min(micros_room, room)
        elif charge.delta > room:
            if draw.mode is Mode.ENFORCE or draw.credit or room == 0:
                return None, 0, (Denial.LIMIT_EXCEEDED, charge.key, charge.delta - room)
            units = room if units is None else min(units, room)
    return units, micros_room, None


def _spendable(credit: SegmentCredit, draw: Draw) -> int:
    eligible = sum(grant.remaining for grant in credit.grants if _pays(grant, draw.feature))
    if draw.floor > 0 and draw.mode is not Mode.RECORD:
        return min(eligible, max(0, credit.balances.available - draw.floor))
    return eligible


def _overage_room(draw: Draw, overage_used: int) -> int:
    if draw.overage is None:
        return 0
    return -1 if draw.overage.cap < 0 else max(0, draw.overage.cap - overage_used)


def _no_credit(credit: SegmentCredit, draw: Draw, spendable: int) -> Denial:
    if draw.overage is not None:
        return Denial.OVERAGE_CAP_REACHED
    eligible = sum(grant.remaining for grant in credit.grants if _pays(grant, draw.feature))
    return Denial.FLOOR_REACHED if eligible > spendable else Denial.INSUFFICIENT_CREDITS


def _pays(grant: SegmentGrant, feature: str) -> bool:
    return not grant.features or feature in grant.features


def _allocate(
    grants: tuple[SegmentGrant, ...], feature: str, amount: int
) -> tuple[tuple[SegmentGrant, ...], tuple[tuple[str, int], ...]]:
    left = amount
    after: list[SegmentGrant] = []
    allocations: list[tuple[str, int]] = []
    for grant in grants:
        take = min(left, grant.remaining) if _pays(grant, feature) else 0
        if take > 0:
            left -= take
            allocations.append((grant.id, take))
            after.append(replace(grant, remaining=grant.remaining - take))
        else:
            after.append(grant)
    return tuple(after), tuple(allocations)


def owed_overage(draw: Draw, from_overage: int) -> int:
    """How much of a draw's overage becomes debt."""
    return from_overage if draw.overage is not None and draw.overage.carry_debt else 0


def _set(counters: dict[str, Counter], key: str, start: int, end: int, used: int) -> None:
    if used > AMOUNT_MAX:
        raise _Range
    counters[key] = Counter(start, end, used)


def _count(
    segment: Segment,
    draw: Draw,
    facts: Drawn,
    units: int | None,
    spans: tuple[tuple[int, int], ...],
    at: int,
) -> tuple[Segment, Drawn]:
    counters = dict(segment.counters)
    applied: list[int] = []
    after: list[int] = []
    for charge, before, (start, end) in zip(draw.charges, facts.used, spans, strict=True):
        delta = facts.charged if charge.micros else charge.delta
        if units is not None and not charge.micros:
            delta = min(delta, units)
        delta = max(delta, -before)
        _set(counters, charge.key, start, end, _used(counters, charge.key, start, end, at) + delta)
        applied.append(delta)
        after.append(before + delta)
    for tier in draw.tiers:
        before = _used(counters, tier.key, tier.start, tier.end, at)
        _set(counters, tier.key, tier.start, tier.end, before + tier.delta)
    return replace(segment, counters=counters), replace(facts, used=tuple(after), applied=tuple(applied))
