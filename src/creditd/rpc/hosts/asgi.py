"""The fast host: the gRPC-over-ASGI adapter, run by h2corn inside this process's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path

import h2corn

from creditd.rpc.asgi import UNLIMITED, GrpcApp

from .base import UNIX, HostOptions, open_socket, with_port

_log = logging.getLogger(__name__)

# The host bounds a drain itself: `stop` is told its bound, the server would have to know it from the start.
_NO_BOUND_S = 10.0**6
_UNWIND_S = 5.0
_IDLE_S = 900.0
_BACKLOG = 1024


class AsgiHost:
    """A `Host` on h2corn."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        # h2corn cancels the application's task when a stream is reset or its connection lost.
        self._app = GrpcApp(
            interceptors=options.interceptors,
            max_receive_bytes=options.max_message_bytes,
            max_send_bytes=UNLIMITED if options.max_send_bytes is None else options.max_send_bytes,
            watch_disconnect=False,
        )
        self._listener: socket.socket | None = None
        self._server: h2corn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def registrar(self) -> GrpcApp:
        """The application; it has the methods of a server that generated code needs."""
        return self._app

    async def start(self) -> str:
        """Listen and serve; see `Host`."""
        if self._server is not None:
            raise RuntimeError("this host was started before")
        listener = self._listener = open_socket(self._options)
        try:
            listener.listen(_BACKLOG)
            server = self._server = h2corn.Server(self._app, _config(self._options, listener.fileno()))
            self._serving = asyncio.create_task(server.serve(), name="h2corn")
            await self._started(server, self._serving)
        except BaseException:
            self._close_listener()
            raise
        listen = self._options.listen
        return listen if listen.startswith(UNIX) else with_port(listen, listener.getsockname()[1])

    async def _started(self, server: h2corn.Server, serving: asyncio.Task[None]) -> None:
        try:
            await server.wait_started()
        except BaseException:
            serving.cancel()
            await asyncio.wait([serving])
            if not serving.cancelled():
                serving.exception()  # the same as is raised here; this marks it as seen
            raise

    async def stop(self, grace_s: float) -> None:
        """Drain and stop; see `Host`."""
        server, serving = self._server, self._serving
        if server is None or serving is None or serving.done():
            return
        server.shutdown()  # GOAWAY to every connection
        self._close_listener()
        done, _ = await asyncio.wait([serving], timeout=grace_s)
        if not done:
            _log.warning("Cancelling %d calls that outlasted the grace", self._app.calls_in_flight)
            self._app.cancel_calls()
            done, _ = await asyncio.wait([serving], timeout=_UNWIND_S)
        if not done:
            _log.error("%d calls ignore their cancellation; left behind", self._app.calls_in_flight)
            return
        await serving

    def _close_listener(self) -> None:
        listener = self._listener
        if listener is None:
            return
        self._listener = None
        if self._options.listen.startswith(UNIX):
            Path(self._options.listen.removeprefix(UNIX)).unlink(missing_ok=True)
        # The server keeps duplicates open until it has drained, and the kernel would go on taking
        # connections that nobody serves; shutting the socket down reaches all of them. Not every
        # system can do that to a listener; there the clients wait.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _config(options: HostOptions, listener: int) -> h2corn.Config:
    tls = options.tls
    return h2corn.Config(
        bind=(f"fd://{listener}",),
        certfile=tls.cert if tls else None,
        keyfile=tls.key if tls else None,
        ca_certs=tls.client_ca if tls else None,
        cert_reqs="required" if tls and tls.client_ca else "none",
        grpc=True,
        http1=False,
        lifespan="off",
        access_log=False,
        date_header=False,
        max_concurrent_streams=options.max_concurrent_streams,
        # HTTP/2's own default: gRPC gains nothing from more, and clients may rely on it being refused.
        h2_max_inbound_frame_size=16_384,
        h2_max_header_list_size=65_536,
        # A client that pauses longer than this reconnects; shorter would cost a handshake on quiet callers.
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_NO_BOUND_S,
    )
