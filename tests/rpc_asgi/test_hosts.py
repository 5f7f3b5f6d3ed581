"""Starting and stopping: addresses, TLS, drain."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from tests.interop.certificates import make_certificates

from creditd.rpc.hosts import TlsFiles, make_host

from .conftest import SERVICE, Served

UNARY = f"/{SERVICE}/Unary"


class Gate:
    """A handler that waits to be let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request: bytes, context: Any) -> bytes:
        if request == b"pass":
            return b"passed"
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"done"

    @property
    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {"Unary": grpc.unary_unary_rpc_method_handler(self.__call__)}


async def _refused(channel: Callable[[], aio.Channel]) -> grpc.StatusCode:
    """Call until it fails: a call or two may still slip in."""
    while True:
        try:
            await channel().unary_unary(UNARY)(b"pass")
        except aio.AioRpcError as error:
            return error.code()


async def test_stop_lets_calls_in_flight_finish_and_refuses_new_ones(serve: Served) -> None:
    gate = Gate()
    channel = await serve(gate.handlers)
    call = channel.unary_unary(UNARY)(b"")
    await gate.entered.wait()
    stopping = asyncio.create_task(serve.hosts[0].stop(60))
    # Both on a new connection and on the one that is told to go away.
    assert await _refused(serve.connect) is grpc.StatusCode.UNAVAILABLE
    assert await _refused(lambda: channel) is grpc.StatusCode.UNAVAILABLE
    assert not stopping.done()
    gate.open.set()
    assert await call == b"done"
    await stopping


async def test_stop_cancels_what_outlasts_the_grace(serve: Served) -> None:
    gate = Gate()
    call = (await serve(gate.handlers)).unary_unary(UNARY)(b"")
    await gate.entered.wait()
    await serve.hosts[0].stop(0)
    await gate.cancelled.wait()
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_stop_with_idle_connections_and_twice(serve: Served) -> None:
    gate = Gate()
    channel = await serve(gate.handlers)
    assert await channel.unary_unary(UNARY)(b"pass") == b"passed"
    await serve.hosts[0].stop(60)
    await serve.hosts[0].stop(60)


async def test_stop_without_start(transport: str) -> None:
    await make_host(transport, "127.0.0.1:0").stop(1)


async def test_address_in_use(serve: Served, transport: str) -> None:
    await serve(Gate().handlers)
    second = make_host(transport, serve.address)
    with pytest.raises(OSError, match="cannot listen on") as caught:
        await second.start()
    assert caught.value.errno == errno.EADDRINUSE


async def test_port_shared_when_asked(serve: Served) -> None:
    await serve(Gate().handlers, reuse_port=True)
    channel = await serve(Gate().handlers, listen=serve.address, reuse_port=True)
    assert await channel.unary_unary(UNARY)(b"pass") == b"passed"


async def test_unix_socket(serve: Served, transport: str, tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/s"
    channel = await serve(Gate().handlers, listen=listen)
    assert serve.address == listen
    assert await channel.unary_unary(UNARY)(b"pass") == b"passed"
    with pytest.raises(OSError, match="cannot listen on"):
        await make_host(transport, listen).start()
    assert await channel.unary_unary(UNARY)(b"pass") == b"passed"


async def test_unix_socket_left_by_a_dead_process(serve: Served, tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    channel = await serve(Gate().handlers, listen=f"unix:{path}")
    assert await channel.unary_unary(UNARY)(b"pass") == b"passed"


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1", ":80", "127.0.0.1:http", "127.0.0.1:70000"])
def test_bad_addresses(listen: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        make_host("asgi", listen)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def _credentials(folder: Path, client: bool) -> grpc.ChannelCredentials:
    pair = (
        ((folder / "client.key").read_bytes(), (folder / "client.pem").read_bytes())
        if client
        else (None, None)
    )
    return grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes(), *pair)


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls(serve: Served, certificates: Path, mutual: bool) -> None:
    async def who(request: bytes, context: Any) -> bytes:
        properties = context.auth_context()
        assert list(properties["transport_security_type"]) == [b"ssl"]
        return b",".join(properties.get("x509_common_name", ()))

    tls = TlsFiles(
        cert=certificates / "server.pem",
        key=certificates / "server.key",
        client_ca=certificates / "ca.pem" if mutual else None,
    )
    await serve({"Unary": grpc.unary_unary_rpc_method_handler(who)}, tls=tls)
    target = "localhost:" + serve.address.rpartition(":")[2]
    async with aio.secure_channel(target, _credentials(certificates, client=mutual)) as channel:
        assert await channel.unary_unary(UNARY)(b"") == (b"worker" if mutual else b"")
    if mutual:
        async with aio.secure_channel(target, _credentials(certificates, client=False)) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary(UNARY)(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_tls_is_not_for_unix_sockets(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TCP"):
        make_host("asgi", f"unix:{tmp_path}/s", tls=TlsFiles(tmp_path, tmp_path))
