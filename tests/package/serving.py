"""What every way of installing creditd must do: migrate, serve, tell its health, decide, drain at a stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc

from creditd.cli.demo_data import install_demo
from creditd.v1 import entitlements_pb2
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

_START_TIMEOUT_S = 60
_USE = {"feature": "chat", "attributes": {"model": "gpt-4o"}, "usage": {"input_tokens": 1000}}


async def run(
    command: Sequence[str], environment: Mapping[str, str], directory: Path | None = None
) -> tuple[int, str]:
    """Run a command to its end; its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@dataclass
class Server:
    """A server process that is up; left alone it is killed."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path | None = None
    ready: str = "serving gRPC on "
    address: str = ""
    log: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            cwd=self.directory,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while line := (await self.process.stdout.readline()).decode():
                    self.log.append(line)
                    if self.ready in line:
                        self.address = line.partition(self.ready)[2].split()[0]
                        self._reading = asyncio.create_task(self._read(self.process.stdout))
                        return self
        except BaseException:
            self.process.kill()
            raise
        raise AssertionError("creditd did not start:\n" + "".join(self.log))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.log.append(line.decode())

    async def stop(self, process: int | None = None) -> int:
        """SIGTERM, to another process where that is the server; the exit code."""
        if process is None:
            self.process.terminate()
        else:
            os.kill(process, signal.SIGTERM)
        code = await self.process.wait()
        await self._reading
        return code

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
            await self._reading


async def decides(address: str, *, demo: bool = False) -> None:
    """A real Check and Consume over gRPC, on the demo's catalog, which is put there unless the server did."""
    if not demo:
        await install_demo(address)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = EntitlementsStub(channel)
        checked = await stub.Check(entitlements_pb2.CheckRequest(account="demo", **_USE))
        request = entitlements_pb2.ConsumeRequest(account="demo", idempotency_key=f"once-{address}", **_USE)
        consumed = await stub.Consume(request)
    assert checked.allowed
    assert checked.cost_micros > 0
    assert consumed.charged_micros == checked.cost_micros
    assert consumed.balance.available_micros == checked.balance.available_micros - checked.cost_micros
