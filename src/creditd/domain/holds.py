"""What operations do with reservations: `Join` holds what a draw takes, `Settle` burns of a hold and returns the rest.

A hold is known when an operation on it is made, down to the sequence of its latest change; the decision compares
that sequence. So what leaves a hold is worked out here, once, and the decision only carries it out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from creditd.domain.entries import Answer, CounterChange, Effects, Entry, GrantChange, Kind, expiry_key
from creditd.domain.fold import fold
from creditd.domain.state import (
    AccountState,
    Counter,
    Hold,
    HoldCharge,
    HoldOverage,
    HoldPart,
    balance,
    balances_of,
)

Pairs: TypeAlias = tuple[tuple[str, int], ...]
"""(grant id, micros), in burn order."""

_T = TypeVar("_T")
_SUB_BUCKET: Final = re.compile(r"@\d+\Z")


@dataclass(frozen=True, slots=True)
class Join:
    """What the draw takes is not burned but joins `hold`, which is as it was before but for expiry and usage.

    A new hold has the sequence 0.
    """

    hold: Hold


@dataclass(frozen=True, slots=True)
class Settle:
    """What leaves `hold`, which is as it was before; `after` is what stays held, None when the hold ends.

    `burned` of its grants and `overage` of its overage are burned, `owed` of it becomes debt. `returns` goes back to
    its grants, and `lapsed` is lost, as the grants' time has passed. `counts` are the changes of counters, in the
    windows that the hold was counted in; `counted` is what of them was counted before, in micros, and is burned.
    """

    hold: Hold
    after: Hold | None
    burned: Pairs = ()
    overage: int = 0
    owed: int = 0
    returns: Pairs = ()
    lapsed: Pairs = ()
    counts: tuple[CounterChange, ...] = ()
    counted: tuple[CounterChange, ...] = ()

    @property
    def held(self) -> int:
        """How much less is held after it, in micros."""
        return self.hold.micros - (0 if self.after is None else self.after.micros)

    @property
    def charged(self) -> int:
        """What is burned of the hold, in micros."""
        return total(self.burned) + self.overage

    @property
    def released(self) -> int:
        """What the hold gives back, in micros, what is lost on the way included."""
        return self.held - self.charged

    @property
    def raises(self) -> bool:
        """Whether it makes something available again."""
        return bool(self.returns) or any(change.delta < 0 for change in self.counts)


HoldStep: TypeAlias = Join | Settle


def total(pairs: Iterable[tuple[str, int]]) -> int:
    """The sum of (grant, micros) pairs."""
    return sum(micros for _grant, micros in pairs)


def settles(step: HoldStep | None) -> int:
    """The sequence of the entry without which the step must not land; 0 when it opens a hold, or has none."""
    return 0 if step is None else step.hold.sequence


def joined(
    hold: Hold,
    parts: Pairs,
    overage: tuple[HoldOverage, ...],
    charges: tuple[HoldCharge, ...],
    sequence: int = 0,
) -> Hold:
    """A hold after a draw has joined it."""
    parts_after, overage_after, charges_after = list(hold.parts), list(hold.overage), list(hold.charges)
    for grant_id, micros in parts:
        _merge(
            parts_after,
            HoldPart(grant_id, micros),
            lambda old: (old.grant_id, old.lapsed),
            lambda old, new: replace(old, micros=old.micros + new.micros),
        )
    for spent in overage:
        _merge(
            overage_after,
            spent,
            lambda old: (old.key, old.start, old.carry_debt),
            lambda old, new: replace(old, micros=old.micros + new.micros),
        )
    for charge in charges:
        _merge(
            charges_after,
            charge,
            lambda old: (old.key, old.start),
            lambda old, new: replace(old, applied=old.applied + new.applied),
        )
    return replace(
        hold,
        sequence=sequence,
        parts=tuple(parts_after),
        overage=tuple(overage_after),
        charges=tuple(charges_after),
    )


def _merge(items: list[_T], new: _T, key: Callable[[_T], object], add: Callable[[_T, _T], _T]) -> None:
    """Add to the item with the same key, or to the end."""
    for place, old in enumerate(items):
        if key(old) == key(new):
            items[place] = add(old, new)
            return
    items.append(new)


def settle(hold: Hold, *, cost: int, units: int, usage: Mapping[str, int], keep_open: bool) -> Settle:
    """What leaves a hold when `cost` micros and `units` were used of it; what it does not cover is not in it.

    `usage` is what of the usage reserved is settled: `keep_open` keeps the rest, of micros, units and usage.
    """
    left = cost
    burned: list[tuple[str, int]] = []
    rest: list[HoldPart] = []
    for part in hold.parts:
        taken = min(left, part.micros)
        left -= taken
        if taken:
            burned.append((part.grant_id, taken))
        if taken < part.micros:
            rest.append(replace(part, micros=part.micros - taken))
    overage, owed, rest_of_overage, counted = 0, 0, list[HoldOverage](), list[CounterChange]()
    for spent in hold.overage:
        taken = min(left, spent.micros)
        left -= taken
        overage += taken
        owed += taken if spent.carry_debt else 0
        if taken:
            counted.append(CounterChange(spent.key, spent.start, spent.end, taken))
        if taken < spent.micros:
            rest_of_overage.append(replace(spent, micros=spent.micros - taken))
    charges, counts, covered = _settle_charges(hold.charges, cost, units, keep_open=keep_open)
    after = None
    if keep_open:
        after = replace(
            hold,
            parts=tuple(rest),
            overage=tuple(rest_of_overage),
            charges=charges,
            usage={meter: max(0, count - usage.get(meter, 0)) for meter, count in hold.usage.items()},
        )
        rest, rest_of_overage = [], []
    lowered = [CounterChange(spent.key, spent.start, spent.end, -spent.micros) for spent in rest_of_overage]
    return Settle(
        hold=hold,
        after=after,
        burned=merged(burned),
        overage=overage,
        owed=owed,
        returns=merged((part.grant_id, part.micros) for part in rest if not part.lapsed),
        lapsed=merged((part.grant_id, part.micros) for part in rest if part.lapsed),
        counts=(*counts, *lowered),
        counted=(*counted, *covered),
    )


def _settle_charges(
    charges: tuple[HoldCharge, ...], cost: int, units: int, *, keep_open: bool
) -> tuple[tuple[HoldCharge, ...], list[CounterChange], list[CounterChange]]:
    """What a hold's charges are afterwards, how the counters change, and what of budgets was counted before.

    A counter that was extended in a later window is in it twice: the earlier one covers first, and what is beyond
    all of them counts in the last.
    """
    last = {counter_of(charge.key): place for place, charge in enumerate(charges)}
    left = {counter_of(charge.key): cost if charge.micros else units for charge in charges}
    after: list[HoldCharge] = []
    counts: list[CounterChange] = []
    counted: list[CounterChange] = []
    for place, charge in enumerate(charges):
        counter = counter_of(charge.key)
        covered = min(left[counter], charge.applied)
        left[counter] -= covered
        if charge.micros and covered:
            counted.append(CounterChange(charge.key, charge.start, charge.end, covered))
        delta = left[counter] if last[counter] == place else 0
        if not keep_open:
            delta -= charge.applied - covered
        after.append(replace(charge, applied=charge.applied - covered))
        if delta:
            counts.append(CounterChange(charge.key, charge.start, charge.end, delta))
    return tuple(after), counts, counted


def counter_of(key: str) -> str:
    """What the keys of counters have in common that count the same thing: a sliding window has several."""
    return _SUB_BUCKET.sub("", key)


def merged(pairs: Iterable[tuple[str, int]]) -> Pairs:
    """Pairs with the same grant made one, in the order in which each comes first."""
    sums: dict[str, int] = {}
    for grant_id, micros in pairs:
        sums[grant_id] = sums.get(grant_id, 0) + micros
    return tuple(sums.items())


def share(returns: Iterable[tuple[str, int]], debt: int) -> tuple[Pairs, Pairs]:
    """What of micros that come back reaches each grant, and what of each pays the debt first."""
    returned: list[tuple[str, int]] = []
    repaid: list[tuple[str, int]] = []
    for grant_id, micros in returns:
        paid = min(debt, micros)
        debt -= paid
        if paid:
            repaid.append((grant_id, paid))
        if micros > paid:
            returned.append((grant_id, micros - paid))
    return tuple(returned), tuple(repaid)


def countable(counters: Mapping[str, Counter], change: CounterChange, at: int) -> int:
    """How far a counter moves at `at` (ms) by a change in a window of the past: not at all when that is over.

    It never goes below 0.
    """
    if change.end and change.end <= at:
        return 0
    counter = counters.get(change.key)
    if counter is not None and counter.start > change.start:
        return 0
    used = 0 if counter is None or counter.start < change.start else counter.used
    return max(change.delta, -used)


def effects_of(step: Settle, returned: Pairs, repaid: Pairs, counted: Iterable[int]) -> Effects:
    """What a settlement does to the folded state, `counted` going with the step's `counts`."""
    back = dict(merged((*returned, *repaid)))
    astray = tuple((grant_id, micros) for grant_id, micros in step.returns if grant_id not in back)
    return Effects(
        grants=tuple(GrantChange(grant_id, micros) for grant_id, micros in returned),
        counters=tuple(
            change._replace(delta=delta) for change, delta in zip(step.counts, counted, strict=True) if delta
        ),
        debt=step.owed - total(repaid),
        hold=step.after,
        closed="" if step.after is not None else step.hold.id,
        held=-step.held,
        lapsed=(*step.lapsed, *astray),
        repaid=repaid,
        counted=step.counted,
    )


