"""Everything that an account gets, resolved: what a pricing page or a settings page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from creditd.domain.accounts import Account
from creditd.domain.catalog import Entitlement, FeatureType, Limit
from creditd.domain.policy import FeaturePolicy, Policy
from creditd.domain.state import Counter
from creditd.engine.control_types import Entitled, EntitlementsView
from creditd.engine.counters import limit_status
from creditd.engine.history import History
from creditd.engine.load import Loader
from creditd.engine.policies import Policies


@dataclass(slots=True)
class EntitlementsReader:
    """Reads policies, and the counters beside them from the hot state when it is there."""

    policies: Policies
    loader: Loader
    history: History

    async def get(self, account_id: str) -> EntitlementsView:
        """What the account gets of each feature, by key; several where limits with different windows apply."""
        account = await self.policies.account(account_id)
        now = await self.policies.now(account)
        policy = await self.policies.resolve(account, now)
        return _view(policy, await self._counters(account, now), now)

    async def get_at(self, account_id: str, at: int) -> EntitlementsView:
        """What the account got at an instant of the past, and what its counters had counted then."""
        account = await self.history.account(account_id, at)
        policy = await self.history.policy(account, at)
        return _view(policy, (await self.history.state(account_id, at)).counters, at)

    async def _counters(self, account: Account, now: int) -> Mapping[str, Counter]:
        segment = await self.loader.hot_segment(account.id)
        if segment is not None:
            return segment.counters
        return (await self.loader.peek(account, now))[0].counters


def _view(policy: Policy, counters: Mapping[str, Counter], now: int) -> EntitlementsView:
    found: list[Entitled] = []
    for key in sorted(policy.index.features):
        feature = policy.feature(key)
        if feature is not None:
            found += _entitled(feature, counters, now)
    return EntitlementsView(tuple(found), policy.index.version)


def _entitled(policy: FeaturePolicy, counters: Mapping[str, Counter], now: int) -> list[Entitled]:
    feature, rates = policy.feature, policy.rates.feature.rates
    if policy.denied:
        return [Entitled(feature, Entitlement(feature.key, enabled=False), policy.source, None, rates)]
    if policy.limits:
        return [
            Entitled(
                feature,
                Entitlement(feature.key, limit=rule.limit),
                rule.source,
                limit_status(rule, counters, now),
                rates,
            )
            for rule in policy.limits
        ]
    if feature.type is FeatureType.CONFIG:
        item = Entitlement(feature.key, value=policy.value)
    elif feature.type is FeatureType.LIMIT:
        item = Entitlement(feature.key, limit=Limit(unlimited=True))
    else:
        item = Entitlement(feature.key, enabled=True)
    return [Entitled(feature, item, policy.source, None, rates)]
