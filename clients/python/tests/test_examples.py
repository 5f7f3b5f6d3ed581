"""The examples against the server at CREDITD_ADDRESS."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grpc
import pytest
from creditd_client import ErrorDetails, error_details
from creditd_client.v1.entitlements_pb2 import (
    REASON_COVERED,
    REASON_INSUFFICIENT_CREDITS,
    CheckRequest,
    CheckResponse,
)
from creditd_client.v1.entitlements_pb2_grpc import EntitlementsStub

EXAMPLES = Path(__file__).parent.parent / "examples"
ADDRESS = os.environ.get("CREDITD_ADDRESS", "")
COST_MICROS = 750_000  # 1,000 input tokens at 0.25 and 500 output tokens at 1 credit per 1,000

pytestmark = pytest.mark.skipif(
    not ADDRESS, reason="CREDITD_ADDRESS names no server (`creditd dev --demo` is one)"
)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tour = example("tour")


@pytest.fixture
def client() -> Iterator[EntitlementsStub]:
    with grpc.insecure_channel(ADDRESS) as channel:
        yield EntitlementsStub(channel)


def available(client: EntitlementsStub) -> int:
    return int(tour.check(client).balance.available_micros)


def test_a_check_tells_the_cost_and_a_balance_beyond_32_bits(client: EntitlementsStub) -> None:
    answer = tour.check(client)
    assert (answer.allowed, answer.reason, answer.cost_micros) == (True, REASON_COVERED, COST_MICROS)
    assert answer.balance.available_micros > 2**32


def test_a_consume_burns_once_for_a_key(client: EntitlementsStub) -> None:
    before = available(client)
    key = f"test-{uuid.uuid4()}"
    first = tour.consume(client, key)
    assert (first.allowed, first.replayed, first.charged_micros) == (True, False, COST_MICROS)
    assert first.balance.available_micros == before - COST_MICROS
    second = tour.consume(client, key)
    assert (second.replayed, second.entry_id, second.charged_micros) == (True, first.entry_id, COST_MICROS)
    assert available(client) == before - COST_MICROS


def test_a_denial_is_an_answer_with_the_exact_shortfall(client: EntitlementsStub) -> None:
    before = available(client)
    denial = tour.consume_too_much(client)
    assert (denial.allowed, denial.reason, denial.entry_id) == (False, REASON_INSUFFICIENT_CREDITS, "")
    assert denial.shortfall_micros == 8_999_999_999_999_000 - before


def test_a_malformed_request_tells_every_violation(client: EntitlementsStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        tour.check_malformed(client)
    details = error_details(caught.value)
    assert (details.code, details.reason, details.domain) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "creditd",
    )
    assert sorted(violation.field for violation in details.violations) == ["account", "usage"]
    assert all(violation.description for violation in details.violations)


def test_an_unknown_feature_is_named_in_the_metadata(client: EntitlementsStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.Check(CheckRequest(account="demo", feature="no-such"), timeout=10)
    details = error_details(caught.value)
    assert (details.code, details.reason) == (grpc.StatusCode.NOT_FOUND, "FEATURE_NOT_FOUND")
    assert details.metadata["key"] == "no-such"


def test_asyncio_gets_answers_and_errors_side_by_side() -> None:
    answers = asyncio.run(example("tour_asyncio").check_models(ADDRESS, "gpt-4o", "gpt-4o-mini", "no-such"))
    large, small, error = answers
    assert isinstance(large, CheckResponse)
    assert isinstance(small, CheckResponse)
    assert (large.cost_micros, small.cost_micros) == (1_000_000, 60_000)
    assert isinstance(error, ErrorDetails)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_RATE")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first_check", "True REASON_COVERED 750000\n"),
        ("tour", "consume 2: burned 750000, replayed=True\n"),
        ("tour_asyncio", "NO_RATE"),
    ],
)
def test_the_example_runs_as_a_program(name: str, expected: str) -> None:
    program = (sys.executable, str(EXAMPLES / f"{name}.py"))
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
