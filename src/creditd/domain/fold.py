"""`fold`: an account's state after one more ledger entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from creditd.domain.entries import CounterChange, Entry
from creditd.domain.state import AccountState, Counter, GrantState, Hold


class BrokenLedger(Exception):
    """The entries contradict each other: a gap, a negative grant. Never seen but for corruption or a bug."""


class Folding:
    """A state to which entry after entry is added: what a long tail costs must not grow with what the account has.

    Raises `BrokenLedger` as `fold` does; it must not be used after that.
    """

    def __init__(self, state: AccountState) -> None:
        self._account = state.account
        self.sequence = state.sequence
        self.at = state.at
        self._grants = dict(state.grants)
        self._debts = dict(state.debts)
        self._counters = {
            key: [counter.start, counter.end, counter.used] for key, counter in state.counters.items()
        }
        self._holds = state.holds

    def state(self) -> AccountState:
        """The state after what has been added; nothing may be added after that."""
        return AccountState(
            account=self._account,
            sequence=self.sequence,
            at=self.at,
            grants=self._grants,
            debts=self._debts,
            counters={key: Counter(*counter) for key, counter in self._counters.items()},
            holds=self._holds,
        )

    def add(self, entry: Entry) -> None:
        """One more entry, the next in sequence."""
        if entry.sequence != self.sequence + 1:
            raise BrokenLedger(f"{entry.account}: entry {entry.sequence} follows {self.sequence}")
        effects = entry.effects
        self._define(entry)
        self._move(entry)
        if effects.ended:
            self._grants.pop(effects.ended, None)
        if effects.debt:
            self._debts[entry.credit] = self._debts.get(entry.credit, 0) + effects.debt
        self._count(effects.counters)
        self._holds = _with_holds(self._holds, entry)
        self.sequence = entry.sequence
        self.at = max(self.at, entry.at)

    def _define(self, entry: Entry) -> None:
        grants, effects = self._grants, entry.effects
        if effects.put is not None:
            before = grants.get(effects.put.id)
            grants[effects.put.id] = (
                GrantState(effects.put, 0, active=False)
                if before is None
                else replace(before, grant=effects.put)
            )
        if effects.activated:
            grants[effects.activated] = replace(grants[effects.activated], active=True, filled_at=entry.at)
        if effects.filled_at:
            grants[entry.grant_id] = replace(grants[entry.grant_id], filled_at=effects.filled_at)

    def _move(self, entry: Entry) -> None:
        for change in entry.effects.grants:
            held = self._grants[change.grant_id]
            remaining = held.remaining + change.remaining
            if remaining < 0:
                raise BrokenLedger(
                    f"{entry.account}: entry {entry.sequence} overdraws grant {change.grant_id}"
                )
            self._grants[change.grant_id] = GrantState(held.grant, remaining, held.active, held.filled_at)

    def _count(self, changes: tuple[CounterChange, ...]) -> None:
        """A change in a new window starts from zero."""
        counters = self._counters
        for key, start, end, delta in changes:
            counter = counters.get(key)
            if counter is not None and counter[0] == start:
                counter[1] = end
                counter[2] += delta
            else:
                counters[key] = [start, end, delta]


def fold(state: AccountState, entry: Entry) -> AccountState:
    """`state` with the effects of `entry`, which must be the next in sequence.

    Raises:
        BrokenLedger: the entry does not follow, takes more from a grant than it has, or changes a hold that is not
            open.
    """
    return fold_all(state, (entry,))


def fold_all(state: AccountState, entries: Iterable[Entry]) -> AccountState:
    """`fold` over many entries in order."""
    folding = Folding(state)
    for entry in entries:
        folding.add(entry)
    return folding.state()


def _with_holds(before: Mapping[str, Hold], entry: Entry) -> Mapping[str, Hold]:
    effects = entry.effects
    gone = effects.ended or (entry.grant_id if effects.filled_at else "")
    if effects.hold is None and not effects.closed and not (gone and before):
        return before
    holds = dict(before)
    changed = effects.closed or (effects.hold.id if effects.hold is not None else "")
    if changed and changed != entry.id and changed not in holds:
        raise BrokenLedger(
            f"{entry.account}: entry {entry.sequence} changes hold {changed}, which is not open"
        )
    if effects.hold is not None:
        holds[changed] = replace(effects.hold, sequence=entry.sequence)
    elif changed:
        del holds[changed]
    if gone:
        for hold in before.values():
            if any(part.grant_id == gone and not part.lapsed for part in hold.parts):
                holds[hold.id] = _lapse(hold, gone, entry.sequence)
    return holds


def _lapse(hold: Hold, grant_id: str, sequence: int) -> Hold:
    """A hold after the period of a grant that it has taken from is over: that part goes nowhere back."""
    parts = tuple(replace(part, lapsed=part.lapsed or part.grant_id == grant_id) for part in hold.parts)
    return replace(hold, sequence=sequence, parts=parts)
