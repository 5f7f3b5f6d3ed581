"""What this process last saw of the counters behind graduated prices: a guess, which the decision checks.

A price made for another place of its counter is turned away by the script with the counters as they are; so a wrong
guess costs a round, never a wrong price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from creditd.domain.decide import Draw
from creditd.domain.policy import Policy
from creditd.engine.prepare import Prepared, prepare
from creditd.engine.requests import Use

ACCOUNTS_MAX: Final = 10_000
"""Accounts whose counters are kept; the one first seen goes first."""

_NOTHING: Final[Mapping[str, int]] = {}


@dataclass(slots=True)
class TierCounts:
    """Counters of graduated prices by account and key."""

    _seen: dict[str, dict[str, int]] = field(default_factory=dict)

    def prepare(self, uses: Sequence[Use], policy: Policy, now: int) -> list[Prepared]:
        """Prepare the uses of one account, each priced as if those before it had been counted."""
        counted = self._seen.get(policy.account.id, _NOTHING)
        prepared: list[Prepared] = []
        for use in uses:
            item = prepare(use, policy, now, counted)
            prepared.append(item)
            if item.draw.tiers and len(uses) > 1:
                counted = {**counted, **_after(item.draw, counted)}
        return prepared

    def correct(self, account: str, draws: Sequence[Draw], used: tuple[int, ...]) -> None:
        """Learn where the counters of the draw are whose price was turned away."""
        for draw in draws:
            tiers = draw.tiers
            if len(tiers) == len(used) and any(
                not tier.low <= count <= tier.high for tier, count in zip(tiers, used, strict=True)
            ):
                self._learn(account, {tier.key: count for tier, count in zip(tiers, used, strict=True)})
                return

    def landed(self, account: str, draws: Sequence[Draw]) -> None:
        """Count what went ahead, so that the next price is made for the place after it."""
        for draw in draws:
            if draw.tiers:
                self._learn(account, _after(draw, self._seen.get(account, _NOTHING)))

    def _learn(self, account: str, counts: Mapping[str, int]) -> None:
        known = self._seen.get(account)
        if known is None:
            if len(self._seen) >= ACCOUNTS_MAX:
                self._seen.pop(next(iter(self._seen)))
            known = self._seen[account] = {}
        known.update(counts)


def _after(draw: Draw, counted: Mapping[str, int]) -> dict[str, int]:
    return {tier.key: counted.get(tier.key, 0) + tier.delta for tier in draw.tiers}
