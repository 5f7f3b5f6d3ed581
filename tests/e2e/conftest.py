"""creditd as its users run it: a process of its own, on stores of its own, that tests may kill."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from creditd.embedded import EmbeddedPostgres, EmbeddedValkey
from creditd.embedded.process import tag_of
from creditd.ledger.migrate import migrate

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """The process's environment, with the sources that are under test on its path."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), **more}


async def run_creditd(*arguments: str) -> tuple[int, str]:
    """Run a command to its end; its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "creditd",
        *arguments,
        cwd=ROOT,
        env=environment(COLUMNS="200"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


class Dev:
    """A `creditd dev` that is ready."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process, output: str) -> None:
        self.data_dir, self.process, self.output = data_dir, process, output
        found = re.search(r"serves gRPC on (\S+)", output)
        assert found is not None, output
        self.address = found[1]

    async def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.process.wait()

    def processes(self) -> list[str]:
        """Command lines of what runs on the data directory, whoever its parent is."""
        words = [str(self.data_dir)]
        words += [tag_of(home) for home in (self.data_dir / "postgres" / "cluster", self.data_dir / "valkey")]
        lines = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(word in line for word in words) and "pytest" not in line:
                lines.append(line)
        return lines


@asynccontextmanager
async def dev(data_dir: Path, *arguments: str) -> AsyncIterator[Dev]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "creditd", "dev", "--demo", "--listen", "127.0.0.1:0"),
        *("--data-dir", str(data_dir), *arguments),
        env=environment(COLUMNS="300"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Dev(data_dir, process, await until_ready(process))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_ready(process: asyncio.subprocess.Process) -> str:
    """Everything up to the last of the three suggestions."""
    assert process.stdout is not None
    output = ""
    async with asyncio.timeout(60):
        while "Entitlements/GetBalance" not in output:
            line = (await process.stdout.readline()).decode()
            assert line, f"it ended:\n{output}"
            output += line
    return output


@dataclass
class Deployment:
    """A PostgreSQL, a Valkey with snapshots, and a `creditd serve` process."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    transport: str = "asgi"
    address: str = ""
    process: asyncio.subprocess.Process | None = None
    log: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """Start the server; the address stays the same when it is started again."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "creditd",
            "serve",
            "--listen",
            self.address or "127.0.0.1:0",
            "--transport",
            self.transport,
            env=environment(
                CREDITD_POSTGRES_DSN=self.postgres.dsn,
                CREDITD_REDIS_URL=self.valkey.url,
                CREDITD_REAPER_AGE_S="1",
                COLUMNS="200",
            ),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.log.append(line)
            if line.startswith("serving gRPC on "):
                self.address = line.split()[-1]
                self._pump = asyncio.create_task(self._read(self.process.stderr))
                return
        raise AssertionError("creditd did not start:\n" + "".join(self.log))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.log.append(line.decode())

    async def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing cleaned up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self._pump

    async def stop(self) -> int:
        """SIGTERM: drains; returns the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        code = await self.process.wait()
        await self._pump
        return code

    def channel(self) -> grpc.aio.Channel:
        """A channel to the server that reconnects quickly."""
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        return grpc.aio.insecure_channel(self.address, options=options)


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with (
        EmbeddedPostgres(tmp_path / "pg", fsync=False) as postgres,
        EmbeddedValkey(tmp_path / "valkey", rdb=True) as valkey,
    ):
        await migrate(postgres.dsn)
        made = Deployment(postgres, valkey)
        await made.start()
        yield made
        if made.process is not None and made.process.returncode is None:
            await made.stop()
