"""Length-prefixed messages: cut out of ASGI receive events, and put together for sending."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from .status import RpcFailure

Receive: TypeAlias = Callable[[], Awaitable[Any]]

PREFIX = 5  # one byte of flags, four of length
IDENTITY = b"identity"
# zlib's window bits select the container: 15 is zlib's own ("deflate" in HTTP), 31 is gzip's.
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
ACCEPTED_ENCODINGS = b"identity,deflate,gzip"


class PeerGone(asyncio.CancelledError):
    """The peer has gone away. To a handler this is a cancellation like any other."""


def is_known_encoding(encoding: bytes) -> bool:
    """Whether messages in this ``grpc-encoding`` can be read."""
    return encoding == IDENTITY or encoding in _WINDOW_BITS


def frame(payload: bytes, encoding: bytes | None = None) -> bytes:
    """Prefix a message with its flags and length, compressing it first if an encoding is given."""
    if encoding is None:
        return b"\0" + len(payload).to_bytes(4) + payload
    compressor = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    packed = compressor.compress(payload) + compressor.flush()
    return b"\1" + len(packed).to_bytes(4) + packed


def decompress(packed: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo a message's compression without ever making more than the limit allows.

    Raises:
        RpcFailure: RESOURCE_EXHAUSTED beyond the limit, INTERNAL for data that is not of this encoding.
    """
    if encoding == IDENTITY:
        raise RpcFailure(
            grpc.StatusCode.INTERNAL, "A message is flagged as compressed without a grpc-encoding."
        )
    inflater = zlib.decompressobj(wbits=_WINDOW_BITS[encoding])
    try:
        payload = inflater.decompress(packed, limit + 1)
    except zlib.error as error:
        raise RpcFailure(grpc.StatusCode.INTERNAL, "A compressed message could not be read.") from error
    if len(payload) > limit:
        raise too_large(len(payload), limit, "at least ")
    if not inflater.eof or inflater.unused_data:
        raise RpcFailure(grpc.StatusCode.INTERNAL, "A compressed message could not be read.")
    return payload


def too_large(size: int, limit: int, qualifier: str = "") -> RpcFailure:
    """Return the failure of a received message that is over the limit."""
    return RpcFailure(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"Received message larger than max ({qualifier}{size} vs. {limit})",
    )


class MessageReader:
    """The messages of one request, read from ASGI only as they are asked for.

    Not asking is what pushes back on the sender: no more than one event beyond the message
    being assembled is ever held.
    """

    __slots__ = ("_buffer", "_encoding", "_limit", "_on_end", "_receive", "ended")

    def __init__(
        self,
        receive: Receive,
        limit: int,
        encoding: bytes = IDENTITY,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._encoding = encoding
        self._on_end = on_end
        self._buffer = bytearray()
        self.ended = False

    async def read(self) -> bytes | None:
        """Return the next message, or None once the sender has finished.

        Raises:
            RpcFailure: what was sent is not a sequence of whole messages within the limit.
            PeerGone: the connection or the stream ended early.
        """
        buffer = self._buffer
        while True:
            if len(buffer) >= PREFIX:
                size = int.from_bytes(buffer[1:PREFIX])
                if size > self._limit:
                    raise too_large(size, self._limit)
                end = PREFIX + size
                if len(buffer) >= end:
                    flags = buffer[0]
                    message = bytes(buffer[PREFIX:end])
                    del buffer[:end]
                    return self._unpack(flags, message)
            if self.ended:
                if buffer:
                    raise RpcFailure(
                        grpc.StatusCode.INTERNAL, "The request ended in the middle of a message."
                    )
                return None
            event = await self._receive()
            if event["type"] != "http.request":
                raise PeerGone
            body = event.get("body", b"")
            if not event.get("more_body", False):
                self.ended = True
                if self._on_end is not None:
                    self._on_end()
            # Most messages come in an event of their own and need no buffer.
            if not buffer and len(body) >= PREFIX and int.from_bytes(body[1:PREFIX]) == len(body) - PREFIX:
                if len(body) - PREFIX > self._limit:
                    raise too_large(len(body) - PREFIX, self._limit)
                return self._unpack(body[0], body[PREFIX:])
            buffer += body

    async def read_only(self) -> bytes:
        """Return the one message of a request that must have exactly one."""
        message = await self.read()
        if message is None:
            raise RpcFailure(
                grpc.StatusCode.UNIMPLEMENTED, "The request has no message; the method takes one."
            )
        if await self.read() is not None:
            raise RpcFailure(
                grpc.StatusCode.UNIMPLEMENTED, "The request has several messages; the method takes one."
            )
        return message

    def _unpack(self, flags: int, message: bytes) -> bytes:
        if flags == 0:
            return message
        if flags == 1:
            return decompress(message, self._encoding, self._limit)
        raise RpcFailure(grpc.StatusCode.INTERNAL, "A message has unknown flags.")
