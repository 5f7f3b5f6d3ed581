"""The books of an account must balance, whatever was done to it. Independent of `creditd.domain.fold`: plain sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from creditd.domain.entries import Entry, Kind
from creditd.domain.state import AccountState

IN = ("granted", "raised", "refilled", "rolled in", "refunded")
OUT = ("burned", "expired", "voided", "rolled out", "lapsed", "repaid")


def check_books(entries: Sequence[Entry], state: AccountState) -> None:
    """The books of `conserved`, and each entry tells the balance after it."""
    conserved(entries, state)
    balances: dict[str, int] = defaultdict(int)
    for entry in entries:
        balances[entry.credit] += entry.amount
        if entry.credit and entry.kind is not Kind.ADJUST:
            assert entry.balance_after == balances[entry.credit], f"entry {entry.sequence}: balance_after"


def conserved(entries: Sequence[Entry], state: AccountState) -> None:
    """For each grant, what came in is what went out plus what is held and left; the amounts add up to the balances.

    `entries` has the whole ledger, oldest first.
    """
    sequences = [entry.sequence for entry in entries]
    assert sequences == list(range(1, len(entries) + 1)), "sequences have gaps"
    flows = flows_of(entries)
    parts = Counter[str]()
    for hold in state.holds.values():
        for part in hold.parts:
            parts[part.grant_id] += part.micros
    for grant_id in flows.keys() | parts.keys():
        flow = flows[grant_id]
        came, went = sum(flow[name] for name in IN), sum(flow[name] for name in OUT)
        assert not flow.keys() - {*IN, *OUT}, f"grant {grant_id}: {dict(flow)}"
        known = state.grants.get(grant_id)
        remaining = 0 if known is None else known.remaining
        assert came == went + parts[grant_id] + remaining, (
            f"grant {grant_id}: {dict(flow)}, {parts[grant_id]} held, {remaining} remaining"
        )
    _check_balances(entries, state)
    _check_holds(entries, state)
    _check_refunds(entries)


def _check_balances(entries: Sequence[Entry], state: AccountState) -> None:
    balances: dict[str, int] = defaultdict(int)
    for entry in entries:
        balances[entry.credit] += entry.amount
    for credit in {held.grant.credit for held in state.grants.values()} | set(state.debts):
        left = sum(
            held.remaining for held in state.grants.values() if held.active and held.grant.credit == credit
        )
        assert balances[credit] == left - state.debts.get(credit, 0), f"balance of {credit}"


def _check_holds(entries: Sequence[Entry], state: AccountState) -> None:
    """What each reservation has taken is what it has settled plus what it holds."""
    held = Counter[str]()
    for entry in entries:
        held[entry.reservation_id] += entry.effects.held
    for reservation_id, micros in held.items():
        hold = state.holds.get(reservation_id)
        assert micros == (0 if hold is None else hold.micros), f"reservation {reservation_id}"
    assert not state.holds.keys() - held.keys()


def _check_refunds(entries: Sequence[Entry]) -> None:
    """All refunds of an entry together give back no more than it burned."""
    charged = {entry.id: entry.answer.charged for entry in entries if entry.answer is not None}
    refunded = Counter[str]()
    for entry in entries:
        if entry.kind is Kind.REFUND and entry.answer is not None:
            refunded[entry.reverses] += entry.answer.released
    for entry_id, micros in refunded.items():
        assert micros <= charged[entry_id], f"entry {entry_id} burned {charged[entry_id]}, {micros} came back"


def flows_of(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """What came into and went out of each grant, by kind of flow, in micros. What is held is still in it."""
    flows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        if entry.kind in {Kind.COMMIT, Kind.REFUND}:
            name = "burned" if entry.kind is Kind.COMMIT else "refunded"
            for grant_id, micros in entry.allocations:
                flows[grant_id][name] += micros
        elif entry.kind not in {Kind.RESERVE, Kind.RELEASE}:
            for change in entry.effects.grants:
                _flow(entry, change.grant_id, change.remaining, flows)
        for grant_id, micros in entry.effects.lapsed:
            flows[grant_id]["lapsed"] += micros
        for grant_id, micros in entry.effects.repaid:
            flows[grant_id]["repaid"] += micros
    return flows


def _flow(entry: Entry, grant_id: str, amount: int, flows: dict[str, dict[str, int]]) -> None:
    flow = flows[grant_id]
    if entry.kind is Kind.GRANT:
        flow["granted"] += amount
    elif entry.kind is Kind.REFILL and grant_id == entry.grant_id:
        rolled = sum(micros for _grant, micros in entry.allocations)
        flow["refilled"] += amount + rolled
        flow["rolled out"] += rolled
    elif entry.kind is Kind.REFILL:
        flow["rolled in"] += amount
    elif entry.kind is Kind.EXPIRE:
        flow["expired"] -= amount
    elif entry.kind is Kind.VOID:
        flow["voided"] -= amount
    elif entry.kind is Kind.ADJUST and amount > 0:
        flow["raised"] += amount
    elif entry.kind in {Kind.CONSUME, Kind.ADJUST} and amount <= 0:
        flow["burned"] -= amount
    else:
        flow[f"came by {entry.kind.value}"] += amount
