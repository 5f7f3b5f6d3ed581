"""Everything that is broken on purpose. A fault is entered to inject it and left to take its cause away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.load import Load
from tests.faults.proxy import Link, Proxy
from tests.faults.stack import Server, Stack

from creditd.engine import failpoints
from creditd.v1 import entitlements_pb2 as pb

LATENCY_S: Final = 0.2
CLOCK_MS: Final = 5_000
_FLOODERS, _FLOOD_CALLS = 40, 15
_SILENT = 30


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault works on; which server, link or step it hits is chosen by `rng`."""

    stack: Stack
    load: Load
    rng: random.Random

    def server(self) -> Server:
        """The server that is hit."""
        return self.rng.choice(self.stack.servers)

    def servers(self) -> list[Server]:
        """One server, or all."""
        return self.stack.servers if self.rng.random() < 0.4 else [self.server()]


Injected = Callable[[Scene], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by its name. Two that touch the same part are not injected at the same time."""

    name: str
    touches: str
    inject: Injected


def _fault(name: str, touches: str, body: Callable[[Scene], AsyncIterator[None]]) -> Fault:
    return Fault(name, touches, asynccontextmanager(body))


# Servers.


async def _server_killed(scene: Scene) -> AsyncIterator[None]:
    scene.server().signal(signal.SIGKILL)
    yield


async def _server_stopped(scene: Scene) -> AsyncIterator[None]:
    server = scene.server()
    server.signal(signal.SIGSTOP)
    yield
    server.signal(signal.SIGCONT)


def _at(step: str, action: str) -> Callable[[Scene], AsyncIterator[None]]:
    async def body(scene: Scene) -> AsyncIterator[None]:
        server = scene.server()
        server.order(arm=step, nth=scene.rng.randint(1, 10), action=action)
        yield
        server.signal(signal.SIGCONT)
        server.order(disarm=True)

    return body


# Valkey.


def _valkey_killed(snapshot: str) -> Callable[[Scene], AsyncIterator[None]]:
    async def body(scene: Scene) -> AsyncIterator[None]:
        valkey, file = scene.stack.valkey, scene.stack.valkey.data_dir / "dump.rdb"
        if snapshot == "old":
            async with scene.stack.redis() as client:
                await client.save()
            await asyncio.sleep(0.5)
        elif snapshot == "new":
            async with scene.stack.redis() as client:
                await client.save()
        await valkey.kill()
        if not snapshot:
            file.unlink(missing_ok=True)
        yield
        await valkey.start()

    return body


async def _flushed(scene: Scene) -> AsyncIterator[None]:
    async with scene.stack.redis() as client:
        await client.flushall()
    yield


async def _scripts_flushed(scene: Scene) -> AsyncIterator[None]:
    async with scene.stack.redis() as client:
        await client.script_flush()
    yield


async def _out_of_memory(scene: Scene) -> AsyncIterator[None]:
    async with scene.stack.redis() as client:
        await client.config_set("maxmemory", "1mb")
    yield
    async with scene.stack.redis() as client:
        await client.config_set("maxmemory", "0")


async def _valkey_stopped(scene: Scene) -> AsyncIterator[None]:
    pid = scene.stack.valkey.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


async def _reply_cut(scene: Scene) -> AsyncIterator[None]:
    for server in scene.servers():
        server.valkey.cut_reply(scene.rng.randint(1, 60))
    yield


# PostgreSQL.


async def _postgres_killed(scene: Scene) -> AsyncIterator[None]:
    await scene.stack.postgres.kill()
    yield
    await scene.stack.postgres.start()


async def _postgres_immediate(scene: Scene) -> AsyncIterator[None]:
    pid = scene.stack.postgres.pid
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)
    await _until(lambda: not scene.stack.postgres.running)
    await scene.stack.postgres.kill()
    yield
    await scene.stack.postgres.start()


async def _terminate(scene: Scene) -> None:
    async with scene.stack.sql() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'creditd'"
        )


async def _terminated(scene: Scene) -> AsyncIterator[None]:
    await _terminate(scene)
    yield


async def _read_only(scene: Scene) -> AsyncIterator[None]:
    await scene.stack.alter("ALTER SYSTEM SET default_transaction_read_only = on")
    yield
    await scene.stack.alter("ALTER SYSTEM RESET default_transaction_read_only")


def _commits_wait(*, terminated: bool) -> Callable[[Scene], AsyncIterator[None]]:
    """Commits wait for a standby that does not come: they are durable here, and nobody is told."""

    async def body(scene: Scene) -> AsyncIterator[None]:
        await scene.stack.alter("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        if terminated:
            await asyncio.sleep(0.3)
            await _terminate(scene)
        yield
        await scene.stack.alter("ALTER SYSTEM RESET synchronous_standby_names")

    return body


def _fill(ballast: Path) -> None:
    """Write a file until the disk takes no more."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 24, 1 << 16, 1 << 10):
            with contextlib.suppress(OSError):
                while True:
                    end = os.lseek(descriptor, 0, os.SEEK_END)
                    os.posix_fallocate(descriptor, end, size)
    finally:
        os.close(descriptor)


async def _disk_full(scene: Scene) -> AsyncIterator[None]:
    ballast = scene.stack.disk / "ballast"
    await asyncio.to_thread(_fill, ballast)
    yield
    ballast.unlink()
    # It gives up when it can't write its log.
    if not scene.stack.postgres.running:
        await scene.stack.postgres.kill()
        await scene.stack.postgres.start()


# The network.


def _link(side: str, how: str) -> Callable[[Scene], AsyncIterator[None]]:
    async def body(scene: Scene) -> AsyncIterator[None]:
        links: list[Proxy] = [getattr(server, side) for server in scene.servers()]
        for link in links:
            if how == "slow":
                link.latency_s = LATENCY_S / 2  # each way
            elif how == "reset":
                link.reset()
            else:
                link.set(Link(how))
        yield
        for link in links:
            link.set(Link.FINE)
            link.latency_s = 0.0

    return body


# Callers.


async def _vanishing(scene: Scene) -> AsyncIterator[None]:
    before, scene.load.vanishing = scene.load.vanishing, 0.5
    yield
    scene.load.vanishing = before


async def _flood(scene: Scene) -> AsyncIterator[None]:
    scene.load.is_flooded = True
    server = scene.server()
    async with scene.stack.channel(server) as channel:
        from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

        stub = EntitlementsStub(channel)
        request = pb.CheckRequest(account=scene.load.hot, feature="calls")

        async def flood() -> None:
            for _ in range(_FLOOD_CALLS):
                with contextlib.suppress(Exception):
                    await stub.Check(request, timeout=1.0)

        flooding = [asyncio.create_task(flood()) for _ in range(_FLOODERS)]
        yield
        await asyncio.gather(*flooding)
    scene.load.is_flooded = False


def _half_a_call(port: int) -> bytes:
    """The start of an HTTP/2 connection and of a call on it, whose message never comes."""
    path, authority = b"/creditd.v1.Entitlements/Consume", f"127.0.0.1:{port}".encode()
    fields = [b"\x83\x86", b"\x04", bytes([len(path)]), path, b"\x01", bytes([len(authority)]), authority]
    for name, value in ((b"content-type", b"application/grpc"), (b"te", b"trailers")):
        fields += [b"\x00", bytes([len(name)]), name, bytes([len(value)]), value]
    block = b"".join(fields)
    headers = len(block).to_bytes(3, "big") + b"\x01\x04" + (1).to_bytes(4, "big") + block
    part = b"\x00\x00\x00\x00\x20\x0a"
    data = len(part).to_bytes(3, "big") + b"\x00\x00" + (1).to_bytes(4, "big") + part
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + headers + data


def _silent(*, half_closed: bool) -> Callable[[Scene], AsyncIterator[None]]:
    """Callers that begin and say no more; half-closed ones have even said that they won't."""

    async def body(scene: Scene) -> AsyncIterator[None]:
        opened: list[socket.socket] = []
        for number in range(_SILENT):
            port = scene.stack.servers[number % len(scene.stack.servers)].front.port
            client = socket.socket()
            client.setblocking(False)
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
                await asyncio.get_running_loop().sock_sendall(client, _half_a_call(port))
                if half_closed:
                    client.shutdown(socket.SHUT_WR)
            opened.append(client)
        yield
        for client in opened:
            client.close()

    return body


# Clocks.


def _clock(offset_ms: int) -> Callable[[Scene], AsyncIterator[None]]:
    async def body(scene: Scene) -> AsyncIterator[None]:
        server = scene.server()
        server.order(clock_ms=offset_ms)
        yield
        server.order(clock_ms=0)

    return body


async def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


_SIDES: Final = {
    "front": "callers and server",
    "valkey": "server and Valkey",
    "postgres": "server and PostgreSQL",
}
_STEPS: Final = {
    failpoints.BEFORE_SCRIPT: "before the script",
    failpoints.AFTER_SCRIPT: "after the script",
    failpoints.AFTER_COMMIT: "after the commit",
    failpoints.BEFORE_ANSWER: "before the answer",
    failpoints.BEFORE_CLEAR: "before the outbox is cleared",
}
_ACTIONS: Final = {"kill": "SIGKILL", "stop": "SIGSTOP"}

ALL: Final[tuple[Fault, ...]] = (
    _fault("server: SIGKILL", "server", _server_killed),
    _fault("server: SIGSTOP, SIGCONT", "server", _server_stopped),
    *(
        _fault(f"server: {said} {where}", "server", _at(step, action))
        for step, where in _STEPS.items()
        for action, said in _ACTIONS.items()
    ),
    _fault("Valkey: SIGKILL, nothing kept", "valkey", _valkey_killed("")),
    _fault("Valkey: SIGKILL, snapshot kept", "valkey", _valkey_killed("new")),
    _fault("Valkey: SIGKILL, old snapshot", "valkey", _valkey_killed("old")),
    _fault("Valkey: FLUSHALL", "valkey", _flushed),
    _fault("Valkey: SCRIPT FLUSH", "valkey", _scripts_flushed),
    _fault("Valkey: maxmemory reached", "valkey", _out_of_memory),
    _fault("Valkey: SIGSTOP, SIGCONT", "valkey", _valkey_stopped),
    _fault("Valkey: cut in the middle of a reply", "valkey", _reply_cut),
    _fault("PostgreSQL: SIGKILL", "postgres", _postgres_killed),
    _fault("PostgreSQL: immediate shutdown", "postgres", _postgres_immediate),
    _fault("PostgreSQL: connections terminated", "postgres", _terminated),
    _fault("PostgreSQL: read-only", "postgres", _read_only),
    _fault("PostgreSQL: commits wait", "postgres", _commits_wait(terminated=False)),
    _fault("PostgreSQL: commits wait, then terminated", "postgres", _commits_wait(terminated=True)),
    _fault("PostgreSQL: disk full", "postgres", _disk_full),
    *(
        _fault(f"network between {between}: {said}", side, _link(side, how))
        for side, between in _SIDES.items()
        for how, said in (
            ("refused", "refused"),
            ("reset", "reset"),
            ("half-open", "half-open"),
            ("slow", f"{LATENCY_S * 1000:.0f} ms slow"),
        )
    ),
    _fault("callers: cancel and vanish", "callers", _vanishing),
    _fault("callers: flood", "callers", _flood),
    _fault("callers: go silent", "callers", _silent(half_closed=False)),
    _fault("callers: half-close", "callers", _silent(half_closed=True)),
    _fault("clock: one replica 5 s ahead, then back", "clock", _clock(CLOCK_MS)),
    _fault("clock: one replica steps back 5 s", "clock", _clock(-CLOCK_MS)),
)
NO_FAULT: Final = "no fault"
DISK_FULL: Final = "PostgreSQL: disk full"
