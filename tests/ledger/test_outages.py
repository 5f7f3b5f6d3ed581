"""A lost connection, a stopped server, a demoted primary: Unavailable, and afterwards all is right again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
from tests.ledger.making import NONCE, entry, ids, new_account, unit, waiting

from creditd.domain.accounts import Account
from creditd.domain.errors import InvalidArgument, Unavailable
from creditd.embedded import EmbeddedPostgres
from creditd.ledger import Landed, Ledger, migrate
from creditd.ledger.append import append

KILL = "SELECT pg_terminate_backend($1)"


async def test_an_append_cut_off_before_its_commit_is_redone(
    ledger: Ledger, connection: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    units = [unit(entry(1)), unit(entry(2, idempotency_key="k"))]
    rival = connection.transaction()
    await rival.start()
    await append(connection, [unit(entry(9, idempotency_key="k"))])
    appending = asyncio.create_task(ledger.append(units))
    await watcher.execute(KILL, await waiting(watcher, "INSERT INTO entries"))
    with pytest.raises(Unavailable):
        await appending
    await rival.rollback()

    assert await ledger.append(units) == [Landed(), Landed()]
    assert await ids(ledger) == {1: "entry-1", 2: "entry-2"}


async def test_an_append_cut_off_after_its_commit_is_recognised(
    ledger: Ledger, connection: asyncpg.Connection
) -> None:
    units = [unit(entry(1, idempotency_key="k")), unit(entry(2), entry(3))]
    await append(connection, units)  # whose answer was lost

    assert await ledger.append(units) == [Landed(), Landed()]
    assert list(await ids(ledger)) == [1, 2, 3]


async def test_a_cancelled_append_leaves_no_reply_to_the_next(
    ledger: Ledger, connection: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    rival = connection.transaction()
    await rival.start()
    await append(connection, [unit(entry(9, idempotency_key="k"))])
    appending = asyncio.create_task(ledger.append([unit(entry(1, idempotency_key="k"))]))
    await waiting(watcher, "INSERT INTO entries")
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending

    await rival.rollback()
    assert await ledger.append([unit(entry(1, idempotency_key="k"))]) == [Landed()]


async def test_a_load_cut_off_leaves_nothing(ledger: Ledger, watcher: asyncpg.Connection) -> None:
    async def load() -> None:
        async with ledger.change("acme") as tx:
            await tx.append(entry(1))
            await watcher.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'idle in transaction'
                """
            )

    with pytest.raises(Unavailable):
        await load()

    assert await ids(ledger) == {}
    async with ledger.change("acme") as tx:
        await tx.append(entry(1))
    assert await ids(ledger) == {1: "entry-1"}


async def test_a_wait_that_is_too_long_is_unavailable(
    database: str, ledger: Ledger, connection: asyncpg.Connection
) -> None:
    impatient = await Ledger.connect(database, timeout_s=0.2)
    held = connection.transaction()
    await held.start()
    await connection.execute("UPDATE account_heads SET epoch = epoch")

    with pytest.raises(Unavailable):
        async with impatient.change("acme"):
            pass
    await held.rollback()
    async with impatient.change("acme") as tx:
        assert tx.epoch.number == 2
    await impatient.close()


async def test_a_demoted_primary_is_left(
    database: str, ledger: Ledger, connection: asyncpg.Connection
) -> None:
    """Connections that were made before the demotion say read-only for ever: none of them is kept."""
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    stuck = await Ledger.connect(database, pool_min=2)
    await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")

    with pytest.raises(Unavailable):
        await new_account(stuck, "other")
    await new_account(stuck, "other")
    assert await stuck.append([unit(entry(1, account="other"))]) != []
    await stuck.close()


async def test_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "postgres", fsync=False) as server:
        dsn = server.dsn
        await migrate(dsn)
        ledger = await Ledger.connect(dsn, nonce=lambda: NONCE)
        await new_account(ledger)
        await ledger.append([unit(entry(1))])

    for call in (ledger.ping(), ledger.append([unit(entry(2))]), ledger.find_key("acme", "k")):
        with pytest.raises(Unavailable):
            await call
    with pytest.raises(Unavailable):
        async with ledger.change("acme"):
            pass
    with pytest.raises(Unavailable):
        await Ledger.connect(dsn)
    await ledger.close()


async def test_what_can_not_be_stored_is_the_callers_mistake(ledger: Ledger) -> None:
    with pytest.raises(InvalidArgument):
        await ledger.create_account(Account("a", created_at=0, name="nul \x00"))


async def test_a_closed_ledger_is_unavailable(database: str) -> None:
    ledger = await Ledger.connect(database)
    await ledger.close()

    with pytest.raises(Unavailable):
        await ledger.ping()
