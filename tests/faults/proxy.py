"""A TCP proxy between two parts of the system, whose link can be broken in the ways that networks break."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import StrEnum

_CHUNK = 65_536


class Link(StrEnum):
    """How a link is."""

    FINE = "fine"
    REFUSED = "refused"
    """Open connections are cut, new ones are closed at once."""
    HALF_OPEN = "half-open"
    """What is sent arrives nowhere, and no side is told."""


class Proxy:
    """Listens on loopback and passes on what comes. One object is one link; `latency_s` is added each way."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._state = Link.FINE
        self._fine = asyncio.Event()
        self._fine.set()
        self._cut_after: int | None = None
        self.latency_s = 0.0
        self.port = 0

    async def start(self) -> None:
        """Begin to listen on a port of its own."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, state: Link) -> None:
        """Change how the link is."""
        self._state = state
        if state is Link.REFUSED:
            self.reset()
        if state is Link.FINE:
            self._fine.set()
        else:
            self._fine.clear()

    def reset(self) -> None:
        """Cut every open connection with a TCP reset, both ways."""
        for pair in list(self._pairs):
            for writer in pair:
                _reset(writer)

    def cut_reply(self, after_bytes: int) -> None:
        """Cut the connection that answers next, after that many bytes of its answer."""
        self._cut_after = after_bytes

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state is Link.REFUSED:
            _reset(writer)
            return
        await self._fine.wait()
        there_reader, there = await asyncio.open_connection(self._host, self._port)
        for each in (writer, there):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (writer, there)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pump(reader, there, replies=False), self._pump(there_reader, writer, replies=True)
            )
        except OSError:
            pass
        finally:
            self._pairs.discard(pair)
            for each in pair:
                _reset(each)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            # Half-open: what was sent meanwhile arrives late, as a packet that is sent again does.
            await self._fine.wait()
            if replies and self._cut_after is not None:
                data, self._cut_after = data[: self._cut_after], None
                writer.write(data)
                await writer.drain()
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, by a reset instead of an orderly end."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()
