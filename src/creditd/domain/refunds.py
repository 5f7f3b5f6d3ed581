"""Refunds: what an entry burned goes back to where it came from, the last that paid first.

Debt comes first, then overage, then the grants in reverse burn order. Several refunds of one entry go on where the one
before stopped, so that they never give back more than was burned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.entries import Answer, CounterChange, Effects, Entry, GrantChange, Kind
from creditd.domain.errors import OutOfRange
from creditd.domain.fold import fold_all
from creditd.domain.grants import Category, Grant, default_priority
from creditd.domain.holds import countable, counter_of, share, total
from creditd.domain.roll import NewId, activate
from creditd.domain.state import AccountState, balance, balances_of, returnable

_OVERAGE, _BUDGET = "o:", "b:"
"""How the keys of the counters begin that count micros."""


@dataclass(frozen=True, slots=True)
class Undo:
    """A refund of `amount` micros of `burned`, of which `before` micros were refunded already."""

    burned: Entry
    before: int
    amount: int
    entry_id: str
    idempotency_key: str
    fingerprint: str
    note: str


@dataclass(slots=True)
class _Back:
    """Where the micros of a refund go: what was owed, out of counters of overage, and to grants in reverse order."""

    owed: int
    overage: list[CounterChange]
    grants: list[tuple[str, int]]


@dataclass(slots=True)
class _Part:
    """The part of what lies in layers that comes after `before` micros of it: `left` micros."""

    before: int
    left: int

    def take(self, layer: int) -> int:
        """What of the next layer belongs to the part."""
        skipped = min(self.before, layer)
        taken = min(self.left, layer - skipped)
        self.before -= skipped
        self.left -= taken
        return taken


def burned_by(entry: Entry) -> int:
    """What an entry burned in all, in micros: of grants, as overage and as debt."""
    if entry.kind not in {Kind.CONSUME, Kind.COMMIT} or entry.answer is None:
        return 0
    return entry.answer.charged


def refund(
    state: AccountState, undo: Undo, definitions: Mapping[str, Grant], now: int, new_id: NewId
) -> list[Entry]:
    """The entries of a refund at `now`; the first one is the refund itself.

    What a grant paid that is gone, or has been filled anew since, comes back as a grant of its own without expiry: the
    credits were used in time, and credits that can't be used would be no refund. It pays for the features that the
    grant that paid did; `definitions` has those grants.

    Raises:
        OutOfRange: the balance would go beyond 9e15 micros.
    """
    burned = undo.burned
    credit = burned.credit
    if balance(state, credit) + returnable(state, credit) + undo.amount > AMOUNT_MAX:
        raise OutOfRange(
            f"the refund would take the balance of {credit!r} beyond {AMOUNT_MAX} micros",
            reason="BALANCE_OUT_OF_RANGE",
            metadata={"credit": credit},
        )
    back = _back(undo)
    at = max(now, state.at)
    debt = state.debts.get(credit, 0)
    lowered = min(debt, back.owed)
    fits, gone = _placed(state, burned, back.grants)
    returned, repaid = share(fits, debt - lowered)
    # A debt that later grants have paid comes back to the account, as those are gone.
    anew: list[tuple[tuple[str, ...], int]] = [((), back.owed - lowered)] if back.owed > lowered else []
    anew += [(definitions[grant].features if grant in definitions else (), micros) for grant, micros in gone]
    gained = total(returned) + total(repaid) + lowered
    entry = Entry(
        id=undo.entry_id,
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.REFUND,
        at=at,
        credit=credit,
        amount=gained,
        balance_after=balance(state, credit) + gained,
        feature=burned.feature,
        subject=burned.subject,
        idempotency_key=undo.idempotency_key,
        fingerprint=undo.fingerprint,
        allocations=fits,
        reservation_id=burned.reservation_id,
        reverses=burned.id,
        note=undo.note,
        effects=Effects(
            grants=tuple(GrantChange(grant_id, micros) for grant_id, micros in returned),
            counters=_counters(state, undo, back, at),
            debt=-(lowered + total(repaid)),
            repaid=repaid,
        ),
    )
    entries = [entry]
    for features, micros in anew:
        after = fold_all(state, entries)
        entries += activate(after, _grant(new_id(), credit, micros, features, at), new_id, at=at)
    return [_answered(state, entries, undo), *entries[1:]]


def _back(undo: Undo) -> _Back:
    """The next `amount` micros of what the entry burned, from the end, after those that were refunded before."""
    entry = undo.burned
    beyond = burned_by(entry) - total(entry.allocations) - entry.overage
    owed_overage = entry.effects.debt + total(entry.effects.repaid) - beyond
    back = _Back(0, [], [])
    take = _Part(undo.before, undo.amount).take
    back.owed = take(beyond)
    spent = [each for each in entry.effects.counted if each.key.startswith(_OVERAGE)]
    spent += [each for each in entry.effects.counters if each.key.startswith(_OVERAGE) and each.delta > 0]
    for each in reversed(spent):
        owed = min(owed_overage, each.delta)
        owed_overage -= owed
        micros = take(each.delta)
        if micros:
            back.overage.append(each._replace(delta=-micros))
            back.owed += min(owed, micros)
    for grant_id, paid in reversed(entry.allocations):
        micros = take(paid)
        if micros:
            back.grants.append((grant_id, micros))
    return back


def _placed(
    state: AccountState, burned: Entry, grants: Sequence[tuple[str, int]]
) -> tuple[tuple[tuple[str, int], ...], list[tuple[str, int]]]:
    """What fits into the grants that paid, and what does not, as they are gone or filled anew."""
    fits: list[tuple[str, int]] = []
    gone: list[tuple[str, int]] = []
    for grant_id, micros in grants:
        held = state.grants.get(grant_id)
        room = 0
        if held is not None and held.active and held.filled_at <= burned.at:
            taken = sum(
                part.micros
                for hold in state.holds.values()
                for part in hold.parts
                if part.grant_id == grant_id and not part.lapsed
            )
            room = max(0, held.grant.amount - held.remaining - taken)
        fitting = min(room, micros)
        if fitting:
            fits.append((grant_id, fitting))
        if fitting < micros:
            gone.append((grant_id, micros - fitting))
    return tuple(fits), gone


def _counters(state: AccountState, undo: Undo, back: _Back, at: int) -> tuple[CounterChange, ...]:
    """Overage and budgets in windows that are still on count less; limits count units, and stay."""
    lowered = [*back.overage, *_budgets(undo)]
    changes = [change._replace(delta=countable(state.counters, change, at)) for change in lowered]
    return tuple(change for change in changes if change.delta)


def _budgets(undo: Undo) -> Iterator[CounterChange]:
    """What comes out of each budget: where the entry has counted in several windows, out of the last one first."""
    effects = undo.burned.effects
    counted: dict[str, dict[CounterChange, int]] = {}
    for each in (*effects.counted, *effects.counters):
        if each.key.startswith(_BUDGET) and each.delta > 0:
            windows = counted.setdefault(counter_of(each.key), {})
            window = each._replace(delta=0)
            windows[window] = windows.get(window, 0) + each.delta
    for windows in counted.values():
        part = _Part(undo.before, undo.amount)
        for window, burned in reversed(windows.items()):
            yield window._replace(delta=-part.take(burned))


def _grant(grant_id: str, credit: str, amount: int, features: tuple[str, ...], at: int) -> Grant:
    return Grant(
        id=grant_id,
        credit=credit,
        amount=amount,
        category=Category.REFUND,
        priority=default_priority(Category.REFUND),
        effective_at=at,
        created_at=at,
        source="refund",
        features=features,
    )


def _answered(state: AccountState, entries: Sequence[Entry], undo: Undo) -> Entry:
    """The refund with what its caller is told."""
    entry = entries[0]
    after = fold_all(state, entries)
    have = balances_of(after, entry.credit)
    counter = after.counters.get(f"{_OVERAGE}{entry.credit}")
    is_on = counter is not None and counter.start <= entry.at < counter.end
    answer = Answer(
        available=have.available,
        held=have.held,
        granted=have.granted,
        debt=have.debt,
        overage_used=counter.used if counter is not None and is_on else 0,
        next_expiry=have.next_expiry,
        next_refill=have.next_refill,
        released=undo.amount,
    )
    return replace(entry, answer=answer)
