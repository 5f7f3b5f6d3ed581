"""grpc.health.v1: whether this server takes calls, for load balancers and orchestrators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LIVENESS: Final = "liveness"
"""The health service that says only that this process answers: what an orchestrator may restart it by."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """The health of the server, as two answers.

    Readiness, for "" and every service alike: NOT_SERVING until `serving`, and for good after `draining`. It does not
    follow the stores (docs/decisions/0006-health.md).
    Liveness, for `LIVENESS`: SERVING whenever it is asked, also during a drain.

    grpcio's own servicer starts as SERVING, and its watchers outlive a drain: they would hold up every stop for the
    whole grace.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._readiness = _NOT_SERVING
        self._draining = False
        self._changed = asyncio.Condition()

    async def serving(self) -> None:
        """The server is ready for calls; does nothing once it drains."""
        if not self._draining:
            await self._set(_SERVING)

    async def draining(self) -> None:
        """The server takes leave: everybody who asks or watches is told, and the watches end."""
        self._draining = True
        await self._set(_NOT_SERVING)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        """The health of a service; NOT_FOUND for one that is not here."""
        status = self._status_of(request.service)
        if status == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The health of a service now and whenever it changes, until the server drains."""
        told = None
        while True:
            status = self._status_of(request.service)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
                continue  # it may have changed meanwhile
            if self._draining:
                return
            async with self._changed:
                while not self._draining and self._status_of(request.service) == told:
                    await self._changed.wait()

    def _status_of(self, service: str) -> Any:
        if service == LIVENESS:
            return _SERVING
        return self._readiness if service in self._services else _UNKNOWN

    async def _set(self, readiness: Any) -> None:
        async with self._changed:
            self._readiness = readiness
            self._changed.notify_all()
