"""Counters of what the engine decides: pure additions on one event loop, no locks, nothing that waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from creditd.engine.hottest import Hottest
from creditd.engine.requests import Ruling


class Asked(StrEnum):
    """What was asked for; one item of a batch is one decision."""

    CHECK = "Check"
    CONSUME = "Consume"
    BATCH_CHECK = "BatchCheck"
    BATCH_CONSUME = "BatchConsume"


_BURNS: Final = frozenset({Asked.CONSUME, Asked.BATCH_CONSUME})


class DecisionMeters:
    """Decisions since the start, by what was asked and by reason, and the accounts with most of them."""

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self.reasons: dict[Asked, Counter[str]] = {asked: Counter() for asked in Asked}
        self.replays: Counter[Asked] = Counter()
        self.hottest = Hottest(wall_ms)

    def decided(self, asked: Asked, account: str, ruling: Ruling) -> None:
        """Count an answer."""
        self.reasons[asked][ruling.reason] += 1
        burned = ruling.charged if asked in _BURNS else 0
        if ruling.replayed:
            self.replays[asked] += 1
            burned = 0
        self.hottest.note(account, denied=not ruling.allowed, burned=burned)
