"""`creditd dev` as people run it. The commands of the docs are run against it in tests/docs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys

import pytest
from tests.e2e.conftest import dev, environment, run_creditd

USE = ("--usage", "input_tokens=1000,output_tokens=500", "--attributes", "model=gpt-4o")


async def available(address: str) -> int:
    code, output = await run_creditd("balance", "demo", "--json", "--address", address)
    assert code == 0, output
    return int(json.loads(output)["balances"][0]["available_micros"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_everything_and_comes_back_with_its_data(tmp_path, number):
    async with dev(tmp_path / "data") as first:
        before = await available(first.address)
        code, output = await run_creditd("consume", "demo", "chat", *USE, "--address", first.address)
        assert code == 0, output
        assert len(first.processes()) > 2
        assert await first.stop(number) == 0
        assert first.processes() == []
    async with dev(tmp_path / "data") as second:
        assert await available(second.address) == before - 750_000
        assert await second.stop(number) == 0
        assert second.processes() == []


async def test_it_comes_back_after_kill_9(tmp_path):
    async with dev(tmp_path / "data") as first:
        before = await available(first.address)
        await run_creditd("consume", "demo", "chat", *USE, "--address", first.address)
        first.process.kill()
        await first.process.wait()
    async with dev(tmp_path / "data") as second:
        assert await available(second.address) == before - 750_000
        assert await second.stop(signal.SIGTERM) == 0
        assert second.processes() == []


async def test_a_second_one_on_the_same_data_is_refused_by_name(tmp_path):
    async with dev(tmp_path / "data") as first:
        code, output = await run_creditd(
            "dev", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0"
        )
        assert code == 4
        assert str(first.process.pid) in output
        assert await available(first.address) > 0


async def test_a_port_that_is_taken_is_told_and_nothing_is_left_running(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        code, output = await run_creditd("dev", "--data-dir", str(tmp_path / "data"), "--listen", listen)
    assert code == 4, output
    assert "address already in use" in output.lower()
    assert "Traceback" not in output


async def test_a_trace_replayed_again_burns_nothing_however_the_mapping_is_spelled(tmp_path):
    maps = ("input_tokens=ContextTokens,output_tokens=GeneratedTokens", "output_tokens=GeneratedTokens")
    command = ("replay", "examples/trace.csv", "--account", "demo", "--feature", "chat", "--json")
    command += ("--attributes", "model=gpt-4o", "--limit", "20")
    async with dev(tmp_path / "data") as server:
        runs = []
        for spelled in ((maps[0],), (maps[1], maps[0].split(",")[0])):
            options = [word for one in spelled for word in ("--map", one)]
            code, output = await run_creditd(*command, *options, "--address", server.address)
            assert code == 0, output
            runs.append(json.loads(output))
        code, output = await run_creditd(*command, "--map", maps[1], "--address", server.address)
    assert (runs[0]["allowed"], runs[0]["replayed"]) == (20, 0)
    assert (runs[1]["replayed"], runs[1]["burned_micros"]) == (20, 0)
    # Another mapping is another request under the same keys: refused, not burned.
    assert code == 4
    assert "was used for a different request" in output


async def test_a_signal_while_it_starts_leaves_nothing_and_no_traceback(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "creditd", "dev", "--demo", "--listen", "127.0.0.1:0"),
        *("--data-dir", str(tmp_path / "data")),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    first = await process.stdout.readline()  # the server is up; the demo is being put in place
    process.terminate()
    output = (first + await process.stdout.read()).decode()
    assert await process.wait() == 0, output
    assert "Traceback" not in output


async def test_serving_an_unmigrated_database_tells_what_to_do(postgres_server, valkey_server):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "creditd", "serve", "--listen", "127.0.0.1:0"),
        env=environment(
            CREDITD_POSTGRES_DSN=postgres_server.dsn_of("template1"), CREDITD_REDIS_URL=valkey_server.url
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 3
    assert "creditd migrate" in output.decode()
    assert "Traceback" not in output.decode()


async def test_only_loopback_is_served_without_keys(tmp_path):
    code, output = await run_creditd("dev", "--data-dir", str(tmp_path), "--listen", "0.0.0.0:0")
    assert code == 2
    assert "loopback" in output
