"""What is broken: a PostgreSQL, a Valkey, several creditd processes, and a proxy on every link between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from redis.asyncio import Redis
from tests.faults.proxy import Link, Proxy

from creditd.embedded import EmbeddedPostgres, EmbeddedValkey
from creditd.embedded.process import free_port
from creditd.ledger.migrate import migrate

ROOT = Path(__file__).parents[2]
SERVERS = 3
DISK_MB = 640
_START_S = 90.0
_RESTART_S = 0.1

# Left as they are in production, but for what bounds a run: what a dead process left is taken up sooner, and
# checkpoints and the connections to PostgreSQL are few enough to matter.
SETTINGS = {
    "reaper_age_s": 1.0,
    "reaper_interval_s": 0.25,
    "checkpoint_every": 50,
    "pg_pool_max": 6,
    "drain_grace_s": 5.0,
}

QUICK_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),  # which is also how long an attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]


class Server:
    """A creditd process that is started again whenever it ends, as an orchestrator would."""

    def __init__(self, name: str, log_file: Path, postgres: Proxy, valkey: Proxy) -> None:
        self.name = name
        self.log_file = log_file
        self.postgres, self.valkey = postgres, valkey
        self._port = free_port()
        self.front = Proxy("127.0.0.1", self._port)
        self.crashes: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._orders: list[dict[str, Any]] = []

    async def start(self) -> None:
        """Start, and wait until it serves."""
        await self.front.start()
        self._supervisor = asyncio.create_task(self._supervise())
        await self.ready()

    async def ready(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(_START_S):
            await self._ready.wait()

    async def stop(self) -> None:
        """End it for good."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()
        await self.front.stop()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if there is one."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def order(self, **order: Any) -> None:
        """Tell it to fail in some way; see tests/faults/server.py. Forgotten when it ends."""
        if self._process is None or self._process.stdin is None or self._process.returncode is not None:
            return
        with contextlib.suppress(OSError, RuntimeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _supervise(self) -> None:
        while True:
            served = await self._run()
            assert self._process is not None
            code = self._process.returncode
            if served and code != -signal.SIGKILL:
                self.crashes.append(f"{self.name} ended by itself with {code}; see {self.log_file}")
            await asyncio.sleep(_RESTART_S)

    async def _run(self) -> bool:
        """Run the process to its end; whether it has ever served."""
        settings = {
            **SETTINGS,
            "listen": f"127.0.0.1:{self._port}",
            "postgres_dsn": f"postgresql://postgres@127.0.0.1:{self.postgres.port}/postgres",
            "redis_url": f"redis://127.0.0.1:{self.valkey.port}/0",
        }
        with self.log_file.open("ab") as log:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.server", json.dumps(settings)),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        line = await process.stdout.readline()
        if line:
            self._ready.set()
        await process.wait()
        self._ready.clear()
        return bool(line)


class Stack:
    """Everything that runs. `postgres` and `valkey` are reached directly here, through proxies by the servers."""

    def __init__(self, folder: Path, *, own_disk: bool) -> None:
        self.folder = folder
        self.disk = folder / "disk"
        self.own_disk = own_disk
        self.postgres = EmbeddedPostgres(
            self.disk / "postgres",
            fsync=False,
            settings={"max_wal_size": "64MB", "min_wal_size": "32MB", "max_connections": "60"},
        )
        self.valkey = EmbeddedValkey(folder / "valkey", rdb=True)
        self.servers: list[Server] = []

    async def start(self) -> None:
        """Start all of it."""
        await asyncio.gather(self.postgres.start(), self.valkey.start())
        await migrate(self.postgres.dsn)
        for number in range(SERVERS):
            links = [Proxy("127.0.0.1", self.postgres.port), Proxy("127.0.0.1", self.valkey.port)]
            for link in links:
                await link.start()
            self.servers.append(Server(f"server{number}", self.folder / f"server{number}.log", *links))
        await asyncio.gather(*(server.start() for server in self.servers))

    async def stop(self) -> None:
        """End all of it, however it is."""
        for server in self.servers:
            server.signal(signal.SIGCONT)
            await server.stop()
            await server.postgres.stop()
            await server.valkey.stop()
        if self.valkey.pid:
            os.kill(self.valkey.pid, signal.SIGCONT)
        await self.valkey.kill()
        await self.postgres.kill()
        await self.valkey.stop()
        await self.postgres.stop()

    def links(self) -> list[Proxy]:
        """Every proxy."""
        return [proxy for server in self.servers for proxy in (server.front, server.postgres, server.valkey)]

    async def heal(self) -> None:
        """Whatever is broken still, mend it."""
        for link in self.links():
            link.set(Link.FINE)
            link.latency_s = 0.0
        for server in self.servers:
            server.signal(signal.SIGCONT)
            server.order(disarm=True, clock_ms=0)

    def channel(self, server: Server) -> grpc.aio.Channel:
        """A connection of a caller's own to a server."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{server.front.port}", options=QUICK_CHANNEL)

    @asynccontextmanager
    async def sql(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to PostgreSQL that may write whatever the database's default is."""
        connection = await asyncpg.connect(
            self.postgres.dsn,
            timeout=20,
            command_timeout=60,
            server_settings={"default_transaction_read_only": "off", "synchronous_commit": "local"},
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def alter(self, statement: str) -> None:
        """Change PostgreSQL's configuration while it runs."""
        async with self.sql() as connection:
            await connection.execute(statement)
            await connection.execute("SELECT pg_reload_conf()")

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """A connection to Valkey."""
        async with Redis.from_url(self.valkey.url, socket_timeout=10) as client:
            yield client

    async def outbox_depth(self) -> int:
        """How many units lie in all the outboxes."""
        from creditd.hot.keys import BUCKETS, outbox_key

        async with self.redis() as client, client.pipeline(transaction=False) as pipeline:
            for bucket in range(BUCKETS):
                pipeline.hlen(outbox_key(bucket))
            return sum(await pipeline.execute())


def mounted(folder: Path) -> bool:
    """Give a folder a small disk of its own; False where that is not allowed."""
    folder.mkdir(parents=True)
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    """Take the disk away."""
    for _ in range(50):
        if subprocess.run(["umount", str(folder)], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@asynccontextmanager
async def stack(folder: Path) -> AsyncIterator[Stack]:
    """A stack that runs, and is gone afterwards."""
    own_disk = mounted(folder / "disk")
    made = Stack(folder, own_disk=own_disk)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        if own_disk:
            unmount(folder / "disk")
