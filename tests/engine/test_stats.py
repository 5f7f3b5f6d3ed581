"""What a process tells of itself: while a store is away, and over time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.engine.conftest import CATALOG, FakeClock, World

from creditd.embedded import EmbeddedPostgres, EmbeddedValkey
from creditd.engine.load import LoadCause
from creditd.engine.requests import Use
from creditd.ledger.migrate import migrate


@pytest.fixture
async def frail(tmp_path: Path):
    """A world whose stores may be killed."""
    async with (
        EmbeddedPostgres(tmp_path / "pg", fsync=False) as postgres,
        EmbeddedValkey(tmp_path / "valkey") as valkey,
    ):
        await migrate(postgres.dsn)
        world = World(postgres.dsn, valkey.url, FakeClock(), [])
        engine = await world.replica()
        await engine.apply_catalog(CATALOG, dry_run=False, effective_at=None, expected_version=None, note="")
        await world.account()
        yield world, postgres, valkey
        await engine.close()


async def test_while_the_ledger_is_away_decided_units_are_seen_in_the_outbox(frail) -> None:
    world, postgres, _valkey = frail
    engine = world.engines[0]
    await engine.consume(Use("acme", "chat"))
    await postgres.kill()
    waiting = [asyncio.create_task(engine.consume(Use("acme", "chat"))) for _ in range(3)]
    async with asyncio.timeout(20):
        while engine.committer.depth < 3 or not engine.committer.meters.failed_attempts:
            await asyncio.sleep(0)
    world.clock.advance(1000)
    away = await engine.stats(hottest_max=1)
    decided_before = dict(away.decisions.consume.reasons)
    await postgres.start()
    rulings = await asyncio.gather(*waiting)
    await engine.committer.close()  # waits for the outbox to be cleared
    world.clock.advance(1000)
    back = await engine.stats(hottest_max=1)

    assert (away.outbox_depth, away.queued, away.ledger_reachable) == (3, 3, False)
    assert decided_before == {"COVERED": 1}
    assert [ruling.allowed for ruling in rulings] == [True] * 3
    assert (back.outbox_depth, back.queued, back.ledger_reachable) == (0, 0, True)
    assert back.decisions.consume.reasons == {"COVERED": 4}
    assert (back.commits.units, back.hottest.accounts[0].decisions) == (4, 4)


async def test_while_the_hot_store_is_away_there_is_no_outbox_depth(frail) -> None:
    world, _postgres, valkey = frail
    engine = world.engines[0]
    there = await engine.stats(hottest_max=1)
    await valkey.kill()
    world.clock.advance(1000)
    away = await engine.stats(hottest_max=1)
    loads_before = away.loads[LoadCause.CHANGED]
    await engine.consume(Use("acme", "chat"))
    after = await engine.stats(hottest_max=1)

    assert (there.outbox_depth, away.outbox_depth, away.ledger_reachable) == (0, None, True)
    assert after.decisions.consume.reasons == {"COVERED": 1}
    assert after.loads[LoadCause.CHANGED] == loads_before + 1


async def test_a_hot_store_that_is_loading_or_out_of_service_counts_as_away(world, engine) -> None:
    async with Redis.from_url(world.url) as client:
        # Whoever asks a replica whose primary is gone, and which serves no stale data, gets MASTERDOWN.
        await client.config_set("replica-serve-stale-data", "no")
        await client.replicaof("127.0.0.1", 1)
        try:
            away = await engine.stats(hottest_max=1)
        finally:
            await client.replicaof("NO", "ONE")
            await client.config_set("replica-serve-stale-data", "yes")

    assert away.outbox_depth is None


async def test_loads_are_counted_by_cause(world, engine, clock) -> None:
    await world.account()
    async with Redis.from_url(world.url) as client:
        await client.flushall()
    await engine.check(Use("acme", "chat"))
    clock.advance(24 * 3600 * 1000)
    await world.grant(5, "later", effective_at=clock.now + 1000)
    clock.advance(2000)
    await engine.check(Use("acme", "chat"))
    loads = (await engine.stats(hottest_max=1)).loads

    assert {cause: loads[cause] for cause in LoadCause} == {
        LoadCause.COLD: 1,
        LoadCause.ROLLED: 1,
        LoadCause.FENCED: 0,
        LoadCause.CHANGED: 2,
    }


async def test_a_decision_on_an_outdated_state_is_counted_as_fenced(world) -> None:
    first = world.engines[0]
    await world.account()
    await first.consume(Use("acme", "chat"))
    async with Redis.from_url(world.url) as client:
        dump = {key: await client.dump(key) for key in await client.keys("*:s:*")}
        await (await world.replica()).loader.load("acme", LoadCause.CHANGED)
        for key, value in dump.items():
            await client.restore(key, 0, value, replace=True)
    ruling = await first.consume(Use("acme", "chat"))
    loads = (await first.stats(hottest_max=1)).loads

    assert ruling.allowed
    assert loads[LoadCause.FENCED] == 1
