"""`fold`: an account's state after one more ledger entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from creditd.domain.entries import CounterChange, Entry
from creditd.domain.state import AccountState, Counter, GrantState, Hold


class BrokenLedger(Exception):
    """The entries contradict each other: a gap, a negative grant. Never seen but for corruption or a bug."""


def fold(state: AccountState, entry: Entry) -> AccountState:
    """`state` with the effects of `entry`, which must be the next in sequence.

    Raises:
        BrokenLedger: the entry does not follow, takes more from a grant than it has, or changes a hold that is not
            open.
    """
    if entry.sequence != state.sequence + 1:
        raise BrokenLedger(f"{entry.account}: entry {entry.sequence} follows {state.sequence}")
    effects = entry.effects
    grants = dict(state.grants)
    if effects.put is not None:
        before = grants.get(effects.put.id)
        grants[effects.put.id] = (
            GrantState(effects.put, 0, active=False) if before is None else replace(before, grant=effects.put)
        )
    if effects.activated:
        grants[effects.activated] = replace(grants[effects.activated], active=True, filled_at=entry.at)
    if effects.filled_at:
        grants[entry.grant_id] = replace(grants[entry.grant_id], filled_at=effects.filled_at)
    for change in effects.grants:
        held = grants[change.grant_id]
        remaining = held.remaining + change.remaining
        if remaining < 0:
            raise BrokenLedger(f"{entry.account}: entry {entry.sequence} overdraws grant {change.grant_id}")
        grants[change.grant_id] = replace(held, remaining=remaining)
    if effects.ended:
        grants.pop(effects.ended, None)
    return AccountState(
        account=state.account,
        sequence=entry.sequence,
        at=max(state.at, entry.at),
        grants=grants,
        debts=_with_debt(state, entry),
        counters=count(state.counters, effects.counters),
        holds=_with_holds(state, entry),
    )


def fold_all(state: AccountState, entries: Iterable[Entry]) -> AccountState:
    """`fold` over many entries in order."""
    for entry in entries:
        state = fold(state, entry)
    return state


def count(counters: Mapping[str, Counter], changes: tuple[CounterChange, ...]) -> dict[str, Counter]:
    """The counters after some changes; a change in a new window starts from zero."""
    result: dict[str, Counter] = dict(counters)
    for change in changes:
        before = result.get(change.key)
        used = before.used if before is not None and before.start == change.start else 0
        result[change.key] = Counter(change.start, change.end, used + change.delta)
    return result


def _with_debt(state: AccountState, entry: Entry) -> dict[str, int]:
    debts = dict(state.debts)
    if entry.effects.debt:
        debts[entry.credit] = debts.get(entry.credit, 0) + entry.effects.debt
    return debts


def _with_holds(state: AccountState, entry: Entry) -> Mapping[str, Hold]:
    effects = entry.effects
    gone = effects.ended or (entry.grant_id if effects.filled_at else "")
    if effects.hold is None and not effects.closed and not (gone and state.holds):
        return state.holds
    holds = dict(state.holds)
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
        for hold in state.holds.values():
            if any(part.grant_id == gone and not part.lapsed for part in hold.parts):
                holds[hold.id] = _lapse(hold, gone, entry.sequence)
    return holds


def _lapse(hold: Hold, grant_id: str, sequence: int) -> Hold:
    """A hold after the period of a grant that it has taken from is over: that part goes nowhere back."""
    parts = tuple(replace(part, lapsed=part.lapsed or part.grant_id == grant_id) for part in hold.parts)
    return replace(hold, sequence=sequence, parts=parts)
