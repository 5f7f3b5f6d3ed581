"""gRPC's own interoperability client, from the grpc-go module, against both hosts.

https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md tells what each case checks.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

CASES = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
]


@pytest.mark.parametrize("case", CASES)
async def test_case(server_port: int, interop_client: Path, case: str) -> None:
    await _run(interop_client, case, server_port, "--use_tls=false")


@pytest.mark.parametrize("case", ["large_unary", "ping_pong", "custom_metadata"])
async def test_case_with_tls(
    tls_server_port: int, interop_client: Path, certificates: Path, case: str
) -> None:
    tls = ("--use_tls=true", "--use_test_ca", f"--ca_file={certificates}/ca.pem")
    await _run(interop_client, case, tls_server_port, *tls, "--server_host_override=localhost")


async def _run(client: Path, case: str, port: int, *arguments: str) -> None:
    running = await asyncio.create_subprocess_exec(
        client,
        "--server_host=127.0.0.1",
        f"--server_port={port}",
        f"--test_case={case}",
        *arguments,
        stdout=PIPE,
        stderr=STDOUT,
    )
    output, _ = await running.communicate()
    assert running.returncode == 0, output.decode()
