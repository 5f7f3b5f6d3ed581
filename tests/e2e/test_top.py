"""`creditd top` in a terminal, against a server that comes and goes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from tests.e2e.conftest import ROOT, Deployment, environment, run_creditd

from creditd.v1 import accounts_pb2, accounts_pb2_grpc
from creditd.v1 import entitlements_pb2 as ent
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

LEFT_SCREEN = b"\x1b[?1049l"


def _terminal() -> ModuleType:
    spec = importlib.util.spec_from_file_location("terminal", ROOT / "scripts" / "terminal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def top(address: str, *arguments: str, columns: int = 80, lines: int = 24) -> Any:
    return _terminal().Terminal(
        [sys.executable, "-m", "creditd", "top", "--address", address, "--interval", "0.2", *arguments],
        columns=columns,
        lines=lines,
        environment=environment(),
        folder=ROOT,
    )


async def ask(deployment: Deployment, times: int) -> None:
    """Checks of an account that exists and of a feature that does not: each is an error, and takes time."""
    async with deployment.channel() as channel:
        await accounts_pb2_grpc.AccountsStub(channel).PutAccount(
            accounts_pb2.PutAccountRequest(account=accounts_pb2.Account(id="acme"))
        )
        for _ in range(times):
            with pytest.raises(grpc.aio.AioRpcError):
                await EntitlementsStub(channel).Check(ent.CheckRequest(account="acme", feature="chat"))


async def test_the_screen_lives_through_resizes_and_a_restart_and_leaves_the_terminal_as_it_was(
    deployment: Deployment,
) -> None:
    with top(deployment.address) as terminal:
        before = terminal.attributes
        await asyncio.to_thread(terminal.wait_for, lambda text: "queued 0 · 0 units/s" in text)
        during = terminal.attributes
        asking = asyncio.create_task(ask(deployment, 500))
        text = await asyncio.to_thread(
            terminal.wait_for, lambda text: re.search(r"Entitlements/Check +[1-9][\d.,]* +[1-9]", text)
        )
        await asking
        terminal.resize(110, 40)
        await asyncio.to_thread(
            terminal.wait_for, lambda text: max(map(len, text.splitlines())) == 110 and "p99" in text
        )
        await deployment.kill()
        lost = await asyncio.to_thread(terminal.wait_for, lambda text: "reconnecting" in text)
        await deployment.start()
        back = await asyncio.to_thread(
            terminal.wait_for, lambda text: "reconnecting" not in text and "units/s" in text
        )
        terminal.type("q")
        code = await asyncio.to_thread(terminal.finish)
        after = terminal.attributes
        written = terminal.written

    assert f"creditd top  {deployment.address}" in text
    assert "no answer (UNAVAILABLE)" in lost
    assert "Entitlements/Check" not in back, "the new process was never asked"
    assert re.search(r"-\d", f"{text}{lost}{back}") is None, "a negative rate"
    assert code == 0
    assert written.count(b"\x1b[?1049h") == written.count(LEFT_SCREEN) == 1
    assert written.rstrip().endswith(LEFT_SCREEN)
    assert during != before
    assert after == before


async def test_ctrl_c_ends_it_cleanly_too(deployment: Deployment) -> None:
    with top(deployment.address) as terminal:
        before = terminal.attributes
        await asyncio.to_thread(terminal.wait_for, lambda text: "hottest accounts" in text)
        terminal.interrupt()
        code = await asyncio.to_thread(terminal.finish)

        assert code == 0
        assert terminal.attributes == before
        assert LEFT_SCREEN in terminal.written
        assert b"Traceback" not in terminal.written


async def test_a_pipe_gets_one_interval_and_json_one_object_each(deployment: Deployment) -> None:
    await ask(deployment, 1)
    common = ("--interval", "0.2", "--address", deployment.address)
    code, printed = await run_creditd("top", *common)
    json_code, line = await run_creditd("top", "--once", "--json", *common)
    stream = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "creditd", "top", "--json", *common),
        cwd=ROOT,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    assert stream.stdout is not None
    objects = [json.loads(await stream.stdout.readline()) for _ in range(3)]
    stream.terminate()
    stream_code = await stream.wait()
    found = json.loads(line)

    assert (code, json_code, stream_code) == (0, 0, 0)
    assert "hot store answers, ledger answers" in printed
    assert re.search(r"Entitlements/Check +0 +0 +- +-", printed)
    assert "\x1b" not in printed
    assert found["interval"]["decisions_per_s"] == 0
    assert [rpc["name"] for rpc in found["interval"]["rpcs"]] == [
        "Accounts/PutAccount",
        "Entitlements/Check",
    ]
    assert (found["outbox_depth"], found["hottest"]) == (0, [])
    assert len({item["now"] for item in objects}) == 3
    assert {item["instance_id"] for item in objects} == {found["instance_id"]}


async def test_a_server_that_is_not_there_or_too_old_is_told(tmp_path: Path) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    old_code, old = await run_creditd("top", "--once", "--address", f"127.0.0.1:{port}")
    await server.stop(0)
    code, nothing = await run_creditd("top", "--once", "--address", f"127.0.0.1:{port}")

    assert (old_code, code) == (3, 4)
    assert "is too old: it does not serve Diagnostics" in old
    assert "UNAVAILABLE" in nothing
