"""The audit: the ledger's tables against what the callers were told. Plain SQL and plain sums, nothing of creditd's.

The only thing it shares with creditd is the meaning of the tables' columns and of the JSON in `detail` (w answer,
e effects: g grants, c counters, d debt, h hold, s closed, v held, l lapsed, p put, a activated, x ended).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from tests.faults.journal import DENIED, REFUSED, Journal, Op

_ROWS = """
SELECT account, sequence, id, kind, credit, amount, balance_after, idempotency_key, grant_id, reservation_id,
    reverses, note, detail::text AS detail, extract(epoch FROM recorded_at)::float8 AS recorded
FROM entries WHERE account = ANY($1::text[]) ORDER BY account, sequence
"""
_KIND = {
    "consume": "CONSUME",
    "limit": "CONSUME",
    "reserve": "RESERVE",
    "extend": "RESERVE",
    "commit": "COMMIT",
    "release": "RELEASE",
    "refund": "REFUND",
    "grant": "GRANT",
    "purchase": "GRANT",
    "void": "VOID",
}
_CHARGED, _RELEASED = 1, 14
"""Places in the answer that an entry keeps."""
_RECORD = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table `entries`."""

    account: str
    sequence: int
    id: str
    kind: str
    credit: str = ""
    amount: int = 0
    balance_after: int = 0
    key: str | None = None
    grant_id: str = ""
    reservation_id: str = ""
    reverses: str = ""
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    recorded: float = 0.0

    @property
    def effects(self) -> dict[str, Any]:
        """What it does."""
        effects: dict[str, Any] = self.detail.get("e", {})
        return effects

    @property
    def is_tombstone(self) -> bool:
        """Whether it fills a place that a decision has left empty."""
        return self.kind == "ADJUST" and self.note == "tombstone"


async def rows_of(connection: asyncpg.Connection, accounts: list[str]) -> list[Row]:
    """Every entry of some accounts, by account and sequence."""
    found = []
    for record in await connection.fetch(_ROWS, accounts):
        values = list(record.values())
        values[12] = json.loads(values[12])
        found.append(Row(*values))
    return found


@dataclass(slots=True)
class Account:
    """An account as plain sums over its entries make it."""

    name: str
    sequence: int = 0
    remaining: dict[str, int] = field(default_factory=dict)
    face: dict[str, int] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)
    debt: int = 0
    balance: int = 0
    held: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    tombstones: int = 0
    drifted: int = 0
    """Entries whose `balance_after` is not the sum of the amounts up to them."""
    problems: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take one more entry into the sums."""
        self.sequence += 1
        if row.sequence != self.sequence:
            self._wrong(row, f"sequence {row.sequence} follows {self.sequence - 1}")
            self.sequence = row.sequence
        self.tombstones += row.is_tombstone
        self._grants(row)
        self._holds(row)
        self.debt += row.effects.get("d", 0)
        self.held += row.effects.get("v", 0)
        self.balance += row.amount
        for key, start, _end, delta in row.effects.get("c", ()):
            self.counters[f"{key}@{start}"] += delta
        self._check(row)

    def _grants(self, row: Row) -> None:
        effects = row.effects
        put = effects.get("p")
        if put is not None:
            self.face[put["i"]] = put["a"]
            self.remaining.setdefault(put["i"], 0)
        if effects.get("a"):
            self.active.add(effects["a"])
        for grant, change in effects.get("g", ()):
            self.remaining[grant] = self.remaining.get(grant, 0) + change
            if self.remaining[grant] < 0:
                self._wrong(row, f"grant {grant} is overspent: {self.remaining[grant]}")
            if self.remaining[grant] > self.face.get(grant, 0):
                self._wrong(row, f"grant {grant} has more than was granted")
        if effects.get("x"):
            self.active.discard(effects["x"])

    def _holds(self, row: Row) -> None:
        effects = row.effects
        hold, closed = effects.get("h"), effects.get("s")
        if hold is not None:
            if hold["i"] != row.id and hold["i"] not in self.holds:
                self._wrong(row, f"it changes hold {hold['i']}, which is not open")
            self.holds[hold["i"]] = sum(part[1] for part in hold.get("p", ()))
        if closed and self.holds.pop(closed, None) is None:
            self._wrong(row, f"it closes hold {closed}, which is not open")

    def _check(self, row: Row) -> None:
        left = sum(self.remaining.get(grant, 0) for grant in self.active)
        if self.balance != left - self.debt:
            self._wrong(row, f"the amounts add up to {self.balance}; {left} is left, {self.debt} owed")
        if self.debt < 0:
            self._wrong(row, f"the debt is {self.debt}")
        if self.held != sum(self.holds.values()):
            self._wrong(row, f"{self.held} is held, the holds hold {sum(self.holds.values())}")
        self.drifted += bool(row.credit) and row.balance_after != self.balance
        if row.credit and row.balance_after > self.balance:
            self._wrong(row, f"{row.balance_after} are told as the balance, {self.balance} are there")

    def _wrong(self, row: Row, problem: str) -> None:
        self.problems.append(f"{self.name} entry {row.sequence} ({row.kind} {row.id}): {problem}")


def summed(rows: Iterable[Row]) -> dict[str, Account]:
    """Each account's sums."""
    accounts: dict[str, Account] = {}
    for row in rows:
        accounts.setdefault(row.account, Account(row.account)).add(row)
    return accounts


