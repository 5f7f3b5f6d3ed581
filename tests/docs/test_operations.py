"""What docs/operations.md says of calls while a store is away, on a real `creditd serve` whose stores are stopped."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.conftest import Deployment
from tests.e2e.conftest import deployment as deployment  # noqa: PLC0414 - a fixture

from creditd.cli.demo_data import install_demo
from creditd.v1 import accounts_pb2
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

USE = {"account": "demo", "feature": "image"}
OK = grpc.StatusCode.OK
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED


class Caller:
    """Calls, each told by its status."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.entitlements, self.accounts = EntitlementsStub(channel), AccountsStub(channel)
        self.healths = health_pb2_grpc.HealthStub(channel)

    async def check(self, **other: str) -> grpc.StatusCode:
        return await code_of(self.entitlements.Check(pb.CheckRequest(**{**USE, **other})))

    async def consume(self, key: str, timeout: float | None = None) -> grpc.StatusCode:
        request = pb.ConsumeRequest(**USE, idempotency_key=key)
        return await code_of(self.entitlements.Consume(request, timeout=timeout))

    async def change(self) -> grpc.StatusCode:
        request = accounts_pb2.PutAccountRequest(account=accounts_pb2.Account(id="new"))
        return await code_of(self.accounts.PutAccount(request))

    async def health(self) -> str:
        answer = await self.healths.Check(health_pb2.HealthCheckRequest())
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def code_of(call) -> grpc.StatusCode:  # type: ignore[no-untyped-def]
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return OK


@pytest.fixture
async def caller(deployment: Deployment):  # type: ignore[no-untyped-def]
    await install_demo(deployment.address)
    async with deployment.channel() as channel:
        calls = Caller(channel)
        assert [await calls.check(), await calls.consume("before")] == [OK, OK]
        yield calls


async def test_without_redis_everything_goes_on(deployment, caller):
    await deployment.valkey.stop()
    assert [await caller.check(), await caller.consume("k"), await caller.change()] == [OK, OK, OK]
    assert await caller.health() == "SERVING"
    await deployment.valkey.start()
    assert [await caller.check(), await caller.consume("l")] == [OK, OK]


async def test_without_postgres_hot_accounts_are_checked_and_a_consume_waits(deployment, caller):
    await deployment.postgres.stop()
    assert await caller.check() is OK
    assert await caller.check(account="cold") is UNAVAILABLE
    assert await caller.consume("waiting", timeout=1) is DEADLINE_EXCEEDED
    assert await caller.change() is UNAVAILABLE
    assert await caller.health() == "SERVING"
    await deployment.postgres.start()
    request = pb.ConsumeRequest(**USE, idempotency_key="waiting")
    answer = await caller.entitlements.Consume(request, wait_for_ready=True)
    assert answer.allowed
    assert answer.replayed, "what was decided while PostgreSQL was away has landed"


async def test_without_both_calls_are_unavailable(deployment, caller):
    await deployment.valkey.stop()
    await deployment.postgres.stop()
    assert [await caller.check(), await caller.consume("k"), await caller.change()] == [UNAVAILABLE] * 3
    await deployment.postgres.start()
    await deployment.valkey.start()
    assert [await caller.check(), await caller.consume("k")] == [OK, OK]


async def test_it_starts_without_redis_and_not_without_postgres(deployment):
    assert await deployment.stop() == 0
    await deployment.valkey.stop()
    await deployment.start()
    assert any("starting without the hot store" in line for line in deployment.log)
    assert await deployment.stop() == 0
    await deployment.postgres.stop()
    with pytest.raises(AssertionError, match="the ledger is away"):
        await deployment.start()
    assert deployment.process is not None
    assert await deployment.process.wait() == 4
    await deployment.postgres.start()
    await deployment.valkey.start()
