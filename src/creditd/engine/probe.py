"""A question to a store whose answer may be a little old, and which is never asked twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from creditd.domain.errors import Unavailable

Answer = TypeVar("Answer")

FRESH_S: Final = 1.0
PATIENCE_S: Final = 1.0


class Probe(Generic[Answer]):
    """Asks `question` when the last answer is older than a second; however many want to know, once at a time."""

    def __init__(self, question: Callable[[], Awaitable[Answer]], clock: Callable[[], float]) -> None:
        self._question = question
        self._clock = clock
        self._asking: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._answered_at: float | None = None

    async def latest(self) -> Answer | None:
        """The answer; None when the store is away, or does not answer within a second.

        A question that is still open is not broken off: the next caller gets to hear of it.
        """
        if self._answered_at is None or self._clock() - self._answered_at >= FRESH_S:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask(), name="probe")
            asking = self._asking
            done, _ = await asyncio.wait({asking}, timeout=PATIENCE_S)
            if not done:
                return None
            asking.result()
        return self._answer

    async def close(self) -> None:
        """Break off what is being asked."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            self._answer = await self._question()
        except Unavailable:
            self._answer = None
        finally:
            self._asking = None
        self._answered_at = self._clock()
