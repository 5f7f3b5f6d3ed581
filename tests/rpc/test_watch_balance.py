"""WatchBalance: the balance now and after each change, from whatever replica it came, on both hosts."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tests.rpc.conftest import CREDIT

from creditd.engine import watch
from creditd.v1 import accounts_pb2, entitlements_pb2, grants_pb2


async def available(stream) -> int:
    async with asyncio.timeout(10):
        answer = await stream.read()
    return answer.balances[0].available_micros // CREDIT


async def consume(api, quantity: int) -> None:
    await api.entitlements.Consume(
        entitlements_pb2.ConsumeRequest(account="acme", feature="chat", quantity=quantity)
    )


async def test_the_balance_is_told_now_and_after_each_change(demo):
    stream = demo.entitlements.WatchBalance(entitlements_pb2.WatchBalanceRequest(account="acme"))
    assert await available(stream) == 100
    await consume(demo, 30)
    assert await available(stream) == 70
    grant = grants_pb2.Grant(account="acme", id="more", credit="credits", amount_micros=5 * CREDIT)
    await demo.accounts.CreateGrant(accounts_pb2.CreateGrantRequest(grant=grant))
    assert await available(stream) == 75
    stream.cancel()


async def test_many_changes_are_told_as_few_and_the_last_one_is_right(demo):
    stream = demo.entitlements.WatchBalance(entitlements_pb2.WatchBalanceRequest(account="acme"))
    assert await available(stream) == 100
    await asyncio.gather(*(consume(demo, 1) for _ in range(60)))
    told = []
    while not told or told[-1] != 40:
        told.append(await available(stream))
    assert told == sorted(told, reverse=True)
    assert len(told) < 60
    stream.cancel()


async def test_an_unknown_account_and_credit_are_refused(demo):
    for request, reason in (
        (entitlements_pb2.WatchBalanceRequest(account="nobody"), "nobody"),
        (entitlements_pb2.WatchBalanceRequest(account="acme", credit="nope"), "nope"),
    ):
        stream = demo.entitlements.WatchBalance(request)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert reason in refused.value.details()


async def test_one_watch_too_many_is_refused_and_one_that_ends_makes_room(demo, monkeypatch):
    monkeypatch.setattr(watch, "WATCHES_MAX", 1)
    first = demo.entitlements.WatchBalance(entitlements_pb2.WatchBalanceRequest(account="acme"))
    assert await available(first) == 100
    second = demo.entitlements.WatchBalance(entitlements_pb2.WatchBalanceRequest(account="acme"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await second.read()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    first.cancel()
    async with asyncio.timeout(10):
        while True:
            third = demo.entitlements.WatchBalance(entitlements_pb2.WatchBalanceRequest(account="acme"))
            try:
                assert await available(third) == 100
            except grpc.aio.AioRpcError:
                continue
            third.cancel()
            return
