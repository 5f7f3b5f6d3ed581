"""GetServerStats through a real server: what callers did is what it counts."""

from __future__ import annotations

import asyncio
import itertools

import asyncpg
import grpc
import pytest
from redis.asyncio import Redis

from creditd import __version__
from creditd.hot.keys import outbox_key
from creditd.v1 import diagnostics_pb2 as pb
from creditd.v1 import entitlements_pb2 as ent

CREDIT = 1_000_000
OK, CANCELLED, INVALID, DEADLINE, NOT_FOUND, UNIMPLEMENTED = 0, 1, 3, 4, 5, 12


async def stats(api, hottest_max: int = 0) -> pb.ServerStats:
    return await api.diagnostics.GetServerStats(pb.GetServerStatsRequest(hottest_max=hottest_max))


def rpc(answer: pb.ServerStats, name: str) -> pb.RpcStats:
    return next(item for item in answer.rpcs if item.rpc == f"creditd.v1.{name}")


def statuses(counts) -> dict[int, int]:
    return {item.code: item.count for item in counts}


def reasons(item: pb.RpcStats) -> dict[str, int]:
    return {ent.Reason.Name(found.reason).removeprefix("REASON_"): found.count for found in item.decisions}


async def fails(call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


def chat(quantity: int, key: str = "", account: str = "acme") -> ent.ConsumeRequest:
    return ent.ConsumeRequest(account=account, feature="chat", quantity=quantity, idempotency_key=key)


async def test_calls_decisions_and_replays_are_counted_exactly(demo):
    stub = demo.entitlements
    for quantity in (1, 2, 1000):
        await stub.Check(ent.CheckRequest(account="acme", feature="chat", quantity=quantity))
    await stub.Check(ent.CheckRequest(account="acme", feature="sso"))
    await fails(stub.Check(ent.CheckRequest(account="nobody", feature="chat")))
    await fails(stub.Check(ent.CheckRequest(account="acme")))
    for key in ("a", "b", "a"):
        await stub.Consume(chat(10, key))
    await stub.Consume(chat(1000))
    for _ in range(4):
        await stub.Consume(ent.ConsumeRequest(account="acme", feature="calls"))
    held = await stub.Reserve(ent.ReserveRequest(account="acme", feature="chat", quantity=2))
    await stub.Reserve(ent.ReserveRequest(account="acme", feature="chat", quantity=1000))
    for _ in range(2):
        await stub.Commit(ent.CommitRequest(account="acme", reservation_id=held.reservation_id, quantity=2))
    lease = ent.AcquireLeaseRequest(account="acme", credit="ai", amount_micros=1, holder="host")
    await fails(stub.AcquireLease(lease))
    answer = await stats(demo)
    check, consume = rpc(answer, "Entitlements/Check"), rpc(answer, "Entitlements/Consume")

    assert statuses(check.calls) == {OK: 4, INVALID: 1, NOT_FOUND: 1}
    assert reasons(check) == {"COVERED": 2, "INSUFFICIENT_CREDITS": 1, "ENTITLED": 1}
    assert statuses(consume.calls) == {OK: 8}
    assert reasons(consume) == {
        "COVERED": 3,
        "INSUFFICIENT_CREDITS": 1,
        "WITHIN_LIMIT": 3,
        "LIMIT_EXCEEDED": 1,
    }
    assert (check.replays, consume.replays) == (0, 1)
    assert reasons(rpc(answer, "Entitlements/Reserve")) == {"COVERED": 1, "INSUFFICIENT_CREDITS": 1}
    commit = rpc(answer, "Entitlements/Commit")
    assert (reasons(commit), commit.replays) == ({"COVERED": 2}, 1)
    assert statuses(rpc(answer, "Entitlements/AcquireLease").calls) == {UNIMPLEMENTED: 1}
    assert answer.hottest.accounts[0].burned_micros == (10 + 10 + 2) * CREDIT
    assert statuses(rpc(answer, "Accounts/PutAccount").calls) == {OK: 1}
    assert list(rpc(answer, "Accounts/PutAccount").decisions) == []
    assert "creditd.v1.Entitlements/GetBalance" not in {item.rpc for item in answer.rpcs}
    assert [item.rpc for item in answer.rpcs] == sorted(item.rpc for item in answer.rpcs)


async def test_items_of_batches_are_decisions_of_their_own(demo):
    stub = demo.entitlements
    good = ent.CheckRequest(account="acme", feature="chat", quantity=1)
    items = [good, ent.CheckRequest(account="acme"), ent.CheckRequest(account="nobody", feature="chat"), good]
    await stub.BatchCheck(ent.BatchCheckRequest(items=items))
    await stub.BatchConsume(ent.BatchConsumeRequest(items=[chat(1, "a"), chat(2, "b"), chat(1, "a", "none")]))
    await stub.BatchConsume(ent.BatchConsumeRequest(items=[chat(3, "c"), chat(500, "d")], atomic=True))
    await stub.BatchConsume(ent.BatchConsumeRequest(items=[chat(3, "e"), chat(4, "f")], atomic=True))
    answer = await stats(demo)
    check, consume = rpc(answer, "Entitlements/BatchCheck"), rpc(answer, "Entitlements/BatchConsume")

    assert statuses(check.calls) == {OK: 1}
    assert (reasons(check), statuses(check.item_errors)) == ({"COVERED": 2}, {INVALID: 1, NOT_FOUND: 1})
    assert statuses(consume.calls) == {OK: 3}
    assert reasons(consume) == {"COVERED": 4, "INSUFFICIENT_CREDITS": 1}
    assert statuses(consume.item_errors) == {NOT_FOUND: 1, grpc.StatusCode.FAILED_PRECONDITION.value[0]: 1}
    assert answer.hottest.accounts[0].burned_micros == (1 + 2 + 3 + 4) * CREDIT


async def test_hottest_accounts_are_those_that_were_decided_for_most(demo):
    for place in range(5):
        await demo.accounts.PutAccount(put_account(f"a{place}"))
        for _ in range(2 * place):
            await demo.entitlements.Check(ent.CheckRequest(account=f"a{place}", feature="chat"))
    for _ in range(20):
        await demo.entitlements.Consume(chat(2, account="acme"))
    answer = await stats(demo, hottest_max=3)

    assert [(hot.account, hot.decisions) for hot in answer.hottest.accounts] == [
        ("acme", 20),
        ("a4", 8),
        ("a3", 6),
    ]
    acme, a4, _ = answer.hottest.accounts
    assert (acme.denials, acme.burned_micros) == (0, 40 * CREDIT)
    assert (a4.denials, a4.burned_micros, a4.decisions_missed_max) == (8, 0, 0)
    assert answer.hottest.decisions == 20 + 2 + 4 + 6 + 8
    assert 0 < answer.hottest.window.ToMilliseconds() <= 60_000


async def test_the_answer_names_the_process_and_says_how_its_stores_are(demo, valkey):
    first, second = await stats(demo), await stats(demo)

    assert first.instance_id == second.instance_id
    assert len(first.instance_id) == 16
    assert (first.version, first.transport in {"asgi", "grpcio"}) == (__version__, True)
    assert first.started_at.ToMilliseconds() <= first.now.ToMilliseconds() <= second.now.ToMilliseconds()
    assert (first.hot_store_reachable, first.ledger_reachable) == (True, True)
    assert first.HasField("outbox_depth")
    assert (first.cached_policies, first.loads.cold, first.loads.changed) == (1, 0, 1)

    async with Redis.from_url(valkey) as client:
        await client.flushall()
    await demo.entitlements.Check(ent.CheckRequest(account="acme", feature="chat"))

    assert (await stats(demo)).loads.cold == 1


async def test_commits_are_counted_by_unit_and_flight(demo):
    before = (await stats(demo)).commits
    for number in range(5):
        await demo.entitlements.Consume(chat(1, f"k{number}"))
    await asyncio.gather(*(demo.entitlements.Consume(chat(1, f"g{number}")) for number in range(20)))
    after = (await stats(demo)).commits

    assert after.units - before.units == 25
    assert 6 <= after.flights - before.flights <= 25
    assert sum(after.latency.counts) == after.flights
    assert (after.queued, after.failed_attempts) == (0, 0)
    assert after.last_flight_latency.ToMicroseconds() > 0
    assert 1 <= after.last_flight_units <= 20


async def test_every_call_is_in_one_bucket_of_its_latency_histogram(demo):
    for _ in range(7):
        await demo.entitlements.Consume(chat(1))
    answer = await stats(demo)
    latency = rpc(answer, "Entitlements/Consume").latency
    bounds = [bound.ToMicroseconds() for bound in answer.latency_bounds]

    assert (bounds[0], bounds[4], bounds[-1]) == (10, 20, 83_886_080)
    assert all(1.1 < high / low < 1.25 for low, high in itertools.pairwise(bounds))
    assert len(latency.counts) == len(bounds) + 1
    assert sum(latency.counts) == 7
    used = [place for place, count in enumerate(latency.counts) if count]
    assert bounds[used[0] - 1] * 7 <= latency.sum.ToMicroseconds() <= 7 * bounds[used[-1]]


async def test_a_unit_left_in_an_outbox_is_seen(demo, valkey):
    async with Redis.from_url(valkey) as client:
        await client.hset(outbox_key(7), "0" * 32, b"not read by HLEN")
        answer = await stats(demo)
        await client.delete(outbox_key(7))

    assert answer.outbox_depth == 1


async def test_a_passed_deadline_and_a_caller_that_went_away_are_told_apart(demo, dsn):
    await demo.entitlements.Check(ent.CheckRequest(account="acme", feature="chat"))
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        # Nothing lands for the account, so the calls hang.
        await connection.execute("SELECT FROM account_heads WHERE account = 'acme' FOR UPDATE")
        assert (
            await fails(demo.entitlements.Consume(chat(1), timeout=0.3)) is grpc.StatusCode.DEADLINE_EXCEEDED
        )
        gone = demo.entitlements.Consume(chat(1), timeout=60)
        for _ in range(2):
            await stats(demo)  # calls of one connection are read in order: the one above has arrived
        gone.cancel()
        async with asyncio.timeout(20):
            while len(counted := statuses(rpc(await stats(demo), "Entitlements/Consume").calls)) < 2:
                pass
    await connection.close()

    assert counted == {DEADLINE: 1, CANCELLED: 1}


@pytest.mark.parametrize("wrong", [-1, 101])
async def test_more_accounts_than_there_may_be_are_refused(demo, wrong):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stats(demo, hottest_max=wrong)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def put_account(account: str):
    from creditd.v1 import accounts_pb2

    return accounts_pb2.PutAccountRequest(account=accounts_pb2.Account(id=account))
