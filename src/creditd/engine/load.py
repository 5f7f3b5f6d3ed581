"""Loading: an account's ledger becomes its hot state, under a new epoch.

Raising the epoch waits for the appends that are in flight and turns away every later one of an older epoch, so what
is read after it is the whole past. Changes of the control plane are such a load with something appended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

from creditd.domain.accounts import Account, Epoch
from creditd.domain.errors import Unavailable
from creditd.domain.fold import fold_all
from creditd.domain.roll import due
from creditd.domain.state import AccountState, Segment, open_segment
from creditd.engine.books import write
from creditd.engine.catalogs import Catalogs
from creditd.engine.ids import NewId
from creditd.engine.policies import Policies
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger
from creditd.ledger.transaction import AccountTransaction

_log = logging.getLogger(__name__)

UNTOLD_MAX: Final = 100_000
"""Accounts of which is remembered that the hot store may have an old state: beyond, the oldest is found by others."""


class LoadCause(StrEnum):
    """Why an account was loaded; CHANGED is everything that is no consequence of a decision."""

    COLD = "cold"
    ROLLED = "rolled"
    FENCED = "fenced"
    CHANGED = "changed"


class Loader:
    """Loads accounts; of one account once at a time, however many callers wait for it. `loads` counts them."""

    def __init__(
        self, ledger: Ledger, hot: HotStore, policies: Policies, catalogs: Catalogs, new_id: NewId
    ) -> None:
        self._ledger = ledger
        self._hot = hot
        self._policies = policies
        self._catalogs = catalogs
        self._new_id = new_id
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._untold: dict[str, Epoch] = {}
        self.loads: Counter[LoadCause] = Counter()

    async def load(self, account_id: str, cause: LoadCause = LoadCause.CHANGED) -> None:
        """Put the account's present state into the hot store; a caller that goes away stops nothing.

        Raises:
            HotUnavailable: the hot store did not take it; what is asked next must be asked of the ledger.
        """
        task = self._loading.get(account_id)
        if task is None:
            task = asyncio.create_task(self._load(account_id, cause), name=f"load {account_id}")
            self._loading[account_id] = task
            task.add_done_callback(lambda done: self._loaded(account_id, done))
        await asyncio.shield(task)

    def _loaded(self, account_id: str, task: asyncio.Task[None]) -> None:
        self._loading.pop(account_id, None)
        if not task.cancelled():
            task.exception()  # those who wait have it; with nobody left it is not an unhandled error

    async def _load(self, account_id: str, cause: LoadCause) -> None:
        async with self.change(account_id, cause):
            pass
        if account_id in self._untold:
            raise HotUnavailable("the hot store does not take the account's state", sent=False)

    async def close(self) -> None:
        """Wait for the loads under way."""
        if self._loading:
            await asyncio.gather(*self._loading.values(), return_exceptions=True)

    @asynccontextmanager
    async def change(
        self, account_id: str, cause: LoadCause = LoadCause.CHANGED
    ) -> AsyncIterator[tuple[AccountTransaction, int]]:
        """A transaction on the account, raised to a new epoch and rolled to now; yields it and now (ms).

        After the commit the new state is put into the hot store. When that is away, nothing is lost: what it holds is
        of an older epoch, and the ledger turns decisions on it away; it is dropped as soon as the store can be told.
        """
        epoch: Epoch | None = None
        try:
            async with self._ledger.change(account_id) as tx:
                epoch = tx.epoch
                if tx.catalog_version > self._catalogs.revision:
                    # What was announced is forgotten with the hot store: what is put there now must not be behind.
                    await self._catalogs.refresh()
                now = max(await self._policies.now(tx.account), tx.state.at)
                await write(tx, due(tx.state, now, self._new_id))
                revision = tx.account.revision
                yield tx, now
                if tx.account.revision != revision:
                    await tx.keep_version(now)
            self.loads[cause] += 1
            segment = await self.segment(tx, now)
            self._policies.remember(tx.account)
            await self._tell(account_id, tx.epoch, segment)
        except (asyncio.CancelledError, Unavailable):
            # The caller has gone, or the answer to the commit: it may be in the ledger, and nobody will tell.
            if epoch is not None:
                self._leave_untold(account_id, epoch)
            raise

    async def _tell(self, account_id: str, epoch: Epoch, segment: Segment) -> None:
        try:
            await self._hot.put(account_id, epoch, segment, self._catalogs.revision)
            self._untold.pop(account_id, None)
        except HotUnavailable as error:
            _log.debug("state not put", extra={"account": account_id, "error": str(error)})
            self._leave_untold(account_id, epoch)

    def _leave_untold(self, account_id: str, epoch: Epoch) -> None:
        if len(self._untold) >= UNTOLD_MAX:
            self._untold.pop(next(iter(self._untold)))
        self._untold[account_id] = epoch

    async def outdate(self) -> int:
        """Drop the hot states that could not be replaced by newer ones, as far as the store can be told; how many."""
        dropped = 0
        for account_id, epoch in list(self._untold.items()):
            try:
                await self._hot.outdate(account_id, epoch)
            except HotUnavailable:
                break
            dropped += 1
            if self._untold.get(account_id) == epoch:
                del self._untold[account_id]
        return dropped

    async def segment(self, tx: AccountTransaction, now: int) -> Segment:
        """The segment that begins at `now` in the transaction's state."""
        return await self._open(tx.state, tx.account, now)

    async def hot_segment(self, account_id: str) -> Segment | None:
        """The account's segment as the hot store has it; None when it has none or is away. Loads nothing."""
        try:
            state = await self._hot.read(account_id)
        except HotUnavailable:
            return None
        return None if state is None else state.segment

    async def peek(self, account: Account, now: int) -> tuple[AccountState, Segment]:
        """The account at `now` as the ledger has it, with what is due but not written; changes nothing."""
        state = await self._ledger.read(account.id)
        state = fold_all(state, due(state, now, self._new_id))
        return state, await self._open(state, account, now)

    async def _open(self, state: AccountState, account: Account, now: int) -> Segment:
        index, _until = await self._catalogs.in_force(now)
        return open_segment(state, now=now, policy_version=account.policy_version, orders=index.orders)
