"""What no well-behaved client sends: the adapter alone, fed ASGI events by hand."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditd.rpc.asgi import GrpcApp, RpcFailure
from creditd.rpc.asgi.framing import MessageReader, decompress, frame
from creditd.rpc.asgi.metadata import decode_metadata, encode_metadata, parse_timeout
from creditd.rpc.asgi.peer import auth_context, peer_address

LIMIT = 1000
GRPC = {b"content-type": b"application/grpc", b"te": b"trailers"}


def framed(payload: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(payload).to_bytes(4) + payload


@dataclass
class Answer:
    http_status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    trailers_only: bool = True

    @property
    def status(self) -> int:
        return int(self.trailers[b"grpc-status"])

    @property
    def message(self) -> str:
        return self.trailers.get(b"grpc-message", b"").decode()

    def take(self, event: Mapping[str, Any]) -> None:
        match event["type"]:
            case "http.response.start":
                self.http_status = event["status"]
                self.headers = dict(event["headers"])
                if b"grpc-status" in self.headers:
                    self.trailers = self.headers
            case "http.response.body":
                self.body += event["body"]
            case "http.response.trailers":
                self.trailers_only = False
                self.trailers = dict(event["headers"])


async def call(
    app: GrpcApp,
    *events: bytes | Mapping[str, Any],
    path: str = "/s/Unary",
    headers: Mapping[bytes, bytes] = GRPC,
    method: str = "POST",
    http_version: str = "2",
    send: Any = None,
    then: Any = None,
) -> Answer:
    """Make one call whose request arrives in these events; then nothing, or what `then` returns."""
    answer = Answer()
    scope = {
        "type": "http",
        "http_version": http_version,
        "method": method,
        "path": path,
        "headers": list(headers.items()),
        "extensions": {"http.response.trailers": {}} if b"te" in headers else {},
        "client": ("127.0.0.1", 1),
    }
    bodies = [event for event in events if isinstance(event, bytes)]
    queue = [
        {"type": "http.request", "body": event, "more_body": number < len(bodies)}
        if isinstance(event, bytes)
        else event
        for number, event in enumerate(events, 1)
    ]

    async def receive() -> Mapping[str, Any]:
        if queue:
            return queue.pop(0)
        await (then() if then else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def take(event: Mapping[str, Any]) -> None:
        answer.take(event)

    await app(scope, receive, send or take)
    return answer


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"|".join([request async for request in requests])


async def repeat(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield request


def make_app(behavior: Any = echo, **options: Any) -> GrpcApp:
    app = GrpcApp(max_receive_bytes=LIMIT, **options)
    app.add_registered_method_handlers(
        "s",
        {
            "Unary": grpc.unary_unary_rpc_method_handler(behavior),
            "Join": grpc.stream_unary_rpc_method_handler(join),
            "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
        },
    )
    return app


@given(
    messages=st.lists(st.binary(max_size=LIMIT), max_size=6),
    cuts=st.lists(st.integers(min_value=0), max_size=20),
)
def test_messages_survive_any_cutting(messages: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(framed(message) for message in messages)
    at = sorted({cut % (len(wire) + 1) for cut in cuts} | {0, len(wire)})
    events = [wire[start:end] for start, end in pairwise(at)] or [b""]
    answer = asyncio.run(call(make_app(), *events, path="/s/Join"))
    assert answer.status == 0
    assert answer.body == framed(b"|".join(messages))


@pytest.mark.parametrize(
    ("events", "status"),
    [
        pytest.param([b""], grpc.StatusCode.UNIMPLEMENTED, id="no message"),
        pytest.param([framed(b"a") + framed(b"b")], grpc.StatusCode.UNIMPLEMENTED, id="two messages"),
        pytest.param(
            [framed(b"a"), framed(b"b")], grpc.StatusCode.UNIMPLEMENTED, id="two messages in two events"
        ),
        pytest.param([b"\0\0\0"], grpc.StatusCode.INTERNAL, id="cut in the prefix"),
        pytest.param([framed(b"abc")[:-1]], grpc.StatusCode.INTERNAL, id="cut in the message"),
        pytest.param([framed(b"a") + b"\0"], grpc.StatusCode.INTERNAL, id="rest after the message"),
        pytest.param([framed(b"a", flags=2)], grpc.StatusCode.INTERNAL, id="unknown flags"),
        pytest.param([framed(b"a", flags=1)], grpc.StatusCode.INTERNAL, id="compressed by nothing"),
        pytest.param([b"\0\xff\xff\xff\xff"], grpc.StatusCode.RESOURCE_EXHAUSTED, id="claims 4 GiB"),
        pytest.param([framed(bytes(LIMIT + 1))], grpc.StatusCode.RESOURCE_EXHAUSTED, id="over the limit"),
    ],
)
@pytest.mark.parametrize("path", ["/s/Unary", "/s/Repeat"])
async def test_broken_requests(events: list[bytes], status: grpc.StatusCode, path: str) -> None:
    answer = await call(make_app(), *events, path=path)
    assert (answer.http_status, answer.status, answer.body) == (200, status.value[0], b"")
    assert answer.trailers_only


async def test_refused_before_the_whole_of_it_was_read() -> None:
    """The length prefix alone condemns a message; its body is not waited for."""
    event = {"type": "http.request", "body": b"\0\0\1\0\0", "more_body": True}
    assert (await call(make_app(), event)).status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 405),
        ({"http_version": "1.1"}, 505),
        ({"headers": {}}, 415),
        ({"headers": {b"content-type": b"application/json"}}, 415),
        ({"headers": {b"content-type": b"application/grpc-web+proto"}}, 415),
        ({"headers": {b"content-type": b"application/grpcx"}}, 415),
    ],
)
async def test_what_is_not_grpc_gets_an_http_status(changes: dict[str, Any], status: int) -> None:
    answer = await call(make_app(), framed(b""), **changes)
    assert answer.http_status == status
    assert b"grpc-status" not in answer.headers


@pytest.mark.parametrize("content_type", [b"application/grpc+proto", b"Application/gRPC;charset=utf-8"])
async def test_content_types_of_grpc(content_type: bytes) -> None:
    answer = await call(make_app(), framed(b"x"), headers={**GRPC, b"content-type": content_type})
    assert (answer.status, answer.body) == (0, framed(b"x"))


async def test_client_that_takes_no_trailers() -> None:
    answer = await call(make_app(), framed(b""), headers={b"content-type": b"application/grpc"})
    assert (answer.status, answer.trailers_only) == (grpc.StatusCode.INTERNAL.value[0], True)


async def test_compression_on_the_wire() -> None:
    async def squeeze(request: bytes, context: Any) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        if request.startswith(b"plain"):
            context.disable_next_message_compression()
        return request

    app = make_app(squeeze)
    sent = {**GRPC, b"grpc-encoding": b"gzip", b"grpc-accept-encoding": b"identity, gzip"}
    body = b"x" * 900
    answer = await call(app, framed(gzip.compress(body), flags=1), headers=sent)
    assert answer.headers[b"grpc-encoding"] == b"gzip"
    assert answer.body[0] == 1
    assert gzip.decompress(answer.body[5:]) == body
    # One message may be exempt, and a caller that cannot read gzip gets none.
    assert (await call(app, framed(b"plain"), headers=sent)).body == framed(b"plain")
    answer = await call(app, framed(body), headers=GRPC)
    assert answer.body == framed(body)
    assert b"grpc-encoding" not in answer.headers


async def test_unknown_encoding() -> None:
    answer = await call(make_app(), framed(b"x", 1), headers={**GRPC, b"grpc-encoding": b"snappy"})
    assert answer.status == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert answer.headers[b"grpc-accept-encoding"] == b"identity,deflate,gzip"


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (gzip.compress(bytes(LIMIT + 1)), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (gzip.compress(bytes(100_000_000 // 100)), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (gzip.compress(b"x")[:-1], grpc.StatusCode.INTERNAL),
        (gzip.compress(b"x") + b"more", grpc.StatusCode.INTERNAL),
        (zlib.compress(b"x"), grpc.StatusCode.INTERNAL),
        (b"", grpc.StatusCode.INTERNAL),
    ],
)
def test_decompression_is_bounded_and_strict(packed: bytes, code: grpc.StatusCode) -> None:
    with pytest.raises(RpcFailure) as caught:
        decompress(packed, b"gzip", LIMIT)
    assert caught.value.code is code


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_compression_round_trip(encoding: bytes, size: int) -> None:
    assert decompress(frame(bytes(size), encoding)[5:], encoding, LIMIT) == bytes(size)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"0n", 0.0), (b"5S", 5.0), (b"250m", 0.25), (b"2H", 7200.0), (b"3M", 180.0), (b"10u", 1e-5)],
)
def test_timeouts(value: bytes, seconds: float) -> None:
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"5", b"S", b"-1S", b"1.5S", b"123456789S", b"1s", b" 1S"])
async def test_malformed_timeouts(value: bytes) -> None:
    answer = await call(make_app(), framed(b""), headers={**GRPC, b"grpc-timeout": value})
    assert answer.status == grpc.StatusCode.INTERNAL.value[0]


async def test_deadline_while_the_request_is_awaited() -> None:
    event = {"type": "http.request", "body": b"\0\0", "more_body": True}
    answer = await call(make_app(), event, headers={**GRPC, b"grpc-timeout": b"1m"})
    assert answer.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (b"AAEC", [b"\0\1\2"]),
        (b"AAE=", [b"\0\1"]),
        (b"AAE", [b"\0\1"]),
        (b"AAE,AAEC, AAE=", [b"\0\1", b"\0\1\2", b"\0\1"]),
        (b"", [b""]),
    ],
)
def test_binary_metadata(header: bytes, values: list[bytes]) -> None:
    assert [each.value for each in decode_metadata([(b"k-bin", header)])] == values


@given(st.binary())
def test_binary_metadata_round_trip(value: bytes) -> None:
    assert decode_metadata(encode_metadata([("k-bin", value)])) == (("k-bin", value),)


async def test_malformed_binary_metadata() -> None:
    async def look(request: bytes, context: Any) -> bytes:
        context.invocation_metadata()
        return b""

    answer = await call(make_app(look), framed(b""), headers={**GRPC, b"k-bin": b"*"})
    assert answer.status == grpc.StatusCode.INTERNAL.value[0]


@pytest.mark.parametrize(
    "metadatum", [("UPPER", "x"), ("", "x"), ("a b", "x"), ("k", "é"), ("k", "a\nb"), ("grpc-status", "0")]
)
def test_metadata_that_cannot_be_sent(metadatum: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        encode_metadata([metadatum])


async def test_details_are_percent_encoded() -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INTERNAL, "50% of ☺\n~")

    assert (await call(make_app(fail), framed(b""))).message == "50%25 of %E2%98%BA%0A~"


async def test_abort_that_the_handler_swallows_still_counts() -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        with suppress(Exception):
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        return b"never mind"

    answer = await call(make_app(fail), framed(b""))
    assert (answer.status, answer.message, answer.body) == (grpc.StatusCode.NOT_FOUND.value[0], "gone", b"")


async def test_response_that_cannot_be_serialized() -> None:
    app = GrpcApp()
    handler = grpc.unary_unary_rpc_method_handler(echo, response_serializer=lambda message: message.missing)
    app.add_registered_method_handlers("s", {"Unary": handler})
    assert (await call(app, framed(b""))).status == grpc.StatusCode.INTERNAL.value[0]


# Servers that do not cancel the application themselves


class Hanging:
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.context: Any = None

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.context = context
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""


async def test_disconnect_is_watched_for_while_the_handler_runs() -> None:
    hanging = Hanging()
    answer = await call(make_app(hanging.__call__), framed(b""), then=hanging.entered.wait)
    assert hanging.cancelled.is_set()
    assert hanging.context.cancelled()
    assert not hanging.context.is_active()
    assert answer.http_status == 0


async def test_disconnect_within_the_request() -> None:
    answer = await call(
        make_app(), {"type": "http.request", "body": b"\0", "more_body": True}, {"type": "http.disconnect"}
    )
    assert answer.http_status == 0


async def test_stream_that_closes_while_sending() -> None:
    async def closed(event: Mapping[str, Any]) -> None:
        raise OSError("the stream is closed")

    for path in ("/s/Unary", "/s/Repeat", "/s/Missing"):
        await call(make_app(), framed(b""), path=path, send=closed)


async def test_cancellation_by_the_server_is_passed_on() -> None:
    hanging = Hanging()
    app = make_app(hanging.__call__, watch_disconnect=False)
    task = asyncio.create_task(call(app, framed(b"")))
    await hanging.entered.wait()
    assert app.calls_in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hanging.cancelled.is_set()
    assert app.calls_in_flight == 0


async def test_cancel_calls() -> None:
    hanging = Hanging()
    app = make_app(hanging.__call__)
    task = asyncio.create_task(call(app, framed(b"")))
    await hanging.entered.wait()
    app.cancel_calls("bye")
    answer = await task
    assert (answer.status, answer.message) == (grpc.StatusCode.UNAVAILABLE.value[0], "bye")


async def test_lifespan() -> None:
    events = ["lifespan.startup", "lifespan.shutdown"]
    sent: list[str] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": events.pop(0)}

    async def send(event: Mapping[str, Any]) -> None:
        sent.append(event["type"])

    await GrpcApp()({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_reader_takes_no_more_than_it_is_asked_for() -> None:
    asked = 0

    async def receive() -> Mapping[str, Any]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": framed(b"a") + framed(b"b"), "more_body": True}

    reader = MessageReader(receive, LIMIT)
    assert [await reader.read() for _ in range(4)] == [b"a", b"b", b"a", b"b"]
    assert asked == 2


@pytest.mark.parametrize(
    ("client", "peer"),
    [(("10.0.0.1", 5), "ipv4:10.0.0.1:5"), (("::1", 5), "ipv6:[::1]:5"), (None, "unix:")],
)
def test_peer(client: Any, peer: str) -> None:
    assert peer_address({"client": client}) == peer


def test_auth_context_reads_the_subject() -> None:
    tls = {"client_cert_chain": ("pem",), "client_cert_name": r"CN=a\, b\C3\A9,O=Acme\, CN=not"}
    properties = auth_context({"extensions": {"tls": tls}})
    assert properties["x509_common_name"] == ["a, bé".encode()]
    assert auth_context({"extensions": {}}) == {}
