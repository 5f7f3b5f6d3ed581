"""What a stock grpcio client sees and a servicer can do, the same on both hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from tests.interop.gen import interop_pb2, interop_pb2_grpc

from .conftest import SERVICE, Served

UNARY = f"/{SERVICE}/Unary"
STREAM = f"/{SERVICE}/Stream"
BINARY = bytes(range(256))


def unary(behavior: Any, **codecs: Any) -> dict[str, grpc.RpcMethodHandler]:
    return {"Unary": grpc.unary_unary_rpc_method_handler(behavior, **codecs)}


def duplex(behavior: Any) -> dict[str, grpc.RpcMethodHandler]:
    return {"Stream": grpc.stream_stream_rpc_method_handler(behavior)}


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def failure(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


# Metadata


async def test_metadata_travels_both_ways(serve: Served) -> None:
    seen: dict[str, Any] = {}

    async def handler(request: bytes, context: Any) -> bytes:
        seen.update(context.invocation_metadata())
        seen["peer"] = context.peer()
        seen["repeated"] = [value for key, value in context.invocation_metadata() if key == "again"]
        await context.send_initial_metadata((("first", "1"), ("first-bin", BINARY)))
        context.set_trailing_metadata((("last", "2"), ("last-bin", BINARY), ("empty", "")))
        return b"done"

    channel = await serve(unary(handler))
    call = channel.unary_unary(UNARY)(
        b"", metadata=(("key", "value"), ("key-bin", BINARY), ("again", "a"), ("again", "b"))
    )
    assert await call == b"done"
    assert (seen["key"], seen["key-bin"], seen["repeated"]) == ("value", BINARY, ["a", "b"])
    assert seen["peer"].startswith("ipv4:127.0.0.1:")
    assert "user-agent" in seen
    assert not {"te", "content-type", "host", "grpc-accept-encoding"} & seen.keys()
    initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    assert (initial["first"], initial["first-bin"]) == ("1", BINARY)
    assert (trailing["last"], trailing["last-bin"], trailing["empty"]) == ("2", BINARY, "")


async def test_metadata_that_cannot_be_sent_is_refused_where_it_is_set(serve: Served) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        for metadata in (("Upper", "x"), ("new\nline", "x")):
            with pytest.raises((ValueError, TypeError, aio.UsageError, aio.BaseError)):
                await context.send_initial_metadata((metadata,))
        return b"done"

    channel = await serve(unary(handler))
    if serve.transport == "asgi":  # grpcio's server lets them through to its core, which fails the call
        assert await channel.unary_unary(UNARY)(b"") == b"done"


# Statuses


async def test_abort_with_details(serve: Served) -> None:
    info = error_details_pb2.ErrorInfo(reason="TOO_POOR", domain="test")
    packed = any_pb2.Any()
    packed.Pack(info)
    rich = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="naïve 100% ☺\n", details=[packed])

    async def handler(request: bytes, context: Any) -> bytes:
        await context.abort_with_status(rpc_status.to_status(rich))

    channel = await serve(unary(handler))
    error = await failure(channel.unary_unary(UNARY)(b""))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == rich.message
    assert dict(error.trailing_metadata())["grpc-status-details-bin"] == rich.SerializeToString()


async def test_abort_keeps_trailing_metadata_and_can_come_after_messages(serve: Served) -> None:
    async def handler(requests: Any, context: Any) -> AsyncIterator[bytes]:
        context.set_trailing_metadata((("why", "because"),))
        yield b"one"
        await context.abort(grpc.StatusCode.ABORTED, "enough")

    call = (await serve(duplex(handler))).stream_stream(STREAM)()
    assert await call.read() == b"one"
    error = await failure(call.read())
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "enough")
    assert error.trailing_metadata()["why"] == "because"


async def test_code_set_by_the_handler(serve: Served) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("no such thing")
        assert (context.code(), context.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
        if request == b"raise":
            raise KeyError("secret")
        return b"dropped"

    channel = await serve(unary(handler))
    for request in (b"return", b"raise"):
        error = await failure(channel.unary_unary(UNARY)(request))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_raising_handler_is_unknown_and_logged(serve: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        raise RuntimeError("the password is hunter2")

    channel = await serve(unary(handler))
    error = await failure(channel.unary_unary(UNARY)(b""))
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert "Unexpected [RuntimeError] raised by servicer method [/test.Service/Unary]" in caplog.text
    if serve.transport == "asgi":
        assert "hunter2" not in (error.details() or "")  # grpcio tells it


async def test_handler_whose_own_work_was_cancelled_still_answers(serve: Served) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        raise asyncio.CancelledError

    channel = await serve(unary(handler))
    if serve.transport == "asgi":  # on grpcio's server the client waits for ever (grpc issue 29248)
        assert (await failure(channel.unary_unary(UNARY)(b""))).code() is grpc.StatusCode.CANCELLED


async def test_unknown_methods(serve: Served) -> None:
    channel = await serve(unary(echo))
    for path in (f"/{SERVICE}/Missing", "/other.Service/Unary", "/"):
        error = await failure(channel.unary_unary(path)(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


async def test_methods_that_a_servicer_leaves_out(serve: Served) -> None:
    service = interop_pb2_grpc.TestServiceServicer()
    channel = await serve(
        register=lambda registrar: interop_pb2_grpc.add_TestServiceServicer_to_server(service, registrar)
    )
    error = await failure(interop_pb2_grpc.TestServiceStub(channel).UnimplementedCall(interop_pb2.Empty()))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_unparseable_request(serve: Served) -> None:
    handlers = unary(echo, request_deserializer=interop_pb2.SimpleRequest.FromString)
    error = await failure((await serve(handlers)).unary_unary(UNARY)(b"\xff\xff"))
    if serve.transport == "asgi":
        assert (error.code(), error.details()) == (
            grpc.StatusCode.INTERNAL,
            "Exception deserializing request!",
        )
    else:  # what grpcio's threaded server calls INTERNAL its asyncio server calls UNKNOWN
        assert error.code() is grpc.StatusCode.UNKNOWN


async def test_generic_handlers_are_asked_for_what_is_not_registered(serve: Served) -> None:
    generic = grpc.method_handlers_generic_handler(
        "generic.Service", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    )
    channel = await serve(
        unary(echo), register=lambda registrar: registrar.add_generic_rpc_handlers((generic,))
    )
    assert await channel.unary_unary("/generic.Service/Echo")(b"x") == b"x"
    assert await channel.unary_unary(UNARY)(b"y") == b"y"


# Deadlines and cancellation


class Forever:
    """A handler that only a cancellation ends."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.remaining: float | None = None

    async def wait(self, context: Any) -> None:
        self.remaining = context.time_remaining()
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def unary(self, request: bytes, context: Any) -> bytes:
        await self.wait(context)
        return b""

    async def stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"started"
        await self.wait(context)

    async def reading(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"started"
        self.entered.set()
        try:
            async for _ in requests:
                pass
        finally:  # on grpcio's server the requests merely end
            self.cancelled.set()


async def test_deadline_cancels_the_handler(serve: Served) -> None:
    forever = Forever()
    channel = await serve(unary(forever.unary))
    error = await failure(channel.unary_unary(UNARY)(b"", timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await forever.cancelled.wait()
    assert forever.remaining is not None


async def test_time_remaining(serve: Served) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    call = (await serve(unary(handler))).unary_unary(UNARY)
    assert await call(b"") == b"None"
    assert 0 < float(await call(b"", timeout=3600)) < 4000  # clients round long timeouts up


async def test_client_cancels_unary(serve: Served) -> None:
    forever = Forever()
    call = (await serve(unary(forever.unary))).unary_unary(UNARY)(b"")
    await forever.entered.wait()
    call.cancel()
    await forever.cancelled.wait()


@pytest.mark.parametrize("behavior", ["stream", "reading"])
async def test_client_cancels_stream(serve: Served, behavior: str) -> None:
    forever = Forever()
    call = (await serve(duplex(getattr(forever, behavior)))).stream_stream(STREAM)()
    assert await call.read() == b"started"
    await forever.entered.wait()
    call.cancel()
    await forever.cancelled.wait()


async def test_client_that_vanishes_cancels(serve: Served) -> None:
    forever = Forever()
    channel = await serve(unary(forever.unary))
    call = channel.unary_unary(UNARY)(b"")
    await forever.entered.wait()
    await channel.close()
    await forever.cancelled.wait()
    assert call.done()


async def test_generator_is_closed_before_the_call_ends(serve: Served) -> None:
    closed = asyncio.Event()
    ended = asyncio.Event()

    async def handler(requests: Any, context: Any) -> AsyncIterator[bytes]:
        context.add_done_callback(lambda _: ended.set())
        try:
            while True:
                yield bytes(1000)
        finally:
            closed.set()

    call = (await serve(duplex(handler))).stream_stream(STREAM)()
    await call.read()
    call.cancel()
    await ended.wait()
    await closed.wait()


async def test_done_callback(serve: Served) -> None:
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def handler(request: bytes, context: Any) -> bytes:
        assert not context.done()
        assert not context.cancelled()
        context.add_done_callback(ended.set_result)
        return b""

    await (await serve(unary(handler))).unary_unary(UNARY)(b"")
    assert (await ended).done()


# Messages


async def test_large_messages_and_the_limit(serve: Served) -> None:
    channel = await serve(unary(echo))
    call = channel.unary_unary(UNARY)
    for size in (0, 3_000_000, 4 * 1024 * 1024):
        assert len(await call(bytes(size))) == size
    error = await failure(call(bytes(4 * 1024 * 1024 + 1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (error.details() or "")
    assert await call(b"after") == b"after"


async def test_send_limit(serve: Served) -> None:
    channel = await serve(unary(echo), max_send_bytes=1000)
    assert len(await channel.unary_unary(UNARY)(bytes(1000))) == 1000
    error = await failure(channel.unary_unary(UNARY)(bytes(1001)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compression_both_ways(serve: Served, compression: grpc.Compression) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_compression(compression)
        return request

    channel = await serve(unary(handler))
    body = b"compress me " * 10_000
    assert await channel.unary_unary(UNARY)(body, compression=compression) == body


async def test_compressed_bomb_is_refused(serve: Served) -> None:
    channel = await serve(unary(echo))
    call = channel.unary_unary(UNARY)(bytes(64 * 1024 * 1024), compression=grpc.Compression.Gzip)
    assert (await failure(call)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# Streams


async def generator_style(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def read_write_style(requests: Any, context: Any) -> None:
    while (request := await context.read()) is not aio.EOF:
        await context.write(request)


@pytest.mark.parametrize("behavior", [generator_style, read_write_style])
async def test_full_duplex(serve: Served, behavior: Any) -> None:
    call = (await serve(duplex(behavior))).stream_stream(STREAM)()
    for size in (1, 0, 70_000, 3):
        await call.write(bytes(size))
        assert len(await call.read()) == size
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_client_stream_and_server_stream(serve: Served) -> None:
    async def total(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"%d" % sum([len(request) async for request in requests])

    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    channel = await serve(
        {
            "Total": grpc.stream_unary_rpc_method_handler(total),
            "Count": grpc.unary_stream_rpc_method_handler(count),
        }
    )
    requests = [bytes(size) for size in range(50)]
    assert await channel.stream_unary(f"/{SERVICE}/Total")(iter(requests)) == b"1225"
    assert await channel.stream_unary(f"/{SERVICE}/Total")(iter(())) == b"0"
    assert [int(each) async for each in channel.unary_stream(f"/{SERVICE}/Count")(b"50")] == list(range(50))
    assert [each async for each in channel.unary_stream(f"/{SERVICE}/Count")(b"0")] == []


async def test_stream_ends_before_its_requests_do(serve: Served) -> None:
    async def first_only(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return await anext(aiter(requests))

    channel = await serve({"First": grpc.stream_unary_rpc_method_handler(first_only)})

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    assert await channel.stream_unary(f"/{SERVICE}/First")(endless()) == b"first"


async def test_back_pressure(serve: Served) -> None:
    """A server stream that nobody reads stops its handler instead of filling memory."""
    written = 0
    stalled = asyncio.Event()
    release = asyncio.Event()
    chunk = bytes(1024 * 1024)

    async def handler(requests: Any, context: Any) -> AsyncIterator[bytes]:
        nonlocal written
        for _ in range(256):
            pending = asyncio.ensure_future(context.write(chunk))
            # Whoever is not done after so many turns of the loop waits for the reader.
            for _ in range(20_000):
                if pending.done():
                    break
                await asyncio.sleep(0)
            else:
                stalled.set()
                await release.wait()
            await pending
            written += 1
        return
        yield b""

    call = (await serve(duplex(handler))).stream_stream(STREAM)()
    await stalled.wait()
    assert written < 128
    release.set()
    received = 0
    while (await call.read()) is not aio.EOF:
        received += 1
    assert received == 256


async def test_a_hundred_streams_at_once(serve: Served) -> None:
    everyone = asyncio.Barrier(100)

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            await everyone.wait()  # passes only with all of them open
            yield request

    stub = (await serve(duplex(handler))).stream_stream(STREAM)

    async def one(number: int) -> bytes:
        call = stub()
        for round_ in range(3):
            await call.write(b"%d/%d" % (number, round_))
            answer = await call.read()
        await call.done_writing()
        assert await call.read() is aio.EOF
        return answer

    answers = await asyncio.gather(*(one(number) for number in range(100)))
    assert answers == [b"%d/2" % number for number in range(100)]


# Interceptors


class Tag(aio.ServerInterceptor):
    """Records the call, and wraps its handler to add to the answer."""

    def __init__(self, name: bytes, seen: list[tuple[bytes, str, str]]) -> None:
        self.name = name
        self.seen = seen

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        metadata = dict(handler_call_details.invocation_metadata)
        self.seen.append((self.name, handler_call_details.method, metadata.get("who", "")))
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def wrapped(request: bytes, context: Any) -> bytes:
            return self.name + await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(wrapped)


async def test_interceptors(serve: Served) -> None:
    seen: list[tuple[bytes, str, str]] = []
    channel = await serve(unary(echo), interceptors=[Tag(b"a", seen), Tag(b"b", seen)])
    assert await channel.unary_unary(UNARY)(b"!", metadata=(("who", "me"),)) == b"ab!"
    assert seen == [(b"a", UNARY, "me"), (b"b", UNARY, "me")]
    error = await failure(channel.unary_unary("/no/such")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert seen[2:] == [(b"a", "/no/such", ""), (b"b", "/no/such", "")]


class Refuse(aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        async def refuse(request: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

        return grpc.unary_unary_rpc_method_handler(refuse)


async def test_interceptor_that_refuses(serve: Served) -> None:
    channel = await serve(unary(echo), interceptors=[Refuse()])
    error = await failure(channel.unary_unary(UNARY)(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAUTHENTICATED, "who are you?")


# grpcio's own servicers


async def test_health(serve: Served) -> None:
    servicer = health.aio.HealthServicer()
    channel = await serve(
        register=lambda registrar: health_pb2_grpc.add_HealthServicer_to_server(servicer, registrar)
    )
    stub = health_pb2_grpc.HealthStub(channel)
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    unknown = await failure(stub.Check(health_pb2.HealthCheckRequest(service="unknown")))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_reflection(serve: Served) -> None:
    channel = await serve(
        register=lambda registrar: reflection.enable_server_reflection(
            ["grpc.testing.TestService"], registrar
        )
    )
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = (await call.read()).list_services_response.service
    assert [service.name for service in listed] == ["grpc.testing.TestService"]
    await call.write(
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.testing.TestService")
    )
    assert (await call.read()).file_descriptor_response.file_descriptor_proto
    await call.done_writing()
    assert await call.read() is aio.EOF
