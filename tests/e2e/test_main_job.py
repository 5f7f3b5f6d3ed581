"""The main job: a real request trace burns credits at real prices, exactly, once, whatever breaks meanwhile.

The real trace and price map lie outside the project; where they are not, only the tests on input of the project's own
run. CREDITD_TEST_DATA names their folder; the default is shared/data beside the checkout.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
from collections.abc import Awaitable, Callable
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
import redis.asyncio as redis
from tests.e2e.conftest import ROOT, Deployment, run_creditd

from creditd.cli.replay import Plan, Summary, replay
from creditd.cli.trace import read_trace
from creditd.v1 import accounts_pb2, entitlements_pb2, ledger_pb2
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub
from creditd.v1.ledger_pb2_grpc import LedgerStub

REAL = Path(os.environ.get("CREDITD_TEST_DATA", ROOT.parent / "shared" / "data"))
REAL_TRACE = REAL / "azure-llm-inference-2023-conv.csv"
REAL_PRICES = REAL / "litellm-model-prices.json"
real_input = pytest.mark.skipif(
    not (REAL_TRACE.exists() and REAL_PRICES.exists()),
    reason="the real trace and price map lie outside the project; CREDITD_TEST_DATA names their folder",
)
METERS = {"input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"}


def expected_micros(trace: Path, prices: Path, model: str) -> int:
    """What the trace must burn: computed from the files alone, by nothing of creditd's."""
    price = json.loads(prices.read_text(), parse_float=Decimal)[model]
    total = Decimal(0)
    with trace.open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            for field, column in (
                ("input_cost_per_token", "ContextTokens"),
                ("output_cost_per_token", "GeneratedTokens"),
            ):
                micros = Decimal(row[column]) * price[field] / Decimal("0.01") * Decimal("1.3") * 1_000_000
                total += micros.to_integral_value(ROUND_CEILING)
    return int(total)


async def sell(deployment: Deployment, prices: Path, tmp_path: Path) -> None:
    """From a price map to an account with credits, by the commands that a person would use."""
    catalog = tmp_path / "catalog.json"
    code, output = await run_creditd(
        *("catalog", "import-prices", str(prices), "--feature", "chat", "--credit", "credits"),
        *("--credit-value", "0.01", "--markup", "1.3", "--output", str(catalog)),
    )
    assert code == 0, output
    document = json.loads(catalog.read_text())
    document["plans"] = [
        {
            "key": "pro",
            "allowances": [{"credit": "credits", "amount": 1_000_000}],
            "entitlements": [{"feature": "chat", "enabled": True}],
        }
    ]
    catalog.write_text(json.dumps(document))
    code, output = await run_creditd("catalog", "apply", str(catalog), "--address", deployment.address)
    assert code == 0, output
    async with deployment.channel() as channel:
        accounts = AccountsStub(channel)
        pb = accounts_pb2
        await accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id="azure")))
        await accounts.PutSubscription(
            pb.PutSubscriptionRequest(account="azure", subscription=pb.Subscription(id="s", plan="pro"))
        )


async def burn(
    deployment: Deployment,
    trace: Path,
    model: str,
    *,
    breaks: dict[int, Callable[[], Awaitable[None]]] | None = None,
    account: str = "azure",
) -> Summary:
    """Replay a trace; `breaks` says what to break once so many calls are answered."""
    plan = Plan(account, "chat", {"model": model}, f"{trace.stem}-", retry_for_s=120)
    todo = sorted((breaks or {}).items())
    breaking: list[asyncio.Task[None]] = []

    def on_answer(summary: Summary) -> None:
        while todo and summary.answered >= todo[0][0] and all(task.done() for task in breaking):
            # Bounded, so that what hangs is named in a traceback.
            breaking.append(asyncio.ensure_future(asyncio.wait_for(todo.pop(0)[1](), 60)))

    async with deployment.channel() as channel:
        summary = await replay(
            read_trace(trace, METERS, time_column="TIMESTAMP"),
            plan,
            EntitlementsStub(channel),
            stop=asyncio.Event(),
            on_answer=on_answer,
        )
    await asyncio.gather(*breaking)
    assert not todo, "not everything was broken"
    return summary


async def ledger_sum(deployment: Deployment, account: str = "azure") -> tuple[int, int]:
    """The sum of what the ledger's CONSUME entries took, and how many there are."""
    async with deployment.channel() as channel:
        stub = LedgerStub(channel)
        total = count = 0
        token = ""
        while True:
            page = await stub.ListEntries(
                ledger_pb2.ListEntriesRequest(
                    account=account, kinds=[ledger_pb2.Entry.KIND_CONSUME], page_size=1000, page_token=token
                )
            )
            total -= sum(entry.amount_micros for entry in page.entries)
            count += len(page.entries)
            token = page.next_page_token
            if not token:
                return total, count


async def is_consistent(deployment: Deployment, account: str = "azure") -> bool:
    async with deployment.channel() as channel:
        verified = await LedgerStub(channel).VerifyAccount(ledger_pb2.VerifyAccountRequest(account=account))
    print(f"verified {account}: ledger {verified.ledger_sequence}, hot {verified.hot_sequence}")
    return bool(verified.consistent)


