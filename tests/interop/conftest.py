"""The interop test service on both hosts, and the Go programs that test it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.interop.certificates import make_certificates
from tests.interop.gen import interop_pb2_grpc
from tests.interop.service import TestService
from tests.support.go import go_program

from creditd.rpc.hosts import TlsFiles, make_host


@pytest.fixture(scope="session")
def interop_client() -> Path:
    return go_program("google.golang.org/grpc/interop/client", "v1.85.0")


@pytest.fixture(scope="session")
def h2spec() -> Path:
    return go_program("github.com/summerwind/h2spec/cmd/h2spec", "v2.2.1+incompatible")


@pytest.fixture(params=["asgi", "grpcio"])
async def server_port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    async for port in serve(request.param):
        yield port


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["asgi", "grpcio"])
async def tls_server_port(request: pytest.FixtureRequest, certificates: Path) -> AsyncIterator[int]:
    async for port in serve(
        request.param, TlsFiles(certificates / "server.pem", certificates / "server.key")
    ):
        yield port


async def serve(transport: str, tls: TlsFiles | None = None) -> AsyncIterator[int]:
    host = make_host(transport, "127.0.0.1:0", tls=tls)
    interop_pb2_grpc.add_TestServiceServicer_to_server(TestService(), host.registrar)
    address = await host.start()
    yield int(address.rpartition(":")[2])
    await host.stop(0)
