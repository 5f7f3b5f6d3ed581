"""Liveness and readiness as probes, balancers and clients see them, on both hosts; neither follows the stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from tests.support.serving import serving

from creditd.config import load_settings
from creditd.embedded import EmbeddedPostgres, EmbeddedValkey
from creditd.ledger.migrate import migrate
from creditd.rpc.health import LIVENESS, Health
from creditd.rpc.hosts import Host, make_host
from creditd.rpc.server import SERVICES
from creditd.v1 import accounts_pb2, accounts_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@dataclass
class Served:
    """A health servicer on a host, and a client of it."""

    health: Health
    host: Host
    stub: health_pb2_grpc.HealthStub

    async def status(self, service: str) -> int:
        return (await self.stub.Check(health_pb2.HealthCheckRequest(service=service))).status

    def watch(self, service: str) -> grpc.aio.UnaryStreamCall:
        return self.stub.Watch(health_pb2.HealthCheckRequest(service=service))


@pytest.fixture(params=["asgi", "grpcio"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def served(transport: str) -> AsyncIterator[Served]:
    health = Health(SERVICES)
    host = make_host(transport, "127.0.0.1:0")
    health_pb2_grpc.add_HealthServicer_to_server(health, host.registrar)
    async with grpc.aio.insecure_channel(await host.start()) as channel:
        yield Served(health, host, health_pb2_grpc.HealthStub(channel))
    await host.stop(0)


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_readiness_comes_with_the_start_and_goes_with_the_drain(served: Served, service: str) -> None:
    assert await served.status(service) == NOT_SERVING
    await served.health.serving()
    assert await served.status(service) == SERVING
    await served.health.draining()
    assert await served.status(service) == NOT_SERVING


async def test_a_drain_is_not_taken_back(served: Served) -> None:
    await served.health.draining()
    await served.health.serving()
    assert await served.status("") == NOT_SERVING


async def test_liveness_is_serving_before_the_start_and_throughout_the_drain(served: Served) -> None:
    assert await served.status(LIVENESS) == SERVING
    await served.health.serving()
    assert await served.status(LIVENESS) == SERVING
    await served.health.draining()
    assert await served.status(LIVENESS) == SERVING


async def test_a_service_that_is_not_here_is_not_found(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.status("creditd.v1.Entitlement")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "creditd.v1.Entitlement" in caught.value.details()


async def test_a_watch_of_readiness_is_told_every_change_and_ends_with_the_drain(served: Served) -> None:
    watch = served.watch("")
    assert (await watch.read()).status == NOT_SERVING
    await served.health.serving()
    assert (await watch.read()).status == SERVING
    await served.health.draining()
    assert (await watch.read()).status == NOT_SERVING
    assert await watch.read() is grpc.aio.EOF


async def test_a_watch_of_liveness_never_says_that_the_process_is_dead(served: Served) -> None:
    watch = served.watch(LIVENESS)
    assert (await watch.read()).status == SERVING
    await served.health.serving()
    await served.health.draining()
    assert await watch.read() is grpc.aio.EOF
    assert await watch.code() is grpc.StatusCode.OK


async def test_watches_hold_up_no_stop(served: Served) -> None:
    watches = [served.watch(service) for service in ("", LIVENESS, "unknown")]
    for watch in watches:
        await watch.read()
    await served.health.draining()
    await served.host.stop(60)  # the timeout of the test is far below the grace of all of them


async def test_a_watch_of_an_unknown_service_leaves_the_server_free_for_others(served: Served) -> None:
    await served.health.serving()
    watch = served.watch("unknown")
    assert (await watch.read()).status == SERVICE_UNKNOWN
    assert await served.status("") == SERVING
    watch.cancel()


async def test_a_server_stays_alive_and_ready_while_its_stores_are_away(
    transport: str, tmp_path: Path
) -> None:
    """An orchestrator must neither restart it, which mends nothing, nor take it out: see decision 0006."""
    async with (
        EmbeddedPostgres(tmp_path / "pg", fsync=False) as postgres,
        EmbeddedValkey(tmp_path / "valkey") as valkey,
    ):
        await migrate(postgres.dsn)
        settings = load_settings(
            {},
            postgres_dsn=postgres.dsn,
            redis_url=valkey.url,
            listen="127.0.0.1:0",
            transport=transport,
            drain_grace_s=5,
            pg_timeout_s=1,
        )
        async with serving(settings) as address, grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            await postgres.stop()
            await valkey.stop()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await accounts_pb2_grpc.AccountsStub(channel).GetAccount(
                    accounts_pb2.GetAccountRequest(id="acme")
                )
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            status = rpc_status.from_call(caught.value)
            assert status is not None
            kinds = {detail.type_url.rpartition(".")[2] for detail in status.details}
            assert kinds == {"ErrorInfo", "RetryInfo"}
            for service in (LIVENESS, "", *SERVICES):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == SERVING
