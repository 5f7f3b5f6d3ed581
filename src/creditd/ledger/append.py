"""The append of the write protocol: decided entries become the truth, or are turned away.

A unit lands only if its account's epoch is still the one that it was decided in, if what it depends on is
there, and if neither its place nor its idempotency key is taken. Appending the same units again is always
right: what has landed is recognised by its id. That is how an unknown outcome is resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import asyncpg

from creditd.domain.accounts import Epoch
from creditd.domain.entries import Entry
from creditd.ledger.connection import Connection
from creditd.ledger.queries import load
from creditd.ledger.rows import Row, to_columns, to_entry, to_row

_SQL: Final = load("append")
_APPEND: Final = _SQL["append"]
_APPEND_GROUP: Final = _SQL["append_group"]
_FOUND_AT: Final = _SQL["found_at"]
_FOUND_BY_KEY: Final = _SQL["found_by_key"]

_UNSTORABLE: Final = (
    asyncpg.DataError,
    asyncpg.CheckViolationError,
    asyncpg.NotNullViolationError,
    TypeError,
)
"""What the driver, the database and the JSON encoder say of a value that they can't take."""

_ATTEMPTS: Final = 3
"""How often a flight that met a deadlock or serialization failure is flown."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Entries of one account that land together or not at all; several make an atomic group.

    `depends` and `settles` are sequences of the same account that must be in the ledger, and not as a tombstone; 0 =
    none. They may be in the same call to `append`, in any order. `depends` is the latest entry before that made
    something available again, `settles` the latest one that changed the hold that the unit works on.
    """

    account: str
    epoch: Epoch
    depends: int
    entries: tuple[Entry, ...]
    settles: int = 0


@dataclass(frozen=True, slots=True)
class Landed:
    """The unit's entries are in the ledger, now or since an earlier attempt."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An idempotency key of the unit is taken by another entry; `entries` are all found under its keys."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Fenced:
    """The unit is not in the ledger: decided on a past that is not, or not yet, the ledger's.

    Until the account's epoch has been raised another attempt with the same unit may still land, so what
    follows is a load, never a decision on the same state.
    """


@dataclass(frozen=True, slots=True)
class Refused:
    """PostgreSQL can never store the unit: a NUL or half a surrogate pair in a text, a number too large ...

    Requests are checked for that before they are decided; this keeps one that slipped through from taking
    down the flight that it is in.
    """

    problem: str


Outcome: TypeAlias = Landed | Duplicate | Fenced | Refused

_LANDED: Final = Landed()
_FENCED: Final = Fenced()


async def append(connection: Connection, units: Sequence[Unit]) -> list[Outcome]:
    """Append units; the outcomes are in their order.

    Units of one entry share a statement, a group has its own. Nothing waits for a load in progress: its
    account's units are `Fenced` at once.

    Raises:
        asyncpg.PostgresError, OSError ...: the outcome of some units is unknown; append them again.
    """
    outcomes: list[Outcome] = [_FENCED] * len(units)
    for wave in _waves(units):
        singles = [index for index in wave if len(units[index].entries) == 1]
        if singles:
            landed = await _append_singles(connection, [units[index] for index in singles])
            for index, outcome in zip(singles, landed, strict=True):
                outcomes[index] = outcome
        for index in wave:
            if len(units[index].entries) != 1:
                outcomes[index] = await _append_group(connection, units[index])
    return outcomes


def _waves(units: Sequence[Unit]) -> list[list[int]]:
    """Indexes of the units, those that depend on others of the same call in a later wave than those.

    A statement doesn't see what it inserts itself, so that these must have been committed before.
    """
    if not any(unit.depends or unit.settles for unit in units):
        return [list(range(len(units)))]
    # A dependence has a smaller sequence, so that in this order each finds its dependence placed.
    order = sorted(range(len(units)), key=lambda index: units[index].entries[0].sequence)
    placed: dict[tuple[str, int], int] = {}
    waves: list[list[int]] = []
    for index in order:
        unit = units[index]
        needed = (placed.get((unit.account, sequence), -1) for sequence in (unit.depends, unit.settles))
        wave = max(needed) + 1
        for entry in unit.entries:
            placed[unit.account, entry.sequence] = wave
        while len(waves) <= wave:
            waves.append([])
        waves[wave].append(index)
    return waves


async def _append_singles(connection: Connection, units: Sequence[Unit]) -> list[Outcome]:
    try:
        rows = [_row(unit, unit.entries[0]) for unit in units]
        status = await _insert(connection, _APPEND, rows)
    except _UNSTORABLE as error:
        if len(units) == 1:
            return [Refused(str(error))]
        # One of them can't be stored: find out which, and land the others.
        middle = len(units) // 2
        return [
            *await _append_singles(connection, units[:middle]),
            *await _append_singles(connection, units[middle:]),
        ]
    if status == f"INSERT 0 {len(units)}":
        return [_LANDED] * len(units)
    return await _classify(connection, units)


async def _append_group(connection: Connection, unit: Unit) -> Outcome:
    try:
        rows = [_row(unit, entry) for entry in unit.entries]
        status = await _insert(connection, _APPEND_GROUP, rows)
    except asyncpg.UniqueViolationError:
        status = ""
    except _UNSTORABLE as error:
        return Refused(str(error))
    if status == f"INSERT 0 {len(unit.entries)}":
        return _LANDED
    return (await _classify(connection, [unit]))[0]


def _row(unit: Unit, entry: Entry) -> Row:
    return (*to_row(entry), unit.epoch.number, unit.epoch.nonce, unit.depends, unit.settles)


async def _insert(connection: Connection, query: str, rows: Sequence[Row]) -> str:
    columns = tuple(to_columns(rows))
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await connection.execute(query, *columns)
        except asyncpg.exceptions.TransactionRollbackError:
            # Nothing was done. Two flights redo the same operations under other sequences: rare, and over
            # as soon as one of them is through.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


async def _classify(connection: Connection, units: Sequence[Unit]) -> list[Outcome]:
    """What became of units of which not all landed just now; runs in new statements, which see that."""
    entries = [entry for unit in units for entry in unit.entries]
    places = await connection.fetch(
        _FOUND_AT, [entry.account for entry in entries], [entry.sequence for entry in entries]
    )
    landed = {(account, sequence, entry_id) for account, sequence, entry_id in places}
    missing = [unit for unit in units if not _is_landed(unit, landed)]
    keyed = [entry for unit in missing for entry in unit.entries if entry.idempotency_key is not None]
    found: dict[tuple[str, str | None], Entry] = {}
    if keyed:
        rows = await connection.fetch(
            _FOUND_BY_KEY, [entry.account for entry in keyed], [entry.idempotency_key for entry in keyed]
        )
        for entry in map(to_entry, rows):
            found[entry.account, entry.idempotency_key] = entry
            landed.add((entry.account, entry.sequence, entry.id))  # another process may just have landed ours
    return [_outcome(unit, landed, found) for unit in units]


def _outcome(
    unit: Unit, landed: set[tuple[str, int, str]], found: dict[tuple[str, str | None], Entry]
) -> Outcome:
    if _is_landed(unit, landed):
        return _LANDED
    keys = [entry.idempotency_key for entry in unit.entries if entry.idempotency_key is not None]
    duplicates = tuple(found[unit.account, key] for key in keys if (unit.account, key) in found)
    return Duplicate(duplicates) if duplicates else _FENCED


def _is_landed(unit: Unit, landed: set[tuple[str, int, str]]) -> bool:
    # A group is atomic: one of its entries stands for all.
    return any((entry.account, entry.sequence, entry.id) in landed for entry in unit.entries)
