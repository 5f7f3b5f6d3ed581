"""A ledger on a migrated database, a connection beside it, and databases without a schema."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.ledger.making import NONCE, new_account

from creditd.embedded import EmbeddedPostgres
from creditd.ledger import Ledger

_numbers = itertools.count(1)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[Ledger]:
    """A ledger with one account; its checkpoints are far apart."""
    ledger = await Ledger.connect(database, nonce=lambda: NONCE)
    await new_account(ledger)
    yield ledger
    await ledger.close()


@pytest.fixture
async def other(database: str) -> AsyncIterator[Ledger]:
    """Another process's ledger on the same database."""
    ledger = await Ledger.connect(database, nonce=lambda: NONCE)
    yield ledger
    await ledger.close()


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(database: str) -> AsyncIterator[asyncpg.Connection]:
    """Another one, to look at who waits."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def empty_database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without a schema."""
    name = f"empty_{next(_numbers)}"
    server = await asyncpg.connect(postgres_server.dsn)
    await server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.dsn_of(name)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()
