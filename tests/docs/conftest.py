"""A fresh `creditd dev --demo` and a shell for each page."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.docs.pages import Step
from tests.docs.shell import Shell, creditd
from tests.e2e.conftest import Dev, dev
from tests.interop.conftest import go_program

MakeShell = Callable[[list[Step]], Awaitable[Shell]]


@asynccontextmanager
async def stopped(data_dir: Path) -> AsyncIterator[Dev]:
    """A `creditd dev --demo` that is asked to stop at the end, and must do so without complaint."""
    async with dev(data_dir) as running:
        yield running
        assert await running.stop(signal.SIGTERM) == 0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Dev]:
    async with stopped(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def make_shell(tmp_path: Path, dsn: str, valkey: str) -> AsyncIterator[MakeShell]:
    """Makes the shell of a page with these commands, and starts its server."""
    async with AsyncExitStack() as stack:

        async def make(steps: list[Step]) -> Shell:
            programs = {"creditd": creditd()}
            if any("grpcurl" in step.command for step in steps):
                programs["grpcurl"] = go_program("github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.3")
            running = await stack.enter_async_context(stopped(tmp_path / "data"))
            stores = {"CREDITD_POSTGRES_DSN": dsn, "CREDITD_REDIS_URL": valkey}
            return Shell(tmp_path / "page", running.address, programs, stores)

        yield make
