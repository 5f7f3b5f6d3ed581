"""Counters of what the engine decides: pure additions on one event loop, no locks, nothing that waits."""

from __future__ import annotations

from collections.abc import Callable

from creditd.engine.hottest import Hottest
from creditd.engine.requests import Ruling


class DecisionMeter:
    """Decisions of one RPC since the start, by reason; `replays` of them were first answers given again."""

    __slots__ = ("_burns", "_hottest", "reasons", "replays")

    def __init__(self, hottest: Hottest, *, burns: bool) -> None:
        self._hottest = hottest
        self._burns = burns
        self.reasons: dict[str, int] = {}
        self.replays = 0

    def decided(self, account: str, ruling: Ruling) -> None:
        """Count an answer."""
        reasons, reason = self.reasons, ruling.reason
        reasons[reason] = reasons.get(reason, 0) + 1
        tally = self._hottest.note(account)
        if not ruling.allowed:
            tally.denials += 1
        elif ruling.replayed:
            self.replays += 1
        elif self._burns:
            tally.burned += ruling.charged


class DecisionMeters:
    """The decisions of all RPCs that decide, one for each item of a batch, and the accounts with most of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.hottest = Hottest(clock)
        self.check = DecisionMeter(self.hottest, burns=False)
        self.consume = DecisionMeter(self.hottest, burns=True)
        self.batch_check = DecisionMeter(self.hottest, burns=False)
        self.batch_consume = DecisionMeter(self.hottest, burns=True)
        self.reserve = DecisionMeter(self.hottest, burns=False)
        self.commit = DecisionMeter(self.hottest, burns=True)
