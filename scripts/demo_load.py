"""A bounded load on a server with the demo's catalog, so that `creditd top` has something to show.

A dozen accounts, of which few are busy; some calls are denied, for several reasons. It waits between calls: about
RATE calls a second in all, in waves, whatever the server could do.

Run: python scripts/demo_load.py [--address 127.0.0.1:50051] [--seconds 60] [--rate 250]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random

import grpc

from creditd.v1 import accounts_pb2, grants_pb2
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

PLANS = {
    "acme": "pro",
    "globex": "pro",
    "initech": "pro",
    "umbrella": "free",
    "hooli": "pro",
    "wonka": "free",
    "stark": "pro",
    "tyrell": "free",
    "soylent": "",
    "wayne": "pro",
    "cyberdyne": "free",
    "aperture": "",
}
RICH = ("acme", "globex", "initech", "hooli", "stark")
WAVE_S = 23.0
CALLERS = 24


async def prepare(accounts: AccountsStub) -> None:
    """Make the accounts; what is there stays as it is."""
    for account, plan in PLANS.items():
        await accounts.PutAccount(accounts_pb2.PutAccountRequest(account=accounts_pb2.Account(id=account)))
        if plan:
            subscription = accounts_pb2.Subscription(id=f"{account}-{plan}", plan=plan)
            await accounts.PutSubscription(
                accounts_pb2.PutSubscriptionRequest(account=account, subscription=subscription)
            )
    for account in RICH:
        grant = grants_pb2.Grant(
            id=f"{account}-top-up", account=account, credit="credits", amount_micros=10**12
        )
        await accounts.CreateGrant(accounts_pb2.CreateGrantRequest(grant=grant))


async def call(entitlements: EntitlementsStub, source: random.Random) -> None:
    """One call of some account: mostly for chats, half of them a Check."""
    names = list(PLANS)
    account = source.choices(names, [1 / (place + 1) ** 1.2 for place in range(len(names))])[0]
    feature = source.choices(["chat", "image", "api_calls"], [80, 5, 15])[0]
    use: dict[str, object] = {"account": account, "feature": feature}
    if feature == "chat":
        use["attributes"] = {"model": source.choice(["gpt-4o", "gpt-4o-mini"])}
        use["usage"] = {
            "input_tokens": int(source.lognormvariate(7, 1)),
            "output_tokens": int(source.lognormvariate(6, 1)),
        }
    if source.random() < 0.5:
        await entitlements.Check(pb.CheckRequest(**use))  # type: ignore[arg-type]
    else:
        await entitlements.Consume(pb.ConsumeRequest(**use))  # type: ignore[arg-type]


async def main(address: str, seconds: float, rate: float) -> None:
    """Run the load for some seconds."""
    source = random.Random(4)  # noqa: S311
    loop = asyncio.get_running_loop()
    async with grpc.aio.insecure_channel(address) as channel:
        await prepare(AccountsStub(channel))
        entitlements = EntitlementsStub(channel)
        began = loop.time()

        async def caller() -> None:
            while (past := loop.time() - began) < seconds:
                wave = 1 + 0.45 * math.sin(2 * math.pi * past / WAVE_S) * math.cos(past / 5)
                await asyncio.sleep(source.expovariate(rate * wave / CALLERS))
                await call(entitlements, source)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=250)
    options = parser.parse_args()
    asyncio.run(main(options.address, options.seconds, options.rate))
