"""The fence: a load knows the whole past, and nothing decided on less than that lands after it.

Who waits for whom is read from the server, so that no test depends on how fast anything is.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import asyncpg
import pytest
from tests.ledger.making import FIRST, NONCE, burned, entry, granted, ids, new_account, unit, waiting

from creditd.domain.accounts import Account, Epoch
from creditd.domain.state import AccountState
from creditd.ledger import Fenced, Landed, Ledger
from creditd.ledger.append import append


async def test_after_a_load_the_old_epoch_is_turned_away(ledger: Ledger) -> None:
    async with ledger.change("acme") as tx:
        pass

    assert tx.epoch == Epoch(2, NONCE)
    assert await ledger.append([unit(entry(1))]) == [Fenced()]
    assert await ledger.append([unit(entry(1), epoch=tx.epoch)]) == [Landed()]


async def test_a_load_waits_for_an_append_in_flight_and_sees_it(
    ledger: Ledger, connection: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    flight = connection.transaction()
    await flight.start()
    assert await append(connection, [unit(granted())]) == [Landed()]

    async def load() -> tuple[AccountState, Epoch]:
        async with ledger.change("acme") as tx:
            return tx.state, tx.epoch

    loading = asyncio.create_task(load())
    await waiting(watcher, "UPDATE account_heads")
    assert not loading.done()
    await flight.commit()
    state, epoch = await loading

    assert (state.sequence, state.grants["g"].remaining) == (1, 1_000)
    assert await ledger.append([unit(burned(2))]) == [Fenced()]
    assert await ledger.append([unit(burned(2), epoch=epoch)]) == [Landed()]


async def test_an_append_begun_before_a_load_ended_is_turned_away(
    ledger: Ledger, connection: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    """The append's snapshot still has the old epoch when it comes to lock the head: it must take the new one.

    A view that waits for an advisory lock holds it up between its snapshot and its lock.
    """
    await connection.execute(
        """
        ALTER TABLE account_heads RENAME TO heads;
        CREATE FUNCTION held_up() RETURNS boolean LANGUAGE sql VOLATILE AS
            'SELECT pg_advisory_xact_lock_shared(1) IS NOT NULL';
        CREATE VIEW account_heads AS SELECT * FROM heads WHERE held_up();
        SELECT pg_advisory_lock(1);
        """
    )
    appending = asyncio.create_task(ledger.append([unit(entry(1))]))
    await waiting(watcher, "INSERT INTO entries")
    await connection.execute("UPDATE heads SET epoch = epoch + 1")
    await connection.execute("SELECT pg_advisory_unlock(1)")

    assert await appending == [Fenced()]
    assert await ids(ledger) == {}
    assert await ledger.append([unit(entry(1), epoch=Epoch(2, NONCE))]) == [Landed()]


async def test_a_load_in_progress_holds_up_no_other_account(ledger: Ledger) -> None:
    await new_account(ledger, "other")
    async with ledger.change("acme"):
        outcomes = await ledger.append([unit(entry(1)), unit(entry(1, account="other"))])

    assert outcomes == [Fenced(), Landed()]


async def test_a_load_that_rolls_back_raises_no_epoch(ledger: Ledger) -> None:
    async def fail() -> None:
        async with ledger.change("acme") as tx:
            await tx.append(granted())
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        await fail()

    assert await ids(ledger) == {}
    assert await ledger.append([unit(granted(), epoch=FIRST)]) == [Landed()]


async def test_two_loads_take_turns(ledger: Ledger, other: Ledger, watcher: asyncpg.Connection) -> None:
    async def load() -> tuple[Epoch, int]:
        async with other.change("acme") as tx:
            return tx.epoch, tx.state.sequence

    async with ledger.change("acme") as tx:
        loading = asyncio.create_task(load())
        await waiting(watcher, "UPDATE account_heads")
        await tx.append(granted())

    assert tx.epoch == Epoch(2, NONCE)
    assert await loading == (Epoch(3, NONCE), 1)


async def test_a_load_is_right_whatever_isolation_the_database_defaults_to(
    database: str, ledger: Ledger, connection: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    strict = await Ledger.connect(database)
    flight = connection.transaction()
    await flight.start()
    await append(connection, [unit(granted())])

    async def load() -> int:
        async with strict.change("acme") as tx:
            return tx.state.sequence

    loading = asyncio.create_task(load())
    await waiting(watcher, "UPDATE account_heads")
    await flight.commit()

    assert await loading == 1
    await strict.close()


async def test_racing_processes_never_overspend_or_fork_the_past(database: str, ledger: Ledger) -> None:
    """Three processes, each with hot states of its own, spend from one account and load when turned away."""
    amount = 400
    await ledger.create_account(Account("racy", created_at=0))
    async with ledger.change("racy") as tx:
        await tx.append(granted(account="racy", amount=amount))
    processes = [await Ledger.connect(database) for _ in range(3)]
    loads: list[tuple[Epoch, AccountState]] = []
    landed: Counter[str] = Counter()

    async def spend(process: int, seed: int) -> None:
        chance = random.Random(seed)
        store, state, epoch = processes[process], AccountState("racy"), Epoch(0, 0)
        sequence = balance = 0
        for turn in range(60):
            if epoch.number == 0:
                async with store.change("racy") as tx:
                    state, epoch = tx.state, tx.epoch
                loads.append((epoch, state))
                sequence, balance = state.sequence, state.grants["g"].remaining
            flight = []
            for _ in range(chance.randrange(1, 4)):
                size = chance.randrange(1, 9)
                if size > balance:
                    break
                sequence, balance = sequence + 1, balance - size
                name = f"{process}-{turn}-{sequence}"
                flight.append(
                    unit(
                        burned(
                            sequence,
                            size,
                            id=name,
                            account="racy",
                            idempotency_key=name,
                            note=str(epoch.number),
                        ),
                        epoch=epoch,
                    )
                )
            for each, outcome in zip(flight, await store.append(flight), strict=True):
                if outcome == Landed():
                    landed[each.entries[0].id] += 1
                else:
                    epoch = Epoch(0, 0)

    await asyncio.gather(*(spend(process, process) for process in range(3)))
    async with ledger.change("racy") as tx:
        pass
    final = {each.sequence: each for each in await ledger.list_entries("racy", limit=10_000)}

    assert sorted(final) == list(range(1, tx.state.sequence + 1))
    assert tx.state.grants["g"].remaining >= 0
    kept = {each.id for each in final.values()}
    assert set(landed) <= kept
    assert set(landed.values()) == {1}
    for epoch, state in loads:
        known = [final[sequence] for sequence in range(1, state.sequence + 1)]
        later = [final[sequence] for sequence in range(state.sequence + 1, len(final) + 1)]
        assert sum(each.amount for each in known) == state.grants["g"].remaining
        assert all(each.is_tombstone or int(each.note) >= epoch.number for each in later)
    for process in processes:
        await process.close()
