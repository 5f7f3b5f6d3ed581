"""gRPC's interoperability test service, as grpc.aio servicers are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from tests.interop.gen import interop_pb2 as pb
from tests.interop.gen import interop_pb2_grpc

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"


class TestService(interop_pb2_grpc.TestServiceServicer):
    __test__ = False

    async def EmptyCall(self, request: pb.Empty, context: Any) -> pb.Empty:
        await _echo_metadata(context)
        return pb.Empty()

    async def UnaryCall(self, request: pb.SimpleRequest, context: Any) -> pb.SimpleResponse:
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        await _echo_metadata(context)
        await _echo_status(request, context)
        return pb.SimpleResponse(payload=_payload(request.response_size))

    async def StreamingOutputCall(
        self, request: pb.StreamingOutputCallRequest, context: Any
    ) -> AsyncIterator[pb.StreamingOutputCallResponse]:
        for response in _responses(request):
            yield response

    async def StreamingInputCall(
        self, request_iterator: AsyncIterator[pb.StreamingInputCallRequest], context: Any
    ) -> pb.StreamingInputCallResponse:
        size = 0
        async for request in request_iterator:
            size += len(request.payload.body)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(
        self, request_iterator: AsyncIterator[pb.StreamingOutputCallRequest], context: Any
    ) -> AsyncIterator[pb.StreamingOutputCallResponse]:
        await _echo_metadata(context)
        async for request in request_iterator:
            await _echo_status(request, context)
            for parameters in request.response_parameters:
                if parameters.interval_us:
                    await asyncio.sleep(parameters.interval_us / 1e6)
                yield pb.StreamingOutputCallResponse(payload=_payload(parameters.size))

    async def HalfDuplexCall(
        self, request_iterator: AsyncIterator[pb.StreamingOutputCallRequest], context: Any
    ) -> AsyncIterator[pb.StreamingOutputCallResponse]:
        requests = [request async for request in request_iterator]
        for request in requests:
            for response in _responses(request):
                yield response


def _payload(size: int) -> pb.Payload:
    return pb.Payload(type=pb.COMPRESSABLE, body=bytes(size))


def _responses(request: pb.StreamingOutputCallRequest) -> list[pb.StreamingOutputCallResponse]:
    return [
        pb.StreamingOutputCallResponse(payload=_payload(each.size)) for each in request.response_parameters
    ]


async def _echo_metadata(context: Any) -> None:
    metadata = dict(context.invocation_metadata())
    if ECHO_INITIAL in metadata:
        await context.send_initial_metadata(((ECHO_INITIAL, metadata[ECHO_INITIAL]),))
    if ECHO_TRAILING in metadata:
        context.set_trailing_metadata(((ECHO_TRAILING, metadata[ECHO_TRAILING]),))


async def _echo_status(request: pb.SimpleRequest | pb.StreamingOutputCallRequest, context: Any) -> None:
    if request.HasField("response_status"):
        await context.abort(_code(request.response_status.code), request.response_status.message)


def _code(number: int) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == number)
