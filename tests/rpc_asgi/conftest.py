"""Both hosts, with handlers on them and a grpcio client connected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import pytest
from grpc import aio

from creditd.rpc.hosts import Host, make_host

SERVICE = "test.Service"


class Served:
    """Makes hosts and clients of them, and takes them down."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.hosts: list[Host] = []
        self.channels: list[aio.Channel] = []
        self.address = ""

    async def __call__(
        self,
        handlers: Mapping[str, grpc.RpcMethodHandler] | None = None,
        *,
        register: Callable[[Any], object] = lambda registrar: None,
        channel_options: tuple[tuple[str, Any], ...] = (),
        **options: Any,
    ) -> aio.Channel:
        host = make_host(self.transport, options.pop("listen", "127.0.0.1:0"), **options)
        self.hosts.append(host)
        if handlers:
            host.registrar.add_registered_method_handlers(SERVICE, dict(handlers))
        register(host.registrar)
        self.address = await host.start()
        return self.connect(channel_options)

    def connect(self, options: tuple[tuple[str, Any], ...] = ()) -> aio.Channel:
        # Channels to one address share connections unless told otherwise.
        channel = aio.insecure_channel(
            self.address, options=(("grpc.use_local_subchannel_pool", 1), *options)
        )
        self.channels.append(channel)
        return channel

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
        for host in self.hosts:
            await host.stop(0)


@pytest.fixture(params=["asgi", "grpcio"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def serve(transport: str) -> AsyncIterator[Served]:
    served = Served(transport)
    yield served
    await served.close()
