"""The simulated PostgreSQL against the real one: the same calls on the real `Ledger` have the same outcomes on both."""

from __future__ import annotations

import itertools
import random
from contextvars import copy_context

import pytest
from tests.ledger.making import burned, granted, new_account, unit
from tests.simulator import statements
from tests.simulator.loop import SimLoop
from tests.simulator.postgres import Server, SimConnections
from tests.simulator.weather import Weather

from creditd.domain.accounts import Epoch
from creditd.domain.errors import CreditdError
from creditd.ledger import Ledger


def nonces():
    return itertools.count(100).__next__


async def live(ledger: Ledger, seed: int) -> list[object]:
    """Random appends, good and bad, loads, reads and checkpoints, one after the other; what each of them said."""
    source = random.Random(seed)
    said: list[object] = []
    await new_account(ledger)
    async with ledger.change("acme") as tx:
        await tx.append(granted(1))
        epoch = tx.epoch
    top = 1
    for number in range(60):
        kind = source.choice(
            ("append", "append", "append", "group", "load", "read", "keys", "checkpoint", "list")
        )
        if kind in {"append", "group"}:
            units = []
            for place in range(source.randrange(1, 4)):
                first = max(2, top + source.choice((1, 1, 1, 2, 0, -1)) + place)
                key = source.choice((None, f"k{source.randrange(12)}"))
                entries = [burned(first, 1, id=f"e{number}.{place}", idempotency_key=key)]
                if kind == "group":
                    entries.append(burned(first + 1, 1, id=f"e{number}.{place}+", idempotency_key=None))
                old = source.random() < 0.15
                units.append(
                    unit(
                        *entries,
                        epoch=Epoch(epoch.number - 1, epoch.nonce) if old else epoch,
                        depends=source.choice((0, 0, 1, first - 1, first + 5)),
                        settles=source.choice((0, 0, 0, first - 1)),
                    )
                )
            said.append(await ledger.append(units))
            top = await ledger.head_sequence("acme")
        elif kind == "load":
            fails = source.random() < 0.3
            key = f"k{source.randrange(12)}"
            try:
                async with ledger.change("acme") as tx:
                    said += [tx.epoch, tx.state, tx.tail_length, await tx.find_key(key)]
                    await tx.append(burned(tx.state.sequence + 1, 1, id=f"c{number}", idempotency_key=key))
                    if fails:
                        raise KeyError(number)
                    epoch, top = tx.epoch, tx.state.sequence
            except (CreditdError, KeyError) as error:
                said.append(repr(error))
        elif kind == "read":
            said.append(await ledger.read("acme", from_start=source.random() < 0.5))
        elif kind == "keys":
            said.append(await ledger.find_keys("acme", [f"k{each}" for each in range(12)]))
        elif kind == "checkpoint":
            said.append(await ledger.checkpoint("acme"))
        else:
            said.append(await ledger.list_entries("acme", limit=source.choice((3, 100))))
    return said


@pytest.mark.parametrize("seed", range(4))
async def test_the_simulated_ledger_says_what_the_real_one_says(dsn, seed):
    real = await Ledger.connect(dsn, nonce=nonces(), checkpoint_every=8)
    try:
        expected = await live(real, seed)
    finally:
        await real.close()
    assert simulated(seed) == expected


def simulated(seed: int) -> list[object]:
    import asyncio

    running = asyncio.get_running_loop()
    loop = SimLoop(random.Random(seed))

    async def life() -> list[object]:
        server = Server(
            loop,
            Weather(random.Random(seed)),
            copy_context(),
            lambda *_what: None,
            statements.by_text(),
            timeout_s=5.0,
        )
        ledger = Ledger(SimConnections(server, pool_max=4), nonce=nonces(), checkpoint_every=8)
        return await live(ledger, seed)

    asyncio.events._set_running_loop(None)
    task = asyncio.current_task(running)
    asyncio.tasks._leave_task(running, task)
    try:
        return loop.run(life())
    finally:
        loop.dispose()
        asyncio.tasks._enter_task(running, task)
        asyncio.events._set_running_loop(running)