@dataclass(slots=True)
class Audit:
    """What was found."""

    accounts: dict[str, Account]
    problems: list[str]


def audit(rows: list[Row], journal: Journal, *, calls_cap: int) -> Audit:
    """Hold the ledger against the journal."""
    accounts = summed(rows)
    problems = [problem for account in accounts.values() for problem in account.problems]
    problems += journal.contradictions()
    by_key: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.key is not None:
            by_key[row.account, row.key].append(row)
        if row.kind == "VOID":
            by_key[row.account, row.grant_id].append(row)
    asked = {(op.account, op.key) for op in journal.ops}
    for (account, key), found in by_key.items():
        if len(found) > 1:
            problems.append(f"{account}: key {key!r} has entries {[row.sequence for row in found]}")
        if (account, key) not in asked and not key.startswith("\x01expired/"):
            problems.append(f"{account}: nobody asked for key {key!r}")
    for op in journal.ops:
        problems += _operation(op, by_key.get((op.account, op.key), []))
    problems += _groups(journal, by_key)
    problems += _holds(journal, accounts, rows)
    for account in accounts.values():
        problems += [
            f"{account.name}: {used} of {calls_cap} are counted in {key}"
            for key, used in account.counters.items()
            if used > calls_cap
        ]
    problems += _overspent(rows, accounts, journal)
    return Audit(accounts, problems)


def _operation(op: Op, rows: list[Row]) -> list[str]:
    facts = op.facts
    if facts is None:
        if rows and op.never_done:
            return [f"it was denied, and entry {rows[0].sequence} is there: {op}"]
        late = [
            attempt
            for attempt in op.attempts
            if attempt.outcome in {DENIED, REFUSED} and rows and rows[0].recorded < attempt.wall - 1
        ]
        return [f"it was denied after entry {rows[0].sequence} had landed: {op}"] if late else []
    if op.kind == "release" and not rows:
        return []  # released by its expiry; see _holds
    if len(rows) != 1:
        return [f"it was acknowledged, and {len(rows)} entries are there: {op}"]
    row = rows[0]
    differences = [
        f"{name} is {have} in the ledger, {wanted} was answered"
        for name, have, wanted in _compared(op, row, facts)
        if have != wanted
    ]
    return [f"entry {row.sequence} of {row.account}: {', '.join(differences)}: {op}"] if differences else []


