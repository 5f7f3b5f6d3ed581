"""Migrations: applied once, forwards, by one replica at a time; an edited or unknown one stops the start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from creditd.domain.errors import Unavailable
from creditd.ledger import ChecksumMismatch, NewerSchema, NotMigrated, SchemaError, check_schema, migrate
from creditd.ledger.migrate import read_migrations

ALL = [migration.name for migration in read_migrations()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (id int)")
    return tmp_path


async def test_every_file_is_applied_once(empty_database: str) -> None:
    reported: list[str] = []

    assert await migrate(empty_database, report=reported.append) == ALL == reported
    assert await migrate(empty_database, report=reported.append) == []
    assert reported == ALL
    await check_schema(empty_database)


async def test_of_replicas_that_migrate_at_once_one_does(empty_database: str) -> None:
    done = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))

    assert sorted(done) == [[], [], [], ALL]


async def test_a_later_file_is_applied_alone(empty_database: str, folder: Path) -> None:
    await migrate(empty_database, folder=folder)
    (folder / "0002_second.sql").write_text("ALTER TABLE first ADD name text; CREATE TABLE second (id int)")

    assert await migrate(empty_database, folder=folder) == ["0002_second"]


async def test_an_edited_file_is_named(empty_database: str, folder: Path) -> None:
    await migrate(empty_database, folder=folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE first (id bigint)")

    with pytest.raises(ChecksumMismatch, match="0001_first"):
        await migrate(empty_database, folder=folder)
    with pytest.raises(ChecksumMismatch, match="0001_first"):
        await check_schema(empty_database, folder=folder)


async def test_a_newer_schema_is_refused(empty_database: str, folder: Path) -> None:
    (folder / "0002_second.sql").write_text("SELECT 1")
    await migrate(empty_database, folder=folder)
    (folder / "0002_second.sql").unlink()

    with pytest.raises(NewerSchema, match="0002_second"):
        await migrate(empty_database, folder=folder)
    with pytest.raises(NewerSchema, match="newer release"):
        await check_schema(empty_database, folder=folder)


async def test_a_file_that_fails_leaves_nothing(empty_database: str, folder: Path) -> None:
    (folder / "0002_second.sql").write_text("CREATE TABLE second (id int); SELECT 1 / 0")
    with pytest.raises(SchemaError, match=r"0002_second failed.*division"):
        await migrate(empty_database, folder=folder)

    with pytest.raises(NotMigrated, match="0002_second"):
        await check_schema(empty_database, folder=folder)
    (folder / "0002_second.sql").write_text("CREATE TABLE second (id int)")
    assert await migrate(empty_database, folder=folder) == ["0002_second"]


async def test_a_database_without_a_schema_is_not_migrated(empty_database: str) -> None:
    with pytest.raises(NotMigrated, match="creditd migrate"):
        await check_schema(empty_database)


def test_files_are_numbered_without_gaps(folder: Path) -> None:
    (folder / "0003_third.sql").write_text("")

    with pytest.raises(SchemaError, match="numbered"):
        read_migrations(folder)


async def test_a_database_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nowhere")


@pytest.mark.parametrize("statement", ["UPDATE {} SET amount = 0", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_ledger_is_append_only(connection: asyncpg.Connection, statement: str) -> None:
    await connection.execute(
        "INSERT INTO entries VALUES "
        "(1, 0, 0, 0, 0, 0, NULL, now(), 'a', 'i', 'ADJUST', '', '', '', NULL, '', '', '', '', '', '{}')"
    )
    partition = await connection.fetchval("SELECT tableoid::regclass::text FROM entries")
    tables = ["entries"] if statement.startswith("TRUNCATE") else ["entries", partition]

    for table in tables:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await connection.execute(statement.format(table))
    assert await connection.fetchval("SELECT count(*) FROM entries") == 1
