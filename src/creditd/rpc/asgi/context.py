"""The context of one call: what its handler sees, and what the adapter knows about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc import aio

from .framing import ACCEPTED_ENCODINGS, MessageReader, PeerGone, Receive, frame
from .metadata import Header, Metadatum, MetadatumLike, decode_metadata, encode_metadata
from .peer import auth_context, peer_address
from .status import RpcFailure, as_status_code, status_headers

if TYPE_CHECKING:
    from .method import Method

_log = logging.getLogger(__name__)

_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPTED_ENCODINGS),
)
# Shared by every call that has nothing of its own to say: servers read these and do not change them.
_START = {"type": "http.response.start", "status": 200, "headers": _HEADERS[:1], "trailers": True}
_END_OF_BODY = {"type": "http.response.body", "body": b"", "more_body": False}
_TRAILERS_OK = {"type": "http.response.trailers", "headers": ((b"grpc-status", b"0"),)}

_COMPRESSION = {grpc.Compression.Gzip: b"gzip", grpc.Compression.Deflate: b"deflate"}


class Context:
    """The ServicerContext of one call, with the public methods of grpc.aio's.

    Attributes that most calls never set are class attributes until they do, so that a plain
    unary call pays for few.
    """

    method: Method
    reader: MessageReader
    started = False
    """Whether response headers were sent."""
    finished = False
    """Whether the final status was sent."""
    gone = False
    """Whether the peer went away or gave up."""
    cut_short: RpcFailure | None = None
    """Why the adapter cancelled the handler (its deadline, the server's stop), once it has."""

    _invocation_metadata: tuple[Metadatum, ...] | None = None
    _deadline: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _code: grpc.StatusCode | None = None
    _details = ""
    _trailing_metadata: Sequence[MetadatumLike] = ()
    _abortion: aio.AbortError | None = None
    _encoding: bytes | None = None
    _skip_compression = False
    _callbacks: tuple[Callable[[Context], object], ...] = ()

    def __init__(
        self,
        scope: Mapping[str, Any],
        headers: Mapping[bytes, bytes],
        send: Callable[[Any], Awaitable[None]],
        task: asyncio.Task[Any],
        max_send_bytes: int,
    ) -> None:
        self._scope = scope
        self._headers = headers
        self._send = send
        self._task = task
        self._max_send_bytes = max_send_bytes

    # What the caller sent.

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        """Return the caller's metadata."""
        metadata = self._invocation_metadata
        if metadata is None:
            try:
                metadata = self._invocation_metadata = decode_metadata(self._scope["headers"])
            except ValueError as error:
                raise RpcFailure(grpc.StatusCode.INTERNAL, str(error)) from error
        return metadata

    def peer(self) -> str:
        """Return the caller's address in grpcio's form, such as ``ipv4:127.0.0.1:50000``."""
        return peer_address(self._scope)

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what TLS proved about the caller; empty without TLS."""
        return auth_context(self._scope)

    def peer_identity_key(self) -> str | None:
        """Return the property of `auth_context` that names the caller, if there is one."""
        return "x509_common_name" if "x509_common_name" in self.auth_context() else None

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return the caller's names, or None if it showed no certificate."""
        return self.auth_context().get("x509_common_name")

    def time_remaining(self) -> float | None:
        """Return the seconds left until the caller's deadline, or None without one."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._task.get_loop().time())

    async def read(self) -> Any:
        """Return the next request message, or `grpc.aio.EOF`."""
        self._raise_if_over()
        payload = await self.reader.read()
        if payload is None:
            return aio.EOF
        return self.method.parse(payload)

    # What the handler answers.

    async def send_initial_metadata(self, initial_metadata: Iterable[MetadatumLike]) -> None:
        """Send the response headers now, with this metadata."""
        self._raise_if_over()
        if self.started:
            raise aio.UsageError("Send initial metadata failed: already sent")
        await self._start(encode_metadata(initial_metadata))

    async def write(self, message: Any) -> None:
        """Send one response message; returns once the transport has room for more."""
        self._raise_if_over()
        framed = self._frame(self.method.serialize(message))
        if not self.started:
            await self._start()
        await self._emit({"type": "http.response.body", "body": framed, "more_body": True})

    async def abort(
        self, code: grpc.StatusCode | int, details: str = "", trailing_metadata: Iterable[MetadatumLike] = ()
    ) -> NoReturn:
        """End the call with this status, by an exception that the handler must let through.

        The status is sent when the handler has unwound: nothing of it runs once the caller has the answer.
        """
        if self._abortion is not None:
            raise aio.UsageError("Abort already called!")
        code = as_status_code(code)
        if code is grpc.StatusCode.OK:
            code, details = grpc.StatusCode.UNKNOWN, details or "abort() was called with OK"
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        self._code = code
        self._details = details or self._details
        self._abortion = aio.AbortError("Locally aborted.")
        raise self._abortion

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with the code, details and trailing metadata of a status."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_code(self, code: grpc.StatusCode | int) -> None:
        """Set the status that the call ends with if its handler returns or raises."""
        self._code = as_status_code(code)

    def code(self) -> grpc.StatusCode | None:
        """Return the status code set so far."""
        return self._code

    def set_details(self, details: str) -> None:
        """Set the status's text."""
        self._details = details

    def details(self) -> str:
        """Return the status's text set so far."""
        return self._details

    def set_trailing_metadata(self, trailing_metadata: Iterable[MetadatumLike]) -> None:
        """Set the metadata that accompanies the status."""
        trailing = tuple(trailing_metadata)
        encode_metadata(trailing)  # a mistake is told to who makes it
        self._trailing_metadata = trailing

    def trailing_metadata(self) -> Sequence[MetadatumLike]:
        """Return the trailing metadata set so far."""
        return self._trailing_metadata

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress what is sent, if the caller can read it."""
        if self.started:
            raise RuntimeError("Compression setting must be specified before sending initial metadata")
        encoding = _COMPRESSION.get(compression)
        accepted = self._headers.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
        self._encoding = encoding if encoding in accepted else None

    def disable_next_message_compression(self) -> None:
        """Send the next message as it is."""
        self._skip_compression = True

    # How the call is doing.

    def is_active(self) -> bool:
        """Whether an answer can still reach the caller."""
        return not (self.finished or self.gone)

    def done(self) -> bool:
        """Whether the final status has been sent."""
        return self.finished

    def cancelled(self) -> bool:
        """Whether the call ended for its caller's going away, its deadline or the server's stop."""
        return self.gone or self.cut_short is not None or self._code is grpc.StatusCode.CANCELLED

    def add_done_callback(self, callback: Callable[[Context], object]) -> None:
        """Call back with this context when the call has ended, however it did."""
        self._callbacks += (callback,)

    # What follows is for the adapter.

    def set_timeout(self, seconds: float) -> None:
        """Cancel the handler when so much time has passed, and answer DEADLINE_EXCEEDED."""
        loop = self._task.get_loop()
        self._deadline = loop.time() + seconds
        failure = RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        self._timer = loop.call_later(seconds, self.cut, failure)

    def cut(self, failure: RpcFailure) -> None:
        """Cancel the handler, and answer this failure unless the handler still finishes."""
        if not (self.finished or self.gone or self.cut_short):
            self.cut_short = failure
            self._task.cancel()

    def watch(self, receive: Receive) -> None:
        """Cancel the handler if the next event says that the peer is gone; the request has been read."""
        event = asyncio.ensure_future(receive())
        event.add_done_callback(self._on_event_after_request)
        self._callbacks += (lambda _: event.cancel(),)

    def _on_event_after_request(self, event: asyncio.Future[Any]) -> None:
        if not event.cancelled() and not event.exception() and not self.finished:
            self.gone = True
            self._task.cancel()

    async def finish(self, message: bytes | None = None) -> None:
        """Send the status that the handler left, after its single response message if it has one."""
        if self._abortion is not None:
            _log.error("A handler went on after abort(); its result is dropped")
            message = None
        code = self._code or grpc.StatusCode.OK
        if code is not grpc.StatusCode.OK:
            message = None
        if message is not None:
            framed = self._frame(message)
            if not self.started:
                await self._start()
            await self._emit({"type": "http.response.body", "body": framed, "more_body": False})
            self.finished = True
            if not (self._details or self._trailing_metadata):
                await self._emit(_TRAILERS_OK)
                return
            headers = status_headers(code, self._details, self._trailing_metadata)
            await self._emit({"type": "http.response.trailers", "headers": headers})
            return
        await self.finish_with(code, self._details)

    async def finish_with(self, code: grpc.StatusCode, details: str) -> None:
        """Send a status, in the headers if nothing was sent before."""
        headers = status_headers(code, details, self._trailing_metadata)
        self.finished = True
        if self.started:
            await self._emit(_END_OF_BODY)
            await self._emit({"type": "http.response.trailers", "headers": headers})
        else:
            headers[:0] = _HEADERS
            await self._emit({"type": "http.response.start", "status": 200, "headers": headers})
            await self._emit(_END_OF_BODY)

    def close(self) -> None:
        """Drop the timer and call the callbacks: the call has ended."""
        if self._timer is not None:
            self._timer.cancel()
        for callback in self._callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - a callback of the handler's may raise anything
                _log.exception("A done callback of a call failed")

    @property
    def was_aborted(self) -> bool:
        """Whether the handler called abort()."""
        return self._abortion is not None

    def _raise_if_over(self) -> None:
        if self._abortion is not None:
            raise self._abortion
        if self.finished:
            raise aio.UsageError("RPC already finished.")

    def _frame(self, payload: bytes) -> bytes:
        if len(payload) > self._max_send_bytes:
            raise RpcFailure(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Sent message larger than max ({len(payload)} vs. {self._max_send_bytes})",
            )
        encoding = self._encoding
        if encoding is None:
            return b"\0" + len(payload).to_bytes(4) + payload
        if self._skip_compression:
            self._skip_compression, encoding = False, None
        return frame(payload, encoding)

    async def _start(self, metadata: Sequence[Header] = ()) -> None:
        self.started = True
        if not metadata and self._encoding is None:
            await self._emit(_START)
            return
        headers = [*_HEADERS, *metadata]
        if self._encoding is not None:
            headers.append((b"grpc-encoding", self._encoding))
        await self._emit({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})

    async def _emit(self, event: Mapping[str, Any]) -> None:
        try:
            await self._send(event)
        except OSError:
            # ASGI's way to say that the stream is closed.
            self.gone = True
            raise PeerGone from None
