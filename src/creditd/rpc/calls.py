"""How a servicer's method is called: deadlines, refusals, and the RPCs that this release does not serve."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc

from creditd.domain.errors import Unimplemented
from creditd.rpc.errors import abort

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")


def answered(
    method: Callable[[Servicer, Request], Awaitable[Response]],
) -> Callable[[Servicer, Request, grpc.aio.ServicerContext[Any, Any]], Awaitable[Response]]:
    """Makes a servicer's method out of one that takes the request alone and raises refusals.

    A call without a deadline gets the servicer's `timeout_s`. What was begun is brought to an end by the engine,
    whether or not the caller still waits.
    """

    @functools.wraps(method)
    async def handler(
        self: Servicer, request: Request, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Response:
        try:
            if context.time_remaining() is not None:
                return await method(self, request)
            async with asyncio.timeout(self.timeout_s):  # type: ignore[attr-defined]
                return await method(self, request)
        except Exception as error:  # noqa: BLE001 - the last resort: nothing may become UNKNOWN
            await abort(context, error, method.__qualname__)

    return handler


def streamed(
    method: Callable[[Servicer, Request], AsyncGenerator[Response, None]],
) -> Callable[[Servicer, Request, grpc.aio.ServicerContext[Any, Any]], AsyncIterator[Response]]:
    """Makes a servicer's streaming method out of one that takes the request alone and raises refusals.

    The stream lasts as long as its caller wants it, or until the method ends it.
    """

    @functools.wraps(method)
    async def handler(
        self: Servicer, request: Request, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Response]:
        try:
            async with aclosing(method(self, request)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001 - the last resort: nothing may become UNKNOWN
            await abort(context, error, method.__qualname__)

    return handler


def not_served(name: str) -> Any:
    """A method that answers UNIMPLEMENTED: declared in the API, not served by this release."""

    async def handler(_self: Any, _request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await abort(context, Unimplemented(f"{name} is not served by this release"))

    return handler
