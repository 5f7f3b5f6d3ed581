"""Questions to the ledger that many operations have at once, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from creditd.domain.entries import Entry

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Lookup(Generic[Question, Answer]):
    """Gathers the questions of one tick, and those that come while an answer is on its way, into one query.

    What the query does not answer is answered by None.
    """

    def __init__(
        self, find_many: Callable[[Sequence[Question]], Awaitable[Mapping[Question, Answer]]]
    ) -> None:
        self._find_many = find_many
        self._asked: dict[Question, asyncio.Future[Answer | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find_all(self, questions: Sequence[Question]) -> list[Answer | None]:
        """The answer to each question."""
        futures = [self._ask(question) for question in questions]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="lookup")
        return [await asyncio.shield(future) for future in futures]

    def _ask(self, question: Question) -> asyncio.Future[Answer | None]:
        future = self._asked.get(question)
        if future is None:
            future = self._asked[question] = asyncio.get_running_loop().create_future()
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
                for question, future in asked.items():
                    future.set_result(found.get(question))


class KeyLookup(Lookup[tuple[str, str], Entry]):
    """Which idempotency keys does the ledger know? Asked for every denial that has a key."""

    async def find(self, account: str, keys: Sequence[str]) -> list[Entry | None]:
        """The entry under each key, or None."""
        return await self.find_all([(account, key) for key in keys])
