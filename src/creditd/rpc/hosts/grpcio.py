"""The reference host: grpcio's own asyncio server."""

from __future__ import annotations

import grpc
from grpc import aio

from .base import UNIX, HostOptions, TlsFiles, open_socket, with_port

# Go clients may ping every 10 s; the server's minimum must be below that, or jitter makes it strike.
_MIN_PING_INTERVAL_MS = 5_000


class GrpcioHost:
    """A `Host` on `grpc.aio.server`."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._server = aio.server(interceptors=options.interceptors, options=_channel_options(options))
        self._started = False

    @property
    def registrar(self) -> aio.Server:
        """The server itself."""
        return self._server

    async def start(self) -> str:
        """Listen and serve; see `Host`."""
        options = self._options
        open_socket(options).close()  # raises what grpcio would only log
        try:
            if options.tls is None:
                port = self._server.add_insecure_port(options.listen)
            else:
                port = self._server.add_secure_port(options.listen, _credentials(options.tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {options.listen}: {error}") from error
        await self._server.start()
        self._started = True
        return options.listen if options.listen.startswith(UNIX) else with_port(options.listen, port)

    async def stop(self, grace_s: float) -> None:
        """Drain and stop; see `Host`."""
        if self._started:
            await self._server.stop(grace_s)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.cert.read_bytes())],
        root_certificates=tls.client_ca.read_bytes() if tls.client_ca else None,
        require_client_auth=tls.client_ca is not None,
    )


def _channel_options(options: HostOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(options.reuse_port)),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", -1 if options.max_send_bytes is None else options.max_send_bytes),
        ("grpc.max_concurrent_streams", options.max_concurrent_streams),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
    ]
