"""Which counters a use of a feature touches: worked out once, and kept while it stays the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from creditd.domain.draws import Charges
from creditd.domain.periods import MS_MAX, Span
from creditd.domain.policy import BudgetPolicy, FeaturePolicy

PLANS_MAX: Final = 64
"""Plans that a feature's policy keeps, one for each subject and metadata that its budgets tell apart; beyond, the
oldest goes. An account with more subjects than that works a plan out at each use."""


@dataclass(frozen=True, slots=True)
class ChargePlan:
    """The counters of a use at any instant in `same`: those of limits, then those of budgets.

    `cap` is the tightest bound on what a single draw burns, -1 without one; `cap_by` the counter that names its budget.
    """

    charges: Charges
    cap: int
    cap_by: str
    same: Span


def charge_plan(policy: FeaturePolicy, subject: str, metadata: Mapping[str, str], now: int) -> ChargePlan:
    """The counters that a use at `now` (ms) with this subject and metadata touches."""
    told_apart = tuple([subject if name is None else metadata.get(name, "") for name in policy.names])
    plan = policy.plans.get(told_apart)
    if plan is None or not plan.same.start <= now < plan.same.end:
        plan = _plan(policy, subject, metadata, now)
        if len(policy.plans) >= PLANS_MAX:
            policy.plans.pop(next(iter(policy.plans)))
        policy.plans[told_apart] = plan
    return plan


def _plan(policy: FeaturePolicy, subject: str, metadata: Mapping[str, str], now: int) -> ChargePlan:
    matching = [
        (budget, value)
        for budget in policy.budgets
        if (value := budget.value_of(subject, metadata)) is not None
    ]
    charges = [rule.charge(now) for rule in policy.limits]
    charges += [charge for budget, value in matching if (charge := budget.charge(value, now)) is not None]
    cap, cap_by = _per_draw(matching)
    rules = [rule.window for rule in policy.limits] + [budget.window for budget, _value in matching]
    spans = [rule.same(now) for rule in rules]
    start = max((span.start for span in spans), default=-MS_MAX)
    end = min((span.end for span in spans), default=MS_MAX)
    return ChargePlan(Charges(charges), cap, cap_by, Span(start, end))


def _per_draw(matching: list[tuple[BudgetPolicy, str]]) -> tuple[int, str]:
    """The tightest bound on a single draw, -1 without one, and the counter that names its budget."""
    bounds = [
        (budget.rule.max_per_draw_micros, budget.counter(value))
        for budget, value in matching
        if budget.rule.max_per_draw_micros and not budget.rule.soft
    ]
    return min(bounds, default=(-1, ""))
