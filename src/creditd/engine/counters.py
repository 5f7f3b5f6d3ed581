"""Reading counters: what a window has counted, without touching it."""

from __future__ import annotations

from collections.abc import Mapping

from creditd.domain.decide import Charge
from creditd.domain.policy import LimitRule
from creditd.domain.state import Counter
from creditd.engine.requests import LimitStatus


def used_now(counters: Mapping[str, Counter], charge: Charge, now: int) -> tuple[int, int]:
    """What the counter of a charge has counted at `now`, and the end of that window in ms (0 = it never ends).

    A window that opens with its first use and is not open yet has no end.
    """
    counter = counters.get(charge.key)
    if charge.opens:
        return (counter.used, counter.end) if counter is not None and counter.end > now else (0, 0)
    used = counter.used if counter is not None and counter.start == charge.start else 0
    for key, start in charge.also:
        part = counters.get(key)
        used += part.used if part is not None and part.start == start else 0
    return used, charge.end


def limit_status(rule: LimitRule, counters: Mapping[str, Counter], now: int) -> LimitStatus:
    """Where a limit stands at `now`."""
    used, ends = used_now(counters, rule.charge(now), now)
    return LimitStatus(rule.cap, used, ends)
