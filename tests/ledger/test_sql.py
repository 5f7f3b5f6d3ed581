"""The named queries: each fits the schema and is used."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

import creditd.ledger
from creditd.domain.entries import TOMBSTONE, Kind
from creditd.ledger.queries import load

FOLDER = Path(creditd.ledger.__file__).parent
FILES = sorted(path.stem for path in (FOLDER / "sql").glob("*.sql"))
SOURCE = {path.stem: path.read_text() for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("file", FILES)
async def test_each_query_fits_the_schema(connection: asyncpg.Connection, file: str) -> None:
    for query in load(file).values():
        await connection.prepare(query)


@pytest.mark.parametrize("file", FILES)
def test_each_query_is_used(file: str) -> None:
    users = "".join(text for text in SOURCE.values() if f'load("{file}")' in text)

    assert [name for name in load(file) if f'["{name}"]' not in users] == []


def test_the_append_knows_tombstones_as_the_domain_does() -> None:
    queries = load("append")

    for name in ("append", "append_group"):
        assert f"d.note <> '{TOMBSTONE}' OR d.kind <> '{Kind.ADJUST}'" in queries[name]
