"""What a caller of creditd meets: a check, a burn and its retry, a denial, and an error taken apart.

Run it against `creditd dev --demo`: `python examples/tour.py`.
"""

from __future__ import annotations

import os
import uuid

import grpc
from creditd_client import error_details
from creditd_client.v1.entitlements_pb2 import (
    CheckRequest,
    CheckResponse,
    ConsumeRequest,
    ConsumeResponse,
    Reason,
)
from creditd_client.v1.entitlements_pb2_grpc import EntitlementsStub

TIMEOUT_S = 10
MODEL = {"model": "gpt-4o"}
USAGE = {"input_tokens": 1000, "output_tokens": 500}


def check(client: EntitlementsStub) -> CheckResponse:
    """Ask; nothing is burned."""
    request = CheckRequest(account="demo", feature="chat", attributes=MODEL, usage=USAGE)
    return client.Check(request, timeout=TIMEOUT_S)


def consume(client: EntitlementsStub, key: str) -> ConsumeResponse:
    """Burn, once for each key however often it is called."""
    request = ConsumeRequest(
        account="demo", feature="chat", attributes=MODEL, usage=USAGE, idempotency_key=key
    )
    return client.Consume(request, timeout=TIMEOUT_S)


def consume_too_much(client: EntitlementsStub) -> ConsumeResponse:
    """Ask for 9e15 micro-credits, about the largest amount there is. The denial is an answer, no error."""
    usage = {"output_tokens": 8_999_999_999_999}
    request = ConsumeRequest(account="demo", feature="chat", attributes=MODEL, usage=usage)
    return client.Consume(request, timeout=TIMEOUT_S)


def check_malformed(client: EntitlementsStub) -> CheckResponse:
    """Make two faults: no account, and both ways to say how much."""
    return client.Check(CheckRequest(feature="chat", quantity=1, usage=USAGE), timeout=TIMEOUT_S)


def main() -> None:
    """Run all of it and print what comes back."""
    with grpc.insecure_channel(os.environ.get("CREDITD_ADDRESS", "127.0.0.1:50051")) as channel:
        client = EntitlementsStub(channel)
        answer = check(client)
        available = answer.balance.available_micros
        print(f"check: {Reason.Name(answer.reason)}, costs {answer.cost_micros} of {available} micro-credits")

        # The key belongs to one operation of yours, such as one request of a user, and stays the same when you retry.
        key = f"tour-{uuid.uuid4()}"
        for attempt in (1, 2):
            burn = consume(client, key)
            print(f"consume {attempt}: burned {burn.charged_micros}, replayed={burn.replayed}")

        denial = consume_too_much(client)
        print(f"denied: {denial.allowed=}, {Reason.Name(denial.reason)}, {denial.shortfall_micros} missing")

        try:
            check_malformed(client)
        except grpc.RpcError as error:
            details = error_details(error)
            print(f"error: {details.code.name}, {details.reason} of {details.domain}")
            for violation in details.violations:
                print(f"  {violation.field}: {violation.description}")


if __name__ == "__main__":
    main()
