"""`decide`: may this operation go ahead on this segment, and what does it take? The specification of decide.lua.

A decision looks at nothing but the segment and the operation, and everything in both is an integer: the Lua
script does the same steps in the same order, and a property test holds the two together.

Order of checks, which is the precedence of denials: counters in the order given (limits, then budgets), then
credits. All draws of an operation go ahead, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.draws import (
    Charge,
    Decision,
    Denial,
    Draw,
    Drawn,
    Mode,
    Operation,
    Outcome,
    OverageRoom,
    TierCount,
)
from creditd.domain.holds import HoldStep, Join, Pairs, Settle, countable, joined, share, total
from creditd.domain.state import (
    Counter,
    Hold,
    HoldCharge,
    HoldOverage,
    Segment,
    SegmentCredit,
    SegmentGrant,
)

__all__ = [
    "Charge",
    "Decision",
    "Denial",
    "Draw",
    "Drawn",
    "Mode",
    "Operation",
    "Outcome",
    "OverageRoom",
    "TierCount",
    "decide",
    "join",
    "owed_overage",
]


class _Range(Exception):
    """A balance or counter would leave the range of exact arithmetic."""


class _Late(Exception):
    """A counter's stored window is later than the operation's."""


class _Price(Exception):
    """A draw's graduated price is for another place of its counters than `used`."""

    def __init__(self, used: tuple[int, ...]) -> None:
        super().__init__("price")
        self.used = used


class _Hold(Exception):
    """A draw's hold has changed or is not there."""


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
    raised = segment.raised
    try:
        for sequence, draw in enumerate(operation.draws, segment.sequence + 1):
            work, result = _draw(work, draw, at, sequence)
            drawn.append(result)
            if result.denial is not None:
                return Decision(Outcome.DENIED, segment, at, tuple(drawn))
            if any(delta < 0 for delta in result.applied):
                raised = sequence
            if isinstance(draw.hold, Settle) and draw.hold.raises:
                raised = sequence
    except _Late:
        return Decision(Outcome.LATE, segment, at)
    except _Range:
        return Decision(Outcome.RANGE, segment, at)
    except _Price as price:
        return Decision(Outcome.PRICE, segment, at, tiers_used=price.used)
    except _Hold:
        return Decision(Outcome.HOLD, segment, at)
    after = replace(work, sequence=segment.sequence + len(drawn), at=at, raised=raised)
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


def _draw(segment: Segment, draw: Draw, at: int, sequence: int) -> tuple[Segment, Drawn]:
    _check_hold(segment, draw.hold)
    _check_tiers(segment.counters, draw, at)
    settled = Drawn()
    if isinstance(draw.hold, Settle):
        segment, settled = _settle(segment, draw.credit, draw.hold, at, sequence)
    spans = tuple(_span(segment.counters, charge, at) for charge in draw.charges)
    used = tuple(
        _used_by(segment.counters, charge, span, at) for charge, span in zip(draw.charges, spans, strict=True)
    )
    room = draw.overage
    overage_used = 0 if room is None else _used(segment.counters, room.key, room.start, room.end, at)
    credit = segment.credits.get(draw.credit)
    facts = replace(
        settled,
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
    segment, facts = _count(segment, draw, facts, units, spans, at)
    if isinstance(draw.hold, Join):
        hold = join(draw, facts, sequence)
        segment = replace(
            segment, holds={**segment.holds, hold.id: hold}, end=min(segment.end, hold.expires_at)
        )
    return segment, facts


def _check_hold(segment: Segment, step: HoldStep | None) -> None:
    if step is None:
        return
    present = segment.holds.get(step.hold.id)
    if (0 if present is None else present.sequence) != step.hold.sequence:
        raise _Hold


def join(draw: Draw, drawn: Drawn, sequence: int = 0) -> Hold:
    """The hold of a draw that joins one, after it went ahead."""
    if not isinstance(draw.hold, Join):
        raise TypeError("the draw joins no hold")
    overage: tuple[HoldOverage, ...] = ()
    if draw.overage is not None and drawn.from_overage:
        room = draw.overage
        overage = (HoldOverage(room.key, room.start, room.end, drawn.from_overage, room.carry_debt),)
    spans = drawn.spans or tuple((charge.start, charge.end) for charge in draw.charges)
    charges = tuple(
        HoldCharge(charge.key, start, end, applied, charge.micros)
        for charge, (start, end), applied in zip(draw.charges, spans, drawn.applied, strict=True)
    )
    return joined(draw.hold.hold, drawn.allocations, overage, charges, sequence)


def _settle(segment: Segment, key: str, step: Settle, at: int, sequence: int) -> tuple[Segment, Drawn]:
    """What leaves the hold goes where it belongs: to its grants, to the debt, out of the counters."""
    credits, holds, counters = dict(segment.credits), dict(segment.holds), dict(segment.counters)
    returned: Pairs = ()
    repaid: Pairs = ()
    credit = credits.get(key)
    if credit is not None:
        have = credit.balances
        there = {grant.id for grant in credit.grants}
        returned, repaid = share([pair for pair in step.returns if pair[0] in there], have.debt)
        available = have.available + total(returned) + total(repaid) - step.owed
        if abs(available) > AMOUNT_MAX:
            raise _Range
        balances = replace(
            have,
            available=available,
            held=have.held - step.held,
            debt=have.debt - total(repaid) + step.owed,
        )
        back = dict(returned)
        grants = tuple(
            replace(grant, remaining=grant.remaining + back.get(grant.id, 0)) for grant in credit.grants
        )
        credits[key] = replace(credit, balances=balances, grants=grants)
    counted: list[int] = []
    for change in step.counts:
        delta = countable(counters, change, at)
        counted.append(delta)
        if delta:
            used = _used(counters, change.key, change.start, change.end, at)
            _set(counters, change.key, change.start, change.end, used + delta)
    if step.after is None:
        del holds[step.hold.id]
    else:
        holds[step.hold.id] = replace(step.after, sequence=sequence)
    after = replace(segment, credits=credits, holds=holds, counters=counters)
    return after, Drawn(returned=returned, repaid=repaid, counted=tuple(counted))


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
    balances = replace(
        before,
        available=before.available - from_grants - owed,
        debt=before.debt + owed,
        held=before.held + (from_grants + from_overage if isinstance(draw.hold, Join) else 0),
    )
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
        elif draw.units > room:
            if draw.mode is Mode.ENFORCE or draw.credit or room == 0:
                return None, 0, (Denial.LIMIT_EXCEEDED, charge.key, draw.units - room)
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
    """How much of a draw's overage becomes debt; what is only held is not owed yet."""
    if draw.overage is None or isinstance(draw.hold, Join):
        return 0
    return from_overage if draw.overage.carry_debt else 0


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
    applied = [0] * len(draw.charges)
    after = list(facts.used)
    # What a hold counts is done when it is settled; the charges only tell how the limits stand.
    charges = () if isinstance(draw.hold, Settle) else draw.charges
    for place, charge in enumerate(charges):
        start, end = spans[place]
        delta = facts.charged if charge.micros else draw.units
        if units is not None and not charge.micros:
            delta = min(delta, units)
        applied[place] = delta = max(delta, -after[place])
        _set(counters, charge.key, start, end, _used(counters, charge.key, start, end, at) + delta)
        after[place] += delta
    for tier in draw.tiers:
        before = _used(counters, tier.key, tier.start, tier.end, at)
        _set(counters, tier.key, tier.start, tier.end, before + tier.delta)
    return replace(segment, counters=counters), replace(facts, used=tuple(after), applied=tuple(applied))
