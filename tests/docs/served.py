"""Which RPCs a running server answers: it names them itself by reflection, and each is called once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

_CALL_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Rpc:
    """A method that a server names: `service` is the full name, `path` is service/Method, as grpcurl takes it."""

    service: str
    method: str
    client_streaming: bool
    server_streaming: bool

    @property
    def path(self) -> str:
        return f"{self.service}/{self.method}"


async def named_rpcs(channel: grpc.aio.Channel) -> list[Rpc]:
    """Every method of every service that the server lists."""
    services = (await _ask(channel, list_services="")).list_services_response.service
    found: list[Rpc] = []
    for service in services:
        answer = await _ask(channel, file_containing_symbol=service.name)
        for encoded in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(encoded)
            found += [
                Rpc(service.name, method.name, method.client_streaming, method.server_streaming)
                for declared in file.service
                if f"{file.package}.{declared.name}" == service.name
                for method in declared.method
            ]
    return found


async def is_served(channel: grpc.aio.Channel, rpc: Rpc) -> bool:
    """Whether a call with an empty request ends in anything but UNIMPLEMENTED."""
    nothing = {"request_serializer": None, "response_deserializer": None}
    path = f"/{rpc.path}"

    async def requests():  # type: ignore[no-untyped-def]
        yield b""

    try:
        if not rpc.server_streaming and not rpc.client_streaming:
            await channel.unary_unary(path, **nothing)(b"", timeout=_CALL_TIMEOUT_S)
            return True
        if rpc.client_streaming and not rpc.server_streaming:
            await channel.stream_unary(path, **nothing)(requests(), timeout=_CALL_TIMEOUT_S)
            return True
        if rpc.client_streaming:
            call = channel.stream_stream(path, **nothing)(requests(), timeout=_CALL_TIMEOUT_S)
        else:
            call = channel.unary_stream(path, **nothing)(b"", timeout=_CALL_TIMEOUT_S)
        # One answer is enough: some streams never end.
        await call.read()
        call.cancel()
    except grpc.aio.AioRpcError as error:
        return error.code() is not grpc.StatusCode.UNIMPLEMENTED
    return True


async def served_rpcs(address: str) -> tuple[set[str], set[str]]:
    """The paths of the RPCs that the server answers, and of those that it names and does not serve."""
    async with grpc.aio.insecure_channel(address) as channel:
        rpcs = await named_rpcs(channel)
        served = await asyncio.gather(*(is_served(channel, rpc) for rpc in rpcs))
    answered = {rpc.path for rpc, yes in zip(rpcs, served, strict=True) if yes}
    return answered, {rpc.path for rpc in rpcs} - answered


async def _ask(channel: grpc.aio.Channel, **question: str) -> reflection_pb2.ServerReflectionResponse:
    request = reflection_pb2.ServerReflectionRequest(**question)

    async def requests():  # type: ignore[no-untyped-def]
        yield request

    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(requests())
    return await call.read()
