"""The reaper: brings units into the ledger that a dead process, or a lost reply, left in an outbox."""

from __future__ import annotations

import logging
from collections.abc import Callable

from creditd.engine.decisions import unit_of
from creditd.engine.engine import Engine

_log = logging.getLogger(__name__)


class Reaper:
    """Looks at every bucket's outbox; takes up what has lain there for `age_ms`.

    A unit goes with the epoch that it was decided in: landing it again is harmless, and one of an older epoch is
    turned away and cleaned up.
    """

    def __init__(self, engine: Engine, *, age_ms: int, wall_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._age_ms = age_ms
        self._wall_ms = wall_ms

    async def sweep(self) -> int:
        """One look at all outboxes; returns how many units were handed to the committer."""
        hot, committer = self._engine.hot, self._engine.committer
        oldest = self._wall_ms() - self._age_ms
        taken = 0
        for bucket, depth in enumerate(await hot.outbox_depths()):
            if not depth:
                continue
            for left in await hot.outbox(bucket):
                if left.wall <= oldest and not committer.knows(left.unit_id):
                    committer.submit(unit_of(left))
                    taken += 1
        if taken:
            _log.info("units taken up from the outbox", extra={"units": taken})
        return taken
