"""What all tests share: real servers for the session, a database and an empty Valkey for each test."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest
from redis.asyncio import Redis

from creditd.embedded import EmbeddedPostgres, EmbeddedValkey

# A developer's own settings must not change what is tested.
for _name in [name for name in os.environ if name.startswith("CREDITD_") and name != "CREDITD_TEST_DATA"]:
    del os.environ[_name]
# Nor must the servers that a developer has contexts for.
os.environ["CREDITD_CONTEXT_FILE"] = os.devnull

hypothesis.settings.register_profile("ci", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "nightly", parent=hypothesis.settings.get_profile("ci"), max_examples=1_000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_TEMPLATE = "creditd_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data of the session's servers, removed at its end: pytest keeps its directories for three runs."""
    path = tmp_path_factory.mktemp("servers")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
async def postgres_server(servers_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """One PostgreSQL for the session; a test that kills or stops a server starts its own."""
    async with EmbeddedPostgres(servers_dir / "postgres", fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
async def valkey_server(servers_dir: Path) -> AsyncIterator[EmbeddedValkey]:
    """One Valkey for the session; a test that kills or stops a server starts its own."""
    async with EmbeddedValkey(servers_dir / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
async def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database with the schema and nothing else, to copy."""
    # Here and not above, so that tests without a database need nothing of the ledger.
    from creditd.ledger.migrate import migrate

    await _execute(postgres_server.dsn, f"CREATE DATABASE {_TEMPLATE}")
    await migrate(postgres_server.dsn_of(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture(scope="session")
async def session_dsn(postgres_server: EmbeddedPostgres, migrated_template: str) -> str:
    """The URL of a migrated database that the tests of a session share, each on accounts of its own."""
    await _execute(postgres_server.dsn, f"CREATE DATABASE shared TEMPLATE {migrated_template}")
    return postgres_server.dsn_of("shared")


@pytest.fixture
async def dsn(postgres_server: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[str]:
    """The URL of a migrated database of the test's own."""
    name = f"test_{next(_numbers)}"
    await _execute(postgres_server.dsn, f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    yield postgres_server.dsn_of(name)
    await _execute(postgres_server.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(dsn: str) -> str:
    """The same as `dsn`."""
    return dsn


@pytest.fixture
async def valkey(valkey_server: EmbeddedValkey) -> str:
    """The URL of a Valkey without keys and scripts, which the tests share one after the other."""
    async with Redis.from_url(valkey_server.url) as client:
        await client.flushall()
        await client.script_flush()
    return valkey_server.url


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