def expire(state: AccountState, hold: Hold, entry_id: str) -> Entry:
    """The entry by which a hold is released at its expiry. It has what a Commit that comes too late must know."""
    step = settle(hold, cost=0, units=0, usage={}, keep_open=False)
    at = max(hold.expires_at, state.at)
    returned, repaid = share(
        [pair for pair in step.returns if pair[0] in state.grants], state.debts.get(hold.credit, 0)
    )
    effects = effects_of(
        step, returned, repaid, [countable(state.counters, change, at) for change in step.counts]
    )
    back = total(returned) + total(repaid)
    entry = Entry(
        id=entry_id,
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.RELEASE,
        at=at,
        credit=hold.credit,
        amount=back,
        balance_after=balance(state, hold.credit) + back,
        feature=hold.feature,
        subject=hold.subject,
        idempotency_key=expiry_key(hold.id),
        usage=dict(hold.usage),
        attributes=dict(hold.attributes),
        metadata=dict(hold.metadata),
        reservation_id=hold.id,
        note="expired",
        effects=effects,
    )
    have = balances_of(fold(state, entry), hold.credit)
    answer = Answer(
        available=have.available,
        held=have.held,
        granted=have.granted,
        debt=have.debt,
        next_expiry=have.next_expiry,
        next_refill=have.next_refill,
        released=step.released,
    )
    return replace(entry, answer=answer)
