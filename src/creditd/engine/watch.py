"""Watching balances: the newest after each change, whichever replica made it.

One poller for all watches of the process asks the hot store where the watched accounts are; many changes between two
looks are one. That bounds the rate, costs nothing where nobody watches, and needs no message from those who change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from creditd.domain.errors import CreditdError, Overloaded
from creditd.engine.control_types import BalanceView
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore

POLL_S: Final = 0.05
"""Between two looks: at most 20 changes a second are told."""

WATCHES_MAX: Final = 1_000
"""Watches of one process; one more is refused."""

QUIET_S: Final = 1.0
"""After so long without a change the balances are read anyway: something may take effect by time alone."""

Read = Callable[[str, str], Awaitable[BalanceView]]


@dataclass(slots=True)
class _Watched:
    """An account that somebody watches: how many do, and what is set when it has changed."""

    watchers: int = 0
    mark: bytes | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class BalanceWatches:
    """The watches of a process; `close` ends them all."""

    def __init__(self, hot: HotStore, read: Read) -> None:
        self._hot = hot
        self._read = read
        self._watched: dict[str, _Watched] = {}
        self._watches = 0
        self._closing = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    async def watch(self, account: str, credit: str) -> AsyncGenerator[BalanceView, None]:
        """The balances now, and again after each change, the newest only; ends when the server drains.

        Raises:
            NotFound: the account or credit does not exist.
            Overloaded: as many watches as a process may have are open.
        """
        if self._watches >= WATCHES_MAX:
            raise Overloaded(f"{WATCHES_MAX} balances are watched here already", retry_after_ms=1_000)
        self._watches += 1
        watched = self._watched.setdefault(account, _Watched())
        watched.watchers += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="balance-watches")
        try:
            told: BalanceView | None = None
            while not self._closing.is_set():
                watched.changed.clear()
                try:
                    view = await self._read(account, credit)
                except CreditdError:
                    if told is None:
                        raise
                    await asyncio.sleep(
                        QUIET_S
                    )  # the stores are away for a while: the watch goes on after it
                    continue
                if view != told:
                    told = view
                    yield view
                await self._until(watched)
        finally:
            self._watches -= 1
            watched.watchers -= 1
            if not watched.watchers:
                self._watched.pop(account, None)

    async def close(self) -> None:
        """End all watches, and wait for nobody."""
        self._closing.set()
        for watched in self._watched.values():
            watched.changed.set()
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller

    async def _until(self, watched: _Watched) -> None:
        """Wait for a change; not sooner than a look after the last one, and not for ever."""
        await asyncio.sleep(POLL_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await watched.changed.wait()

    async def _poll(self) -> None:
        while self._watched:
            accounts = list(self._watched)
            try:
                marks = await self._hot.marks(accounts)
            except HotUnavailable:
                marks = []  # those who watch read the ledger every now and then
            for account, mark in zip(accounts, marks, strict=False):
                watched = self._watched.get(account)
                if watched is not None and watched.mark != mark:
                    watched.mark = mark
                    watched.changed.set()
            await asyncio.sleep(POLL_S)
