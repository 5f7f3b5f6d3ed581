"""A server that is still reading its snapshot is one that is away."""

from __future__ import annotations

import asyncio
import time

from redis.asyncio import Redis

from creditd.embedded import EmbeddedValkey
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore

KEYS = 400


async def test_a_server_that_reads_its_snapshot_is_away_and_then_back(tmp_path):
    async with EmbeddedValkey(tmp_path / "valkey", rdb=True) as server:
        async with Redis.from_url(server.url) as client:
            await client.mset({f"key{number}": "value" for number in range(KEYS)})
            await client.save()
        await server.kill()
        # Microseconds for each key: it answers INFO meanwhile, and refuses the rest.
        server._settings |= {"key-load-delay": "5000", "loading-process-events-interval-bytes": "1024"}
        starting = asyncio.create_task(server.start())
        refused = []
        while not starting.done():
            store = HotStore(
                f"redis://127.0.0.1:{server.port}/0",
                timeout_s=5,
                record_ttl_ms=1000,
                idle_ttl_ms=0,
                wall_ms=lambda: int(time.time() * 1000),
            )
            try:
                await store.connect()
            except HotUnavailable as error:
                refused.append(str(error))
            await store.close()
            await asyncio.sleep(0.01)
        await starting

        assert any("takes no scripts" in each and "LOADING" in each for each in refused), refused[-3:]
        store = HotStore(server.url, timeout_s=5, record_ttl_ms=1000, idle_ttl_ms=0, wall_ms=lambda: 0)
        await store.connect()
        await store.close()
