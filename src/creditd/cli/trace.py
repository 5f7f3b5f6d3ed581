"""Request traces: CSV files with a row per request."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


class TraceError(ValueError):
    """A trace that can't be read; the message names the file, row and column."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request: its row in the file (the header is row 1), its instant and its usage by meter."""

    number: int
    at: datetime | None
    usage: dict[str, int]


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace and the digest of its content, by which a second run of it is known."""

    rows: tuple[Row, ...]
    digest: str


def read_trace(path: Path, meters: Mapping[str, str], *, time_column: str, limit: int = 0) -> Trace:
    """Read a trace; `meters` maps meters to columns, `limit` > 0 reads so many rows only.

    Raises:
        TraceError: a column is missing, or a value is not a whole number or an instant.
    """
    content = path.read_bytes()
    reader = csv.DictReader(content.decode("utf-8-sig").splitlines())
    columns = reader.fieldnames or []
    missing = [column for column in meters.values() if column not in columns]
    if missing:
        raise TraceError(f"{path}: no column {', '.join(missing)}; the columns are {', '.join(columns)}")
    rows: list[Row] = []
    for fields in reader:
        number = reader.line_num
        usage = {meter: _units(path, number, column, fields[column]) for meter, column in meters.items()}
        at = _instant(path, number, time_column, fields.get(time_column))
        rows.append(Row(number, at, usage))
        if len(rows) == limit:
            break
    return Trace(tuple(rows), hashlib.sha256(content).hexdigest())


def _units(path: Path, number: int, column: str, text: str | None) -> int:
    try:
        units = int(text or "")
    except ValueError:
        units = -1
    if units < 0:
        raise TraceError(f"{path}:{number}: column {column}: {text!r} is not a whole number of 0 or more")
    return units


def _instant(path: Path, number: int, column: str, text: str | None) -> datetime | None:
    if not text:
        return None
    # Traces carry up to seven decimals, a datetime six.
    head, _, fraction = text.partition(".")
    try:
        at = datetime.fromisoformat(f"{head}.{fraction[:6]}" if fraction else head)
    except ValueError:
        raise TraceError(f"{path}:{number}: column {column}: {text!r} is not an instant") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
