"""The same client on asyncio: an account's checks side by side, and an error taken apart.

Run it against `creditd dev --demo`: `python examples/tour_asyncio.py`.
"""

from __future__ import annotations

import asyncio
import os

import grpc
from creditd_client import ErrorDetails, error_details
from creditd_client.v1.entitlements_pb2 import CheckRequest, CheckResponse, Reason
from creditd_client.v1.entitlements_pb2_grpc import EntitlementsStub

TIMEOUT_S = 10


async def check_models(address: str, *models: str) -> list[CheckResponse | ErrorDetails]:
    """Ask for each model at once; an answer, or what its error tells."""
    async with grpc.aio.insecure_channel(address) as channel:
        client = EntitlementsStub(channel)

        async def check(model: str) -> CheckResponse | ErrorDetails:
            request = CheckRequest(account="demo", feature="chat", attributes={"model": model}, quantity=1000)
            try:
                return await client.Check(request, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                return error_details(error)

        return await asyncio.gather(*map(check, models))


async def main() -> None:
    """Run it and print what comes back."""
    address = os.environ.get("CREDITD_ADDRESS", "127.0.0.1:50051")
    for answer in await check_models(address, "gpt-4o", "gpt-4o-mini", "no-such-model"):
        if isinstance(answer, ErrorDetails):
            print(f"error: {answer.code.name}, {answer.reason}: {answer.message}")
        else:
            print(f"check: {Reason.Name(answer.reason)}, costs {answer.cost_micros} micro-credits")


if __name__ == "__main__":
    asyncio.run(main())
