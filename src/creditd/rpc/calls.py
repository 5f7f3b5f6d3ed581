"""How a servicer's method is called: deadlines, refusals, counts, and the RPCs that this release does not serve."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

import grpc

from creditd.domain.errors import Unimplemented
from creditd.rpc.errors import abort, as_refusal, code_of

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")

PACKAGE: Final = "creditd.v1"
_OK: Final[int] = grpc.StatusCode.OK.value[0]
_CANCELLED: Final[int] = grpc.StatusCode.CANCELLED.value[0]
_DEADLINE_EXCEEDED: Final[int] = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
_DEADLINE_SLACK_S: Final = 0.1


def answered(
    method: Callable[[Servicer, Request], Awaitable[Response]],
) -> Callable[[Servicer, Request, grpc.aio.ServicerContext[Any, Any]], Awaitable[Response]]:
    """Makes a servicer's method out of one that takes the request alone and raises refusals.

    A call without a deadline gets the servicer's `timeout_s`. What was begun is brought to an end by the engine,
    whether or not the caller still waits. How it ended is counted in the servicer's `meters`.
    """
    rpc = f"{PACKAGE}.{method.__qualname__.replace('Servicer.', '/')}"

    @functools.wraps(method)
    async def handler(
        self: Servicer, request: Request, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Response:
        meters = self.meters  # type: ignore[attr-defined]
        began = meters.clock()
        code = _OK
        try:
            if context.time_remaining() is not None:
                return await method(self, request)
            async with asyncio.timeout(self.timeout_s):  # type: ignore[attr-defined]
                return await method(self, request)
        except asyncio.CancelledError:
            # Both hosts cancel the handler when the caller has gone, and when its deadline has passed. A caller whose
            # deadline has passed also goes, and by the server's clock that may be a little before.
            remaining = context.time_remaining()
            passed = remaining is not None and remaining <= _DEADLINE_SLACK_S
            code = _DEADLINE_EXCEEDED if passed else _CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: nothing may become UNKNOWN
            refusal = as_refusal(error, method.__qualname__)
            code = code_of(refusal).value[0]
            await abort(context, refusal)
        finally:
            meters.ended(rpc, code, began)

    return handler


def streamed(
    method: Callable[[Servicer, Request], AsyncGenerator[Response, None]],
) -> Callable[[Servicer, Request, grpc.aio.ServicerContext[Any, Any]], AsyncIterator[Response]]:
    """Makes a servicer's streaming method out of one that takes the request alone and raises refusals.

    The stream lasts as long as its caller wants it, or until the method ends it. It is counted when it ends; its time
    is that until its first response.
    """
    rpc = f"{PACKAGE}.{method.__qualname__.replace('Servicer.', '/')}"

    @functools.wraps(method)
    async def handler(
        self: Servicer, request: Request, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Response]:
        meters = self.meters  # type: ignore[attr-defined]
        began = meters.clock()
        waited: float | None = None
        code = _CANCELLED  # unless it comes to an end of its own
        try:
            async with aclosing(method(self, request)) as responses:
                async for response in responses:
                    waited = meters.clock() - began if waited is None else waited
                    yield response
            code = _OK
        except Exception as error:  # noqa: BLE001 - the last resort: nothing may become UNKNOWN
            refusal = as_refusal(error, method.__qualname__)
            code = code_of(refusal).value[0]
            await abort(context, refusal)
        finally:
            now = meters.clock()
            meters.ended(rpc, code, began if waited is None else now - waited)

    return handler


def not_served(name: str) -> Any:
    """A method that answers UNIMPLEMENTED: declared in the API, not served by this release."""
    rpc = f"{PACKAGE}.{name.replace('.', '/')}"

    async def handler(self: Any, _request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        refusal = Unimplemented(f"{name} is not served by this release")
        self.meters.ended(rpc, code_of(refusal).value[0], self.meters.clock())
        await abort(context, refusal)

    return handler
