"""The books of an account must balance, whatever was done to it. Independent of `creditd.domain.fold`: plain sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from creditd.domain.entries import Entry, Kind
from creditd.domain.state import AccountState

IN = ("granted", "refilled", "rolled in", "returned")
OUT = ("burned", "expired", "voided", "rolled out", "held")


def check_books(entries: Sequence[Entry], state: AccountState) -> None:
    """For each grant, what came in is what went out plus what is left; the amounts add up to the balances."""
    sequences = [entry.sequence for entry in entries]
    assert sequences == list(range(1, len(entries) + 1)), "sequences have gaps"
    flows = flows_of(entries)
    for grant_id, flow in flows.items():
        came, went = sum(flow[name] for name in IN), sum(flow[name] for name in OUT)
        held = state.grants.get(grant_id)
        remaining = 0 if held is None else held.remaining
        assert came == went + remaining, f"grant {grant_id}: {dict(flow)}, {remaining} remaining"
    balances: dict[str, int] = defaultdict(int)
    for entry in entries:
        balances[entry.credit] += entry.amount
        if entry.credit and entry.kind is not Kind.ADJUST:
            assert entry.balance_after == balances[entry.credit], f"entry {entry.sequence}: balance_after"
    for credit in {held.grant.credit for held in state.grants.values()} | set(state.debts):
        left = sum(
            held.remaining for held in state.grants.values() if held.active and held.grant.credit == credit
        )
        assert balances[credit] == left - state.debts.get(credit, 0), f"balance of {credit}"


def flows_of(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """What came into and went out of each grant, by kind of flow, in micros."""
    flows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        for change in entry.effects.grants:
            flow, amount = flows[change.grant_id], change.remaining
            if entry.kind is Kind.GRANT:
                flow["granted"] += amount
            elif entry.kind is Kind.REFILL:
                _refill(entry, change.grant_id, amount, flows)
            elif entry.kind is Kind.EXPIRE:
                flow["expired"] -= amount
            elif entry.kind is Kind.VOID:
                flow["voided"] -= amount
            elif entry.kind in {Kind.RESERVE, Kind.LEASE}:
                flow["held"] -= amount
            elif amount >= 0:
                flow["returned"] += amount
            else:
                flow["burned"] -= amount
    return flows


def _refill(entry: Entry, grant_id: str, amount: int, flows: dict[str, dict[str, int]]) -> None:
    if grant_id == entry.grant_id:
        rolled = sum(micros for _grant, micros in entry.allocations)
        flows[grant_id]["refilled"] += amount + rolled
        flows[grant_id]["rolled out"] += rolled
    else:
        flows[grant_id]["rolled in"] += amount