async def the_job(deployment: Deployment, trace: Path, prices: Path, model: str, tmp_path: Path) -> None:
    await sell(deployment, prices, tmp_path)
    due = expected_micros(trace, prices, model)
    rows = len(trace.read_text().splitlines()) - 1

    first = await burn(deployment, trace, model)
    second = await burn(deployment, trace, model)

    print(json.dumps({"first": first.as_dict(), "second": second.as_dict(), "due_micros": due}, indent=1))
    assert (first.allowed, first.replayed, first.burned) == (rows, 0, due)
    assert (second.allowed, second.replayed, second.burned) == (rows, rows, 0)
    assert await ledger_sum(deployment) == (due, rows)
    assert await is_consistent(deployment)


async def the_job_under_faults(
    deployment: Deployment, trace: Path, prices: Path, model: str, tmp_path: Path
) -> None:
    await sell(deployment, prices, tmp_path)
    due = expected_micros(trace, prices, model)
    rows = len(trace.read_text().splitlines()) - 1

    async def kill_server() -> None:
        await deployment.kill()
        await deployment.start()

    async def flush() -> None:
        async with redis.from_url(deployment.valkey.url) as client:
            await client.flushall()

    async def snapshot() -> None:
        async with redis.from_url(deployment.valkey.url) as client:
            await client.save()

    async def rewind() -> None:
        await deployment.valkey.kill()
        await deployment.valkey.start()

    steps = [snapshot, kill_server, flush, snapshot, rewind, deployment.postgres.restart]
    breaks = {rows * (place + 1) // (len(steps) + 2): step for place, step in enumerate(steps)}
    summary = await burn(deployment, trace, model, breaks=breaks)

    print(json.dumps({"summary": summary.as_dict(), "due_micros": due}, indent=1))
    assert summary.allowed == rows, summary.failed
    assert await ledger_sum(deployment) == (due, rows)
    assert await is_consistent(deployment)
    assert await deployment.stop() == 0


def own_trace(tmp_path: Path) -> Path:
    """A trace of 3,000 rows: the example's, over and over."""
    header, *rows = (ROOT / "examples" / "trace.csv").read_text().splitlines()
    trace = tmp_path / "trace.csv"
    trace.write_text("\n".join([header, *(rows * 30)[:3000]]) + "\n")
    return trace


def own_model() -> str:
    prices = json.loads((ROOT / "examples" / "model-prices.json").read_text())
    wanted = {"input_cost_per_token", "output_cost_per_token"}
    return next(name for name in prices if name != "sample_spec" and wanted <= prices[name].keys())


async def test_a_trace_burns_to_the_micro_and_only_once(deployment, tmp_path):
    prices = ROOT / "examples" / "model-prices.json"
    await the_job(deployment, own_trace(tmp_path), prices, own_model(), tmp_path)


async def test_a_trace_burns_to_the_micro_while_everything_breaks(deployment, tmp_path):
    prices = ROOT / "examples" / "model-prices.json"
    await the_job_under_faults(deployment, own_trace(tmp_path), prices, own_model(), tmp_path)


@real_input
async def test_the_real_trace_burns_to_the_micro_and_only_once(deployment, tmp_path):
    await the_job(deployment, REAL_TRACE, REAL_PRICES, "gpt-4o", tmp_path)


@real_input
async def test_the_real_trace_burns_to_the_micro_while_everything_breaks(deployment, tmp_path):
    await the_job_under_faults(deployment, REAL_TRACE, REAL_PRICES, "gpt-4o", tmp_path)


async def test_64_callers_drain_an_account_that_covers_exactly_half_of_their_calls(deployment, tmp_path):
    await sell(deployment, ROOT / "examples" / "model-prices.json", tmp_path)
    pb = accounts_pb2
    async with deployment.channel() as channel:
        accounts, stub = AccountsStub(channel), EntitlementsStub(channel)
        use = {"feature": "chat", "attributes": {"model": own_model()}, "usage": {"output_tokens": 10}}
        await accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id="half")))
        await accounts.PutSubscription(
            pb.PutSubscriptionRequest(account="half", subscription=pb.Subscription(id="h", plan="pro"))
        )
        await accounts.VoidGrant(pb.VoidGrantRequest(account="half", id="h/plan/0/1"))
        cost = (await stub.Check(entitlements_pb2.CheckRequest(account="half", **use))).cost_micros
        grant = {"id": "g", "account": "half", "credit": "credits", "amount_micros": 5000 * cost}
        await accounts.CreateGrant(pb.CreateGrantRequest(grant=grant))
        calls = iter(range(10_000))
        answers = []

        async def caller() -> None:
            for number in calls:
                request = entitlements_pb2.ConsumeRequest(account="half", idempotency_key=f"c{number}", **use)
                answers.append(await stub.Consume(request))

        await asyncio.gather(*(caller() for _ in range(64)))
        balance = await stub.GetBalance(entitlements_pb2.GetBalanceRequest(account="half"))

    allowed = [answer for answer in answers if answer.allowed]
    sequences = sorted(answer.sequence for answer in allowed)
    print(f"allowed {len(allowed)} of {len(answers)}, sequences {sequences[0]} to {sequences[-1]}")
    assert len(answers) == 10_000
    assert len(allowed) == 5000
    assert sequences == list(range(sequences[0], sequences[0] + 5000))
    assert balance.balances[0].available_micros == 0
    assert await is_consistent(deployment, "half")
