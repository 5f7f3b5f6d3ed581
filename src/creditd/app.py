"""The composition root: settings become stores, engine, workers and a gRPC server, and end in reverse order."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from creditd import heap
from creditd.config import Settings
from creditd.engine.engine import Engine, EngineSettings
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore
from creditd.ledger.migrate import check_schema
from creditd.ledger.store import Ledger
from creditd.rpc.hosts import make_host
from creditd.rpc.server import register
from creditd.workers.checkpoints import Checkpointer
from creditd.workers.loop import Worker
from creditd.workers.reaper import Reaper

_log = logging.getLogger(__name__)

CHECKPOINT_INTERVAL_S = 1.0


def wall_ms() -> int:
    """The wall clock in ms since the epoch."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """A started engine on the stores that the settings name, with its workers.

    Raises:
        ValueError: a store's address is missing.
        Unavailable: Postgres can't be reached. The hot store may be away: decisions then go by the ledger.
    """
    if settings.postgres_dsn is None or settings.redis_url is None:
        raise ValueError("CREDITD_POSTGRES_DSN and CREDITD_REDIS_URL are required")
    async with AsyncExitStack() as stack:
        ledger = await Ledger.connect(
            settings.postgres_dsn.get_secret_value(),
            pool_min=settings.pg_pool_min,
            pool_max=settings.pg_pool_max,
            timeout_s=settings.pg_timeout_s,
            checkpoint_every=settings.checkpoint_every,
        )
        hot = HotStore(
            settings.redis_url.get_secret_value(),
            timeout_s=settings.redis_timeout_s,
            record_ttl_ms=int(settings.idempotency_hot_ttl_s * 1000),
            idle_ttl_ms=0,
            wall_ms=wall_ms,
        )
        engine = Engine(
            ledger,
            hot,
            settings=EngineSettings(settings.group_commit_max, settings.policy_cache_accounts),
            wall_ms=wall_ms,
            random_bits=secrets.randbits,
        )
        stack.push_async_callback(engine.close)
        await engine.start()
        try:
            await hot.connect()
            await engine.catalog_control.announce(engine.catalogs.revision)
        except HotUnavailable as error:
            _log.warning("starting without the hot store", extra={"error": str(error)})
        reaper = Reaper(engine, age_ms=int(settings.reaper_age_s * 1000), wall_ms=wall_ms)
        checkpointer = Checkpointer(engine, every=settings.checkpoint_every)

        settled = 0

        async def watch_catalog() -> None:
            nonlocal settled
            if await engine.catalogs.refresh():
                await engine.catalog_control.announce(engine.catalogs.revision)
            # Also a revision that a request has met first.
            if engine.catalogs.revision != settled:
                settled = engine.catalogs.revision
                heap.settle()

        for worker in (
            Worker("reaper", reaper.sweep, interval_s=settings.reaper_interval_s),
            Worker("checkpoints", checkpointer.sweep, interval_s=CHECKPOINT_INTERVAL_S),
            Worker("catalog-watch", watch_catalog, interval_s=settings.catalog_poll_s),
        ):
            worker.start()
            stack.push_async_callback(worker.close)
        yield engine


async def serve(settings: Settings, *, on_ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain: no new calls, those in flight end, everything decided lands.

    `on_ready` is told the address once the server answers as SERVING.
    """
    if settings.postgres_dsn is not None:
        await check_schema(settings.postgres_dsn.get_secret_value())
    async with open_engine(settings) as engine:
        host = make_host(settings.transport, settings.listen, max_message_bytes=settings.max_message_bytes)
        health = register(
            host,
            engine,
            transport=settings.transport,
            test_clocks=settings.test_clocks,
            request_timeout_s=settings.request_timeout_s,
        )
        address = await host.start()
        try:
            await health.serving()
            _log.info("serving", extra={"address": address, "transport": settings.transport})
            on_ready(address)
            await stop.wait()
            _log.info("draining")
            await health.draining()
            await engine.watches.close()
        finally:
            await host.stop(settings.drain_grace_s)
