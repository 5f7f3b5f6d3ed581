"""Which idempotency keys does the ledger know? Asked for every denial that has a key, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from creditd.domain.entries import Entry

FindMany = Callable[[Sequence[tuple[str, str]]], Awaitable[dict[tuple[str, str], Entry]]]


class KeyLookup:
    """Gathers the questions of one tick, and those that come while an answer is on its way, into one query."""

    def __init__(self, find_many: FindMany) -> None:
        self._find_many = find_many
        self._asked: dict[tuple[str, str], asyncio.Future[Entry | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, account: str, keys: Sequence[str]) -> list[Entry | None]:
        """The entry under each key, or None."""
        futures = [self._ask((account, key)) for key in keys]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="key-lookup")
        return [await asyncio.shield(future) for future in futures]

    def _ask(self, pair: tuple[str, str]) -> asyncio.Future[Entry | None]:
        future = self._asked.get(pair)
        if future is None:
            future = self._asked[pair] = asyncio.get_running_loop().create_future()
        return future

    async def _run(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self._find_many(list(asked))
            except Exception as error:  # noqa: BLE001 - each one who asked raises it
                for future in asked.values():
                    future.set_exception(error)
                    future.exception()  # the one who asked may be gone
            else:
                for pair, future in asked.items():
                    future.set_result(found.get(pair))
