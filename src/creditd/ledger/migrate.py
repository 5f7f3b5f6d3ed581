"""Schema migrations: numbered SQL files, applied forwards only, once, in one transaction each.

A released file is never edited: its checksum is kept in the database and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg

from creditd.ledger.connection import AWAY, CONNECT_TIMEOUT_S, Connection, mapped

_LOCK: Final = 0x63726564_6D696772
"""Key of the advisory lock that makes migrating replicas take turns: "credmigr"."""

_CREATE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_TABLE_EXISTS: Final = "SELECT to_regclass('schema_migrations') IS NOT NULL"
_APPLIED: Final = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
_RECORD: Final = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"


class SchemaError(Exception):
    """The database's schema is not the one that this release works with."""


class NotMigrated(SchemaError):
    """Migrations of this release are missing in the database."""


class ChecksumMismatch(SchemaError):
    """A migration that was applied has another text now."""


class NewerSchema(SchemaError):
    """The database has migrations that this release doesn't know."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


async def migrate(
    dsn: str, *, report: Callable[[str], None] | None = None, folder: Traversable | None = None
) -> list[str]:
    """Bring the schema up to this release; returns the names of the files applied now.

    Safe when several replicas start at once: they take turns, and the later ones find nothing to do. The
    turn is a session lock, so `dsn` must not go through a pooler in transaction mode.

    Args:
        dsn: the database; the user needs the right to create tables.
        report: is told each name after it was applied.
        folder: where the files are, if not in this package.

    Raises:
        ChecksumMismatch: an applied file was changed.
        NewerSchema: a newer release has migrated the database.
        SchemaError: a file failed; those before it are applied.
        Unavailable: the database is away.
    """
    migrations = read_migrations(folder)
    done: list[str] = []
    with mapped():
        async with _connected(dsn) as connection:
            # No timeout: the replica that has the turn may be building an index.
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute(_CREATE_TABLE)
            for migration in _pending(migrations, await connection.fetch(_APPLIED)):
                await _apply(connection, migration)
                done.append(migration.name)
                if report is not None:
                    report(migration.name)
    return done


async def check_schema(dsn: str, *, folder: Traversable | None = None) -> None:
    """Make sure that the database has exactly the migrations of this release; changes nothing.

    Raises:
        NotMigrated: some are missing.
        ChecksumMismatch: an applied file was changed.
        NewerSchema: a newer release has migrated the database.
        Unavailable: the database is away.
    """
    with mapped():
        async with _connected(dsn) as connection:
            exists = await connection.fetchval(_TABLE_EXISTS)
            applied = await connection.fetch(_APPLIED) if exists else []
    missing = _pending(read_migrations(folder), applied)
    if missing:
        names = ", ".join(migration.name for migration in missing)
        raise NotMigrated(f"the database lacks {names}: run `creditd migrate` first")


def read_migrations(folder: Traversable | None = None) -> list[Migration]:
    """The migration files in order; their numbers must be 1, 2, 3 ..."""
    folder = folder or resources.files("creditd.ledger").joinpath("migrations")
    migrations = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            name = file.name.removesuffix(".sql")
            migrations.append(Migration(int(name.split("_")[0]), name, file.read_text(encoding="utf-8")))
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise SchemaError(f"migrations are not numbered 1 to {len(migrations)}")
    return migrations


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.text)
            await connection.execute(_RECORD, migration.version, migration.name, migration.checksum)
    except AWAY:
        raise
    except asyncpg.PostgresError as error:
        raise SchemaError(f"migration {migration.name} failed, nothing of it was kept: {error}") from error


def _pending(migrations: Sequence[Migration], applied: Sequence[asyncpg.Record]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    for version, name, checksum in applied:
        migration = known.pop(version, None)
        if migration is None:
            raise NewerSchema(
                f"the database has migration {name}, which this release does not know: "
                "it was migrated by a newer release"
            )
        if migration.checksum != checksum:
            raise ChecksumMismatch(
                f"migration {migration.name} was changed after it was applied; "
                "restore its text and put the change into a new migration"
            )
    return list(known.values())


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)
    try:
        yield connection
    finally:
        # Ends the session's advisory lock too; never waits for a server that went away.
        await connection.close(timeout=CONNECT_TIMEOUT_S)
