"""No message, however odd, gets UNKNOWN or INTERNAL out of a served RPC: it is answered, or refused with a reason."""

from __future__ import annotations

import os
import random
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creditd.v1 import (
    accounts_pb2,
    catalog_pb2,
    diagnostics_pb2,
    entitlements_pb2,
    ledger_pb2,
    test_clocks_pb2,
)

EXAMPLES = 60 * (20 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1)

SERVED = [
    ("entitlements", "Check", entitlements_pb2.CheckRequest),
    ("entitlements", "Consume", entitlements_pb2.ConsumeRequest),
    ("entitlements", "BatchCheck", entitlements_pb2.BatchCheckRequest),
    ("entitlements", "BatchConsume", entitlements_pb2.BatchConsumeRequest),
    ("entitlements", "GetBalance", entitlements_pb2.GetBalanceRequest),
    ("catalogs", "ApplyCatalog", catalog_pb2.ApplyCatalogRequest),
    ("catalogs", "GetCatalog", catalog_pb2.GetCatalogRequest),
    ("catalogs", "ListCatalogVersions", catalog_pb2.ListCatalogVersionsRequest),
    ("accounts", "PutAccount", accounts_pb2.PutAccountRequest),
    ("accounts", "GetAccount", accounts_pb2.GetAccountRequest),
    ("accounts", "ListAccounts", accounts_pb2.ListAccountsRequest),
    ("accounts", "PutSubscription", accounts_pb2.PutSubscriptionRequest),
    ("accounts", "CreateGrant", accounts_pb2.CreateGrantRequest),
    ("accounts", "VoidGrant", accounts_pb2.VoidGrantRequest),
    ("accounts", "ListGrants", accounts_pb2.ListGrantsRequest),
    ("ledger", "ListEntries", ledger_pb2.ListEntriesRequest),
    ("ledger", "VerifyAccount", ledger_pb2.VerifyAccountRequest),
    ("clocks", "CreateTestClock", test_clocks_pb2.CreateTestClockRequest),
    ("clocks", "AdvanceTestClock", test_clocks_pb2.AdvanceTestClockRequest),
    ("clocks", "DeleteTestClock", test_clocks_pb2.DeleteTestClockRequest),
    ("diagnostics", "GetServerStats", diagnostics_pb2.GetServerStatsRequest),
]

TEXTS = (
    "",
    "acme",
    "acme",
    "chat",
    "credits",
    "pro",
    "calls",
    "s",
    "tokens",
    "\x00",
    "a\nb",
    "é" * 128,
    "x" * 300,
)
NUMBERS = (0, 0, 1, 2, 3, -1, 9 * 10**15, 9 * 10**15 + 1, 2**53, 2**63 - 1, -(2**63))


def fill(message: Any, source: random.Random, depth: int = 0) -> Any:
    """Sets random fields of a message to likely and to hostile values."""
    for field in message.DESCRIPTOR.fields:
        if source.random() < (0.35 if depth == 0 else 0.55):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _key, value = field.message_type.fields
            for _ in range(source.randrange(3)):
                name = source.choice(TEXTS)
                if value.message_type is not None:
                    fill(getattr(message, field.name)[name], source, depth + 1)
                else:
                    getattr(message, field.name)[name] = scalar(value, source)
        elif field.is_repeated:
            for _ in range(source.choice((0, 1, 1, 2, 3))):
                if field.message_type is not None:
                    if depth < 5:
                        fill(getattr(message, field.name).add(), source, depth + 1)
                else:
                    getattr(message, field.name).append(scalar(field, source))
        elif field.message_type is not None:
            if depth < 5:
                child = getattr(message, field.name)
                child.SetInParent()
                fill(child, source, depth + 1)
        else:
            setattr(message, field.name, scalar(field, source))
    return message


def scalar(field: FieldDescriptor, source: random.Random) -> Any:
    kinds = FieldDescriptor
    if field.type == kinds.TYPE_STRING:
        return source.choice(TEXTS)
    if field.type == kinds.TYPE_BOOL:
        return source.random() < 0.5
    if field.type in (kinds.TYPE_DOUBLE, kinds.TYPE_FLOAT):
        return source.choice((0.0, 1.5, -1.0, float("inf"), float("nan"), 1e300))
    if field.type == kinds.TYPE_ENUM:
        return source.choice((0, 1, 2, 3, 4, 99))
    number = source.choice(NUMBERS)
    if field.type == kinds.TYPE_INT32:
        return max(-(2**31), min(number, 2**31 - 1))
    if field.type in (kinds.TYPE_UINT64, kinds.TYPE_UINT32):
        return max(0, number)
    return number


@pytest.mark.parametrize(("service", "method", "kind"), SERVED, ids=[row[1] for row in SERVED])
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
@given(source=st.randoms(use_true_random=False))
async def test_no_message_gets_unknown_or_internal(demo, service, method, kind, source):
    request = fill(kind(), source)
    try:
        await getattr(getattr(demo, service), method)(request)
    except grpc.aio.AioRpcError as error:
        told = f"{error.code()}: {error.details()} for {request}"
        assert error.code() not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}, told
