"""Every credit is somewhere: a check over an account's whole ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from creditd.domain.entries import Entry, Kind
from creditd.domain.state import AccountState


def conserved(log: Sequence[Entry], state: AccountState) -> None:
    """For each grant: what came in = burned + expired + voided + rolled out + held + remaining; and the sums of all.

    `log` has all entries, oldest first.
    """
    came, went = Counter[str](), Counter[str]()
    for entry in log:
        effects = entry.effects
        for change in effects.grants:
            if entry.kind in {Kind.GRANT, Kind.REFILL}:
                came[change.grant_id] += change.remaining
        if entry.kind in {Kind.EXPIRE, Kind.VOID}:
            went[entry.grant_id] -= sum(change.remaining for change in effects.grants)
        if entry.kind in {Kind.CONSUME, Kind.COMMIT, Kind.ADJUST}:
            for grant_id, micros in entry.allocations:
                went[grant_id] += micros
        if entry.kind is Kind.REFUND:
            for change in effects.grants:
                went[change.grant_id] -= change.remaining
        for grant_id, micros in (*effects.lapsed, *effects.repaid):
            if entry.kind is not Kind.REFUND:
                went[grant_id] += micros
    for held in state.grants.values():
        went[held.grant.id] += held.remaining
    for hold in state.holds.values():
        for part in hold.parts:
            went[part.grant_id] += part.micros
    assert came == went, (came, went)
    assert sum(entry.amount for entry in log) == sum(
        held.remaining for held in state.grants.values() if held.active
    ) - sum(state.debts.values())
    assert sum(entry.effects.held for entry in log) == sum(hold.micros for hold in state.holds.values())
