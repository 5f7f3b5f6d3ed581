"""The one shape of a worker: a round, a pause, a round; an error is logged and the next round comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)


class Worker:
    """Runs `work` every `interval_s` seconds until it is closed."""

    def __init__(self, name: str, work: Callable[[], Awaitable[object]], *, interval_s: float) -> None:
        self._name = name
        self._work = work
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """Stop, between rounds or in one: every round may be broken off."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - the next round comes whatever it was
                # Said once per outage, not once per round.
                if not failed:
                    _log.warning("%s failed; it goes on trying", self._name, exc_info=error)
                failed = True
            else:
                failed = False
