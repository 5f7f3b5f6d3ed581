"""The ASGI application: registers servicers, takes calls, and sees each to its end."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import grpc
from grpc import aio

from .context import Context
from .framing import ACCEPTED_ENCODINGS, IDENTITY, MessageReader, PeerGone, Receive, is_known_encoding
from .metadata import Header, Metadatum, parse_timeout
from .method import Method, MethodHandler
from .status import RpcFailure

_log = logging.getLogger(__name__)

Send: TypeAlias = Callable[[Any], Awaitable[None]]
DEFAULT_MAX_RECEIVE_BYTES = 4 * 1024 * 1024
UNLIMITED = (1 << 32) - 1  # the most that the length prefix can say


class HandlerCallDetails(grpc.HandlerCallDetails):
    """What an interceptor or a generic handler may know of a call before it is handled."""

    def __init__(self, method: str, context: Context) -> None:
        self.method = method
        self._context = context

    @property
    def invocation_metadata(self) -> tuple[Metadatum, ...]:  # type: ignore[override]
        """The caller's metadata."""
        return self._context.invocation_metadata()


class GrpcApp:
    """Serves gRPC servicers as an ASGI 3 application.

    It stands in for a `grpc.aio.Server` where generated code registers servicers, and for an
    ASGI application where a server wants one. The server must speak HTTP/2 and offer the
    ``http.response.trailers`` extension.

    Args:
        interceptors: run around the choice of each call's handler, the first outermost.
        max_receive_bytes: the largest request message taken, after decompression.
        max_send_bytes: the largest response message sent, before compression.
        watch_disconnect: look for ``http.disconnect`` while a handler runs. Leave it out only for a
            server that cancels the application's task itself when the peer goes away.
    """

    def __init__(
        self,
        *,
        interceptors: Sequence[aio.ServerInterceptor] = (),
        max_receive_bytes: int = DEFAULT_MAX_RECEIVE_BYTES,
        max_send_bytes: int = UNLIMITED,
        watch_disconnect: bool = True,
    ) -> None:
        self._interceptors = tuple(interceptors)
        self._max_receive_bytes = max_receive_bytes
        self._max_send_bytes = min(max_send_bytes, UNLIMITED)
        self._watch_disconnect = watch_disconnect
        self._methods: dict[str, Method] = {}
        self._generic_handlers: list[grpc.GenericRpcHandler] = []
        self._calls: set[Context] = set()

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Register a service's methods; generated code calls this."""
        for name, handler in method_handlers.items():
            if not isinstance(handler, MethodHandler):
                raise TypeError(f"{handler!r} is not a gRPC method handler")
            self._methods[f"/{service_name}/{name}"] = Method(handler)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Register handlers that are asked, in order, for methods not registered by name."""
        self._generic_handlers.extend(generic_rpc_handlers)

    @property
    def calls_in_flight(self) -> int:
        """How many calls have not ended."""
        return len(self._calls)

    def cancel_calls(self, details: str = "The server is shutting down.") -> None:
        """Cancel the handlers of all calls in flight; their callers get UNAVAILABLE."""
        for context in tuple(self._calls):
            context.cut(RpcFailure(grpc.StatusCode.UNAVAILABLE, details))

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: a call, or the server's lifespan."""
        if scope["type"] != "http":
            await _serve_other(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        refusal = _refusal(scope, headers)
        if refusal is not None:
            await _refuse(send, refusal)
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an ASGI server must run the application in an asyncio task")
        context = Context(scope, headers, send, task, self._max_send_bytes)
        self._calls.add(context)
        try:
            await self._serve(context, scope["path"], headers, receive)
        except asyncio.CancelledError as cancellation:
            context.gone |= isinstance(cancellation, PeerGone)
            await _conclude_cancelled(context, task)
        except BaseException as error:
            await _conclude(context, scope["path"], error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._calls.discard(context)
            context.close()

    async def _serve(
        self, context: Context, path: str, headers: Mapping[bytes, bytes], receive: Receive
    ) -> None:
        timeout = headers.get(b"grpc-timeout")
        if timeout is not None:
            try:
                context.set_timeout(parse_timeout(timeout))
            except ValueError as error:
                raise RpcFailure(grpc.StatusCode.INTERNAL, str(error)) from error
        encoding = headers.get(b"grpc-encoding", IDENTITY)
        if encoding is not IDENTITY and not is_known_encoding(encoding):
            text = f"grpc-encoding {encoding.decode('latin-1')!r} is not among {ACCEPTED_ENCODINGS.decode()}"
            raise RpcFailure(grpc.StatusCode.UNIMPLEMENTED, text)
        method = self._methods.get(path)
        if self._interceptors or method is None:
            method = await self._find(path, context)
        context.method = method
        on_end = functools.partial(context.watch, receive) if self._watch_disconnect else None
        context.reader = MessageReader(receive, self._max_receive_bytes, encoding, on_end)
        await method.run(context)

    async def _find(self, path: str, context: Context) -> Method:
        """Return the method for a call as generic handlers and interceptors have it."""

        async def proceed(index: int, details: grpc.HandlerCallDetails) -> Any:
            if index == len(self._interceptors):
                return self._look_up(details)
            following: Any = functools.partial(proceed, index + 1)
            return await self._interceptors[index].intercept_service(following, details)

        handler = await proceed(0, HandlerCallDetails(path, context))
        if handler is None:
            raise RpcFailure(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        registered = self._methods.get(path)
        return registered if registered is not None and handler is registered.handler else Method(handler)

    def _look_up(self, details: grpc.HandlerCallDetails) -> Any:
        method = self._methods.get(details.method)
        if method is not None:
            return method.handler
        for generic in self._generic_handlers:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None


async def _conclude(context: Context, path: str, error: BaseException) -> None:
    """Answer a call whose handling ended in an exception."""
    code, details = context.code(), context.details()
    if isinstance(error, RpcFailure):
        code, details = error.code, error.details
    elif isinstance(error, aio.AbortError) and context.was_aborted:
        pass
    elif code in (None, grpc.StatusCode.OK):
        # What went wrong is for the log: its text may hold what no caller should see.
        _log.error(
            "Unexpected [%s] raised by servicer method [%s]", type(error).__name__, path, exc_info=error
        )
        code, details = grpc.StatusCode.UNKNOWN, "The handler of this method failed."
    else:
        _log.debug(
            "[%s] raised by servicer method [%s] with a status set",
            type(error).__name__,
            path,
            exc_info=error,
        )
    await _finish_quietly(context, code or grpc.StatusCode.UNKNOWN, details)


async def _conclude_cancelled(context: Context, task: asyncio.Task[Any]) -> None:
    """Answer a call whose handling was cancelled, unless nobody is left to hear it."""
    if context.cut_short is not None:
        task.uncancel()
        await _finish_quietly(context, context.cut_short.code, context.cut_short.details)
    elif context.gone:
        # Noticed by the adapter: to the server this call simply ends.
        return
    elif task.cancelling():
        context.gone = True
        raise asyncio.CancelledError
    else:
        await _finish_quietly(context, grpc.StatusCode.CANCELLED, "The handler of this method was cancelled.")


async def _finish_quietly(context: Context, code: grpc.StatusCode, details: str) -> None:
    if context.finished or context.gone:
        return
    try:
        await context.finish_with(code, details)
    except asyncio.CancelledError:
        if not context.gone:
            raise


class _Refusal(NamedTuple):
    """An HTTP answer to what is not a gRPC call."""

    status: int
    text: bytes = b""
    headers: tuple[Header, ...] = ()


_NOT_HTTP2 = _Refusal(505, b"gRPC needs HTTP/2")
_NOT_POST = _Refusal(405, b"gRPC calls are POST requests", ((b"allow", b"POST"),))
_NOT_GRPC = _Refusal(415, b"gRPC calls have a content-type of application/grpc")
# Without the header a proxy between may drop the trailers, and with them the status.
_NO_TRAILERS = _Refusal(
    200,
    b"",
    (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"13"),
        (b"grpc-message", b"gRPC needs the request header 'te: trailers'"),
    ),
)


def _refusal(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> _Refusal | None:
    """Return the answer to a request that is not a gRPC call, or None for one that is."""
    if scope["http_version"] != "2":
        return _NOT_HTTP2
    if scope["method"] != "POST":
        return _NOT_POST
    content_type = headers.get(b"content-type", b"").lower()
    if content_type != b"application/grpc" and not content_type.startswith(
        (b"application/grpc+", b"application/grpc;")
    ):
        return _NOT_GRPC
    return None if "http.response.trailers" in scope["extensions"] else _NO_TRAILERS


async def _refuse(send: Send, refusal: _Refusal) -> None:
    headers = refusal.headers
    if refusal.text:
        headers = ((b"content-type", b"text/plain"), *headers)
    try:
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": refusal.text, "more_body": False})
    except OSError:
        return  # nobody waits for it


async def _serve_other(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1002})
        return
    if scope["type"] != "lifespan":
        raise ValueError(f"unknown ASGI scope {scope['type']!r}")
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


# grpcio's helpers (reflection's, for one) choose the asynchronous servicer by this test.
aio.Server.register(GrpcApp)