def _compared(op: Op, row: Row, facts: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    """(what, in the ledger, answered or asked)."""
    kind, effects, asked = op.kind, row.effects, op.asked
    answer = row.detail.get("w", ())
    lapsed = sum(micros for _grant, micros in effects.get("l", ()))
    yield "kind", row.kind, _KIND[kind]
    for name, column in (("entry", row.id), ("sequence", row.sequence)):
        if name in facts:
            yield name, column, facts[name]
    if kind == "consume":
        yield "amount", -row.amount, facts["charged"]
        if asked["mode"] != 2:
            yield "charge", facts["charged"], asked["micros"]
        yield "charge within what was asked", facts["charged"] <= asked["micros"], True
    elif kind == "limit":
        yield "units", sum(change[3] for change in effects.get("c", ())), asked["quantity"]
    elif kind == "reserve":
        yield "reservation", row.id, facts["reservation"]
        yield "held", -row.amount, facts["held"]
        yield "asked", facts["held"], asked["micros"]
    elif kind == "extend":
        yield "added", -row.amount, asked["micros"]
        yield "held", sum(part[1] for part in effects["h"]["p"]), facts["held"]
    elif kind == "commit":
        yield "charged", answer[_CHARGED], facts["charged"]
        yield "charge", facts["charged"], asked["micros"]
        yield "released", answer[_RELEASED], facts["released"]
        yield "amount", row.amount, -effects.get("v", 0) - facts["charged"] - lapsed
    elif kind == "release":
        yield "released", answer[_RELEASED], facts["released"]
        yield "amount", row.amount, facts["released"]
    elif kind == "refund":
        yield "refunded", answer[_RELEASED], facts["refunded"]
        yield "asked", facts["refunded"], asked["micros"]
        yield "entry undone", row.reverses, asked["entry"]
    elif kind == "grant":
        yield "grant", row.grant_id, facts["grant"]
        yield "amount", row.amount, asked["micros"]
    elif kind == "purchase":
        yield "grant", row.grant_id, facts["grant"]
        yield "amount", row.amount, facts["micros"]


def _groups(journal: Journal, by_key: dict[tuple[str, str], list[Row]]) -> list[str]:
    """An atomic batch is there whole or not at all."""
    found = []
    for group, ops in _grouped(journal).items():
        there = sum(bool(by_key.get((op.account, op.key))) for op in ops)
        if there not in {0, len(ops)}:
            found.append(f"{there} of the {len(ops)} items of the atomic batch {group} are there")
    return found


def _grouped(journal: Journal) -> dict[str, list[Op]]:
    groups: dict[str, list[Op]] = defaultdict(list)
    for op in journal.ops:
        if op.group:
            groups[op.group].append(op)
    return groups


def _holds(journal: Journal, accounts: dict[str, Account], rows: list[Row]) -> list[str]:
    """Every reservation is open exactly if its caller thinks so."""
    found = []
    expired = {row.reservation_id for row in rows if row.key == f"\x01expired/{row.reservation_id}"}
    ending = {op.asked["reservation"]: op for op in journal.ops if op.kind in {"commit", "release"}}
    for op in journal.ops:
        facts = op.facts
        if op.kind != "reserve" or facts is None:
            continue
        reservation = facts["reservation"]
        is_open = reservation in accounts[op.account].holds
        end = ending.get(reservation)
        if end is not None and end.facts is not None and is_open:
            found.append(f"hold {reservation} of {op.account} is open though it was ended: {end}")
        if end is None and not is_open and not (op.asked["ttl"] < 60 and reservation in expired):
            found.append(f"hold {reservation} of {op.account} is gone: {op}")
    return found


def _overspent(rows: list[Row], accounts: dict[str, Account], journal: Journal) -> list[str]:
    """Burned and held is at most granted and recorded: by columns alone, apart from the sums by grant."""
    in_debt = {
        (op.account, op.key) for op in journal.ops if op.kind == "commit" or op.asked.get("mode") == _RECORD
    }
    granted: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for row in rows:
        if row.kind in {"GRANT", "REFUND", "VOID", "EXPIRE"}:
            granted[row.account] += row.amount
        else:
            spent[row.account] -= row.amount
    found = []
    for name, account in accounts.items():
        recorded = sum(
            row.detail.get("e", {}).get("d", 0)
            for row in rows
            if row.account == name and (name, row.key) in in_debt and row.detail.get("e", {}).get("d", 0) > 0
        )
        if spent[name] > granted[name] + recorded:
            found.append(
                f"{name}: {spent[name]} spent, {granted[name]} granted and {recorded} recorded beyond: overspent"
            )
        if granted[name] - spent[name] != account.balance:
            found.append(f"{name}: the columns give {granted[name] - spent[name]}, not {account.balance}")
    return found
