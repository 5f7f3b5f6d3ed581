"""Consume on an account with a large policy beside a plain one: same server, same run, sides interleaved.

The catalog has 200 features, 50 plans and 4,553 models; the large account has 50 active grants, 20 limits and 10
budgets that all bear on the feature it uses. Goal: at most 1.5 times the plain account's time per call. Measured twice:
under load, where a call's time is the server's work, and one call at a time, where it is what the caller waits.

Run: python -m bench.policy [--rounds 5] [--calls 10000] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
from pathlib import Path

import grpc

from bench.__main__ import Round, Side, framed, load, start
from creditd.embedded import embedded_servers
from creditd.ledger.migrate import migrate
from creditd.v1 import accounts_pb2, catalog_pb2
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.catalog_pb2_grpc import CatalogsStub

CREDIT = 1_000_000
MODELS, FEATURES, PLANS = 4_553, 200, 50
GRANTS, LIMITS, BUDGETS = 50, 20, 10
GOAL = 1.5
Results = dict[str, list[Round]]
WINDOWS = (catalog_pb2.WINDOW_ANCHORED, catalog_pb2.WINDOW_CALENDAR)
UNITS = (
    catalog_pb2.Period.UNIT_MINUTE,
    catalog_pb2.Period.UNIT_HOUR,
    catalog_pb2.Period.UNIT_DAY,
    catalog_pb2.Period.UNIT_WEEK,
    catalog_pb2.Period.UNIT_MONTH,
)


def rate(model: int) -> catalog_pb2.Rate:
    prices = [
        catalog_pb2.MeterPrice(meter=meter, credits_micros=micros + model, per=1_000_000)
        for meter, micros in (("input_tokens", 100), ("output_tokens", 400))
    ]
    return catalog_pb2.Rate(match={"model": f"model-{model}"}, prices=prices)


def large_catalog() -> catalog_pb2.Catalog:
    """Prices for every model, and plans that include every feature."""
    chat = catalog_pb2.Feature(
        key="chat",
        type=catalog_pb2.FEATURE_TYPE_CREDIT,
        credit="credits",
        default_meter="output_tokens",
        rates=[rate(model) for model in range(MODELS)],
    )
    others = [
        catalog_pb2.Feature(key=f"feature-{number}", type=catalog_pb2.FEATURE_TYPE_BOOLEAN)
        for number in range(FEATURES - 1)
    ]
    entitlements = [catalog_pb2.Entitlement(feature=item.key, enabled=True) for item in (chat, *others)]
    limits = [catalog_pb2.Entitlement(feature="chat", limit=limit(number)) for number in range(LIMITS)]
    plans = [
        catalog_pb2.Plan(key=f"plan-{number}", rank=number, entitlements=entitlements)
        for number in range(PLANS - 1)
    ]
    plans.append(catalog_pb2.Plan(key="large", rank=PLANS, entitlements=[*limits, *entitlements[1:]]))
    return catalog_pb2.Catalog(
        credits=[catalog_pb2.CreditType(key="credits")], features=[chat, *others], plans=plans
    )


def limit(number: int) -> catalog_pb2.Limit:
    period = catalog_pb2.Period(unit=UNITS[number % len(UNITS)], count=1 + number // (2 * len(UNITS)))
    window = WINDOWS[number // len(UNITS) % 2]
    return catalog_pb2.Limit(max=10**15, per=period, window=window)


async def sell(address: str) -> None:
    """The catalog, a plain account, and one with everything."""
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_send_message_length", 64 * 1024 * 1024)]
    ) as channel:
        accounts = AccountsStub(channel)
        await CatalogsStub(channel).ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=large_catalog()))
        for account, plan, grants in (("plain", "plan-0", 1), ("large", "large", GRANTS)):
            await accounts.PutAccount(
                accounts_pb2.PutAccountRequest(account=accounts_pb2.Account(id=account))
            )
            subscription = accounts_pb2.Subscription(id="s", plan=plan)
            await accounts.PutSubscription(
                accounts_pb2.PutSubscriptionRequest(account=account, subscription=subscription)
            )
            for number in range(grants):
                grant = {
                    "id": f"g{number}",
                    "account": account,
                    "credit": "credits",
                    "amount_micros": 10**12,
                }
                await accounts.CreateGrant(accounts_pb2.CreateGrantRequest(grant=grant))
        for number in range(BUDGETS):
            rule = catalog_pb2.BudgetRule(
                credit="credits",
                cap_micros=10**14,
                per=catalog_pb2.Period(unit=UNITS[number % len(UNITS)], count=1),
                scope="subject" if number % 2 else "metadata:team",
            )
            budget = accounts_pb2.Budget(account="large", id=f"b{number}", rule=rule)
            await accounts.PutBudget(accounts_pb2.PutBudgetRequest(budget=budget))


async def run(rounds: int, calls: int) -> tuple[Results, Results]:
    """Measure both accounts, in turns, under load and one call at a time; the first round warms up."""
    loaded: Results = {}
    alone: Results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with embedded_servers(folder / "data") as stores:
            await migrate(stores.dsn)
            process, address = await start(
                *("-m", "creditd", "serve", "--listen", "127.0.0.1:0"),
                CREDITD_POSTGRES_DSN=stores.dsn,
                CREDITD_REDIS_URL=stores.url,
            )
            try:
                await sell(address)
                sides = [consume_side(folder, address, account) for account in ("plain", "large")]
                for number in range(rounds + 1):
                    for side in sides:
                        much = await load(side, calls if number else calls // 4, folder / "log")
                        one = await load(side, calls // 10, folder / "log", connections=1, streams=1)
                        if number:
                            loaded.setdefault(side.name, []).append(much)
                            alone.setdefault(side.name, []).append(one)
            finally:
                process.terminate()
                await process.wait()
    return loaded, alone


def consume_side(folder: Path, address: str, account: str) -> Side:
    request = pb.ConsumeRequest(
        account=account,
        feature="chat",
        subject="ann",
        attributes={"model": "model-4000"},
        usage={"input_tokens": 1200, "output_tokens": 300},
        metadata={"team": "red"},
    )
    body = framed(folder, account, request.SerializeToString())
    return Side(account, address, "/creditd.v1.Entitlements/Consume", body)


def main() -> None:
    """Measure, and print the figures and their ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="a smoke test: one short round")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.calls = 1, 1_000
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is needed: it is in the package nghttp2-client")
    loaded, alone = asyncio.run(run(options.rounds, options.calls))
    for way, results in (("under load", loaded), ("one at a time", alone)):
        tell(way, results)
    if any(item.failed for results in (loaded, alone) for items in results.values() for item in items):
        raise SystemExit("some calls failed")


def tell(way: str, results: Results) -> None:
    """Print one way of measuring: each account, and the ratio."""
    for name, items in results.items():
        rates = [item.calls_per_second for item in items]
        p50 = statistics.median(item.p50_ms for item in items)
        print(
            f"{way:13s} {name:6s} {statistics.median(rates):8,.0f} calls/s [{min(rates):,.0f} to {max(rates):,.0f}]  "
            f"p50 {p50:.2f} ms  failed {sum(item.failed for item in items)}"
        )
    ratio = statistics.median(
        plain.calls_per_second / large.calls_per_second
        for plain, large in zip(results["plain"], results["large"], strict=True)
    )
    print(f"{way:13s} large / plain: {ratio:.2f} times the time for each call (goal: at most {GOAL})")


if __name__ == "__main__":
    main()
