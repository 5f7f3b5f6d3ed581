"""The hosts of the gRPC transport: two servers that serve the same registered servicers.

Nothing outside this package knows which one runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from grpc import aio

from .base import DEFAULT_MAX_MESSAGE_BYTES, Host, HostOptions, TlsFiles

Transport: TypeAlias = Literal["asgi", "grpcio"]


def make_host(
    transport: Transport,
    listen: str,
    *,
    interceptors: Sequence[aio.ServerInterceptor] = (),
    tls: TlsFiles | None = None,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    max_send_bytes: int | None = None,
    max_concurrent_streams: int = 1000,
    reuse_port: bool = False,
) -> Host:
    """Return a host that is not started yet; register servicers on its `registrar`, then start it.

    Args:
        transport: which server.
        listen: ``host:port`` (port 0 takes a free one) or ``unix:/path``.
        interceptors: run around every call, the first outermost.
        tls: serve TLS with these files; never on a Unix socket.
        max_message_bytes: the largest request message taken; RESOURCE_EXHAUSTED beyond.
        max_send_bytes: the largest response message sent; without it there is no limit.
        max_concurrent_streams: how many calls one connection may have open.
        reuse_port: let other processes listen on the same port (SO_REUSEPORT).
    """
    options = HostOptions(
        listen=listen,
        interceptors=tuple(interceptors),
        tls=tls,
        max_message_bytes=max_message_bytes,
        max_send_bytes=max_send_bytes,
        max_concurrent_streams=max_concurrent_streams,
        reuse_port=reuse_port,
    )
    # Imported here so that a deployment pays for, and depends on, the server that it runs only.
    if transport == "asgi":
        from .asgi import AsgiHost  # noqa: PLC0415

        return AsgiHost(options)
    if transport == "grpcio":
        from .grpcio import GrpcioHost  # noqa: PLC0415

        return GrpcioHost(options)
    raise ValueError(f"unknown transport {transport!r}")


__all__ = ["DEFAULT_MAX_MESSAGE_BYTES", "Host", "HostOptions", "TlsFiles", "Transport", "make_host"]
