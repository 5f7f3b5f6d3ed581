"""One method: its handler with what is needed to run it on a call."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, runtime_checkable

import grpc

from .context import Context
from .status import RpcFailure

_log = logging.getLogger(__name__)


@runtime_checkable
class MethodHandler(Protocol):
    """What generated code registers for a method; `grpc.RpcMethodHandler` has these fields."""

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Callable[[bytes], Any] | None
    response_serializer: Callable[[Any], bytes] | None
    unary_unary: Callable[[Any, Any], Any] | None
    unary_stream: Callable[[Any, Any], Any] | None
    stream_unary: Callable[[Any, Any], Any] | None
    stream_stream: Callable[[Any, Any], Any] | None


class Requests:
    """The request messages of a call, for a handler that iterates over them."""

    __slots__ = ("_context", "_method")

    def __init__(self, method: Method, context: Context) -> None:
        self._method = method
        self._context = context

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> Any:
        payload = await self._context.reader.read()
        if payload is None:
            raise StopAsyncIteration
        return self._method.parse(payload)


class Method:
    """Runs one handler, whichever of the four shapes and two styles it has."""

    __slots__ = ("_behavior", "_deserialize", "_request_streaming", "_serialize", "handler", "run")

    handler: MethodHandler
    run: Callable[[Context], Coroutine[Any, Any, None]]
    """Run the call to its end, the final status included; failures are raised."""

    def __init__(self, handler: MethodHandler) -> None:
        self.handler = handler
        self._deserialize = handler.request_deserializer
        self._serialize = handler.response_serializer
        self._request_streaming = handler.request_streaming
        if handler.response_streaming:
            behavior = handler.stream_stream if handler.request_streaming else handler.unary_stream
            self.run = self._run_response_stream
        else:
            behavior = handler.stream_unary if handler.request_streaming else handler.unary_unary
            self.run = self._run_unary_response
        if behavior is None:
            raise TypeError("the method handler has no function of the shape that it declares")
        self._behavior = behavior

    def parse(self, payload: bytes) -> Any:
        """Return a request message from its bytes."""
        if self._deserialize is None:
            return payload
        try:
            return self._deserialize(payload)
        except Exception as error:
            _log.debug("A request could not be parsed", exc_info=True)
            raise RpcFailure(grpc.StatusCode.INTERNAL, "Exception deserializing request!") from error

    def serialize(self, message: Any) -> bytes:
        """Return a response message's bytes."""
        if self._serialize is None:
            payload: bytes = message
            return payload
        try:
            return self._serialize(message)
        except Exception as error:
            _log.exception("A response could not be serialized")
            raise RpcFailure(grpc.StatusCode.INTERNAL, "Failed to serialize response!") from error

    async def _request(self, context: Context) -> Any:
        if self._request_streaming:
            return Requests(self, context)
        return self.parse(await context.reader.read_only())

    async def _run_unary_response(self, context: Context) -> None:
        request = Requests(self, context) if self._request_streaming else await self._request(context)
        response = self._behavior(request, context)
        if hasattr(response, "__await__"):
            response = await response
        failed = context.code() not in (None, grpc.StatusCode.OK)
        await context.finish(None if failed or context.was_aborted else self.serialize(response))

    async def _run_response_stream(self, context: Context) -> None:
        responses = self._behavior(await self._request(context), context)
        if hasattr(responses, "__aiter__"):
            await _write_all(responses, context)
        elif hasattr(responses, "__await__"):
            await responses  # writes by itself, through the context
        else:
            for response in responses:
                await context.write(response)
        await context.finish()


async def _write_all(responses: AsyncIterator[Any], context: Context) -> None:
    if not hasattr(responses, "aclose"):
        async for response in responses:
            await context.write(response)
        return
    # Closed here rather than by the garbage collector: a handler's `finally` runs before the call ends.
    async with aclosing(responses) as open_responses:  # type: ignore[type-var]
        async for response in open_responses:
            await context.write(response)
