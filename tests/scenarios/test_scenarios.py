"""Every scenario, through gRPC, on a test clock; then the books must balance and the hot state be the ledger's."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.rpc.conftest import Api
from tests.scenarios.conservation import check_books
from tests.scenarios.steps import ACCOUNT, KEYWORDS, Scenario, catalog_of, differences, request_of, scenarios
from tests.support.serving import serving as running

from creditd.cli.refusals import refusal_of
from creditd.config import load_settings
from creditd.ledger.store import Ledger
from creditd.v1 import accounts_pb2, catalog_pb2, ledger_pb2, test_clocks_pb2

ALL = list(scenarios())
_numbers = itertools.count(1)
applied: dict[str, Any] = {}
"""The catalog that each server has, so that a file's is applied once."""


@asynccontextmanager
async def serving(dsn: str, redis_url: str) -> AsyncIterator[tuple[Api, Ledger]]:
    """A server, and a ledger that reads beside it."""
    settings = load_settings(
        {}, postgres_dsn=dsn, redis_url=redis_url, listen="127.0.0.1:0", test_clocks=True, drain_grace_s=5
    )
    async with running(settings) as address, grpc.aio.insecure_channel(address) as channel:
        ledger = await Ledger.connect(dsn)
        yield Api(address, channel), ledger
        await ledger.close()


class Player:
    """Plays one scenario on an account and a clock of its own."""

    def __init__(self, api: Api, scenario: Scenario) -> None:
        self.api, self.scenario = api, scenario
        number = next(_numbers)
        self.clock = f"clock-{number}"
        self.account = f"{ACCOUNT}-{number}"
        self.names: dict[str, Any] = {"account": self.account, "clock": self.clock}

    async def play(self) -> None:
        if applied.get(self.api.address) != self.scenario.catalog:
            await self.apply(self.scenario.catalog, {})
        await self.api.clocks.CreateTestClock(
            test_clocks_pb2.CreateTestClockRequest(
                test_clock=test_clocks_pb2.TestClock(id=self.clock, now=instant(self.scenario.start))
            )
        )
        account = accounts_pb2.Account(id=self.account, test_clock=self.clock, **self.scenario.account)
        await self.api.accounts.PutAccount(accounts_pb2.PutAccountRequest(account=account))
        for number, step in enumerate(self.scenario.steps, 1):
            for _ in range(step.get("repeat", 1)):
                await self.step(number, step)

    async def apply(self, document: Any, step: dict[str, Any]) -> None:
        effective_at = step.get("effective_at")
        request = catalog_pb2.ApplyCatalogRequest(
            catalog=catalog_of(document),
            effective_at=instant(effective_at) if effective_at else None,
            dry_run=step.get("dry_run", False),
        )
        answer = await self.api.catalogs.ApplyCatalog(request)
        if not request.dry_run:
            applied[self.api.address] = document
        if not step.keys() - KEYWORDS:
            faults = differences(self.filled(step.get("expect", {})), answer)
            assert not faults, "catalog: " + "; ".join(faults)

    async def step(self, number: int, step: dict[str, Any]) -> None:
        if "at" in step:
            await self.api.clocks.AdvanceTestClock(
                test_clocks_pb2.AdvanceTestClockRequest(id=self.clock, now=instant(step["at"]))
            )
        if "catalog" in step:
            await self.apply(step["catalog"], step)
        rpcs = step.keys() - KEYWORDS
        assert len(rpcs) <= 1, f"step {number} has several RPCs: {sorted(rpcs)}"
        for rpc in rpcs:
            await self.call(f"step {number}, {rpc}", rpc, step)

    async def call(self, where: str, rpc: str, step: dict[str, Any]) -> None:
        method, message = self.method(rpc)
        request = request_of(message.DESCRIPTOR, self.filled(step[rpc]), message)
        wanted = step.get("error")
        try:
            answer = await method(request)
        except grpc.aio.AioRpcError as error:
            assert wanted is not None, f"{where}: {error.code().name}: {error.details()}"
            self.check_error(where, wanted, error)
            return
        assert wanted is None, f"{where}: expected {wanted}, was answered {answer}"
        faults = differences(self.filled(step.get("expect", {})), answer)
        assert not faults, f"{where}: " + "; ".join(faults)
        for name, path in step.get("name", {}).items():
            self.names[name] = value_at(answer, path)

    def method(self, rpc: str) -> tuple[Any, Any]:
        for stub in (self.api.entitlements, self.api.accounts, self.api.ledger, self.api.catalogs):
            if hasattr(stub, rpc):
                return getattr(stub, rpc), message_of(rpc)
        raise AssertionError(f"no service has {rpc}")

    def filled(self, value: Any) -> Any:
        """With `$name` and the account's real id put in."""
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        if isinstance(value, str) and value.startswith("$"):
            return self.names[value[1:]]
        return value

    def check_error(self, where: str, wanted: dict[str, Any], error: grpc.aio.AioRpcError) -> None:
        refusal = refusal_of(error)
        assert refusal.status.name == wanted["code"], f"{where}: {refusal}"
        if "reason" in wanted:
            assert refusal.reason == wanted["reason"], f"{where}: {refusal}"
        if "fields" in wanted:
            fields = [field for field, _problem in refusal.violations]
            assert fields == wanted["fields"], f"{where}: {refusal}"


def instant(text: str) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromJsonString(text)
    return timestamp


def value_at(answer: Any, path: str) -> Any:
    for part in str(path).split("."):
        answer = answer[int(part)] if part.isdigit() else getattr(answer, part)
    return answer


def message_of(rpc: str) -> Any:
    from creditd.v1 import entitlements_pb2

    for module in (entitlements_pb2, accounts_pb2, ledger_pb2, catalog_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            if rpc in service.methods_by_name:
                name = service.methods_by_name[rpc].input_type.name
                return getattr(module, name)()
    raise AssertionError(rpc)


def named(chosen: list[Scenario]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", chosen, ids=[f"{item.file}: {item.rule}" for item in chosen])


@named([item for item in ALL if not item.schedules])
async def test_scenario(shared_server, scenario, monkeypatch):
    await play(*shared_server, scenario, monkeypatch)


@named([item for item in ALL if item.schedules])
async def test_scenario_with_catalogs_for_later(own_server, scenario, monkeypatch):
    """On a server of its own: a catalog for later would be in force in other scenarios as well."""
    await play(*own_server, scenario, monkeypatch)


async def play(api: Api, ledger: Ledger, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player(api, scenario)
    monkeypatch.setattr("tests.scenarios.steps.ACCOUNT", player.account)
    await player.play()
    entries = list(reversed(await ledger.list_entries(player.account, limit=100_000)))
    check_books(entries, await ledger.read(player.account, from_start=True))
    verified = await api.ledger.VerifyAccount(ledger_pb2.VerifyAccountRequest(account=player.account))
    assert verified.consistent, list(verified.differences)


def test_every_rule_is_told_once():
    names = [(item.file, item.rule) for item in ALL]
    assert len(set(names)) == len(names)
