"""How many accounts a change of the catalog touches: what product people ask before they apply it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from creditd.domain.catalog import Catalog, Plan
from creditd.domain.catalog_diff import Change
from creditd.engine.catalogs import Catalogs
from creditd.ledger.store import Ledger


@dataclass(slots=True)
class CatalogReach:
    """Counts, each asked of the ledger once.

    A plan touches those who subscribe to any version of it; an add-on those who have it; a feature those whose plans
    include it, and everybody where its default does; a credit those whom its features touch. Bundles, promotions and
    alerts touch nobody until they are used.
    """

    ledger: Ledger
    catalogs: Catalogs
    _in_use: list[Plan] | None = None
    _counts: dict[frozenset[tuple[str, int]], int] = field(default_factory=dict)

    async def of(self, changes: Iterable[Change], old: Catalog | None, new: Catalog) -> tuple[Change, ...]:
        """The changes with their numbers of accounts."""
        return tuple([replace(change, accounts=await self._touched(change, old, new)) for change in changes])

    async def _touched(self, change: Change, old: Catalog | None, new: Catalog) -> int:
        if change.kind == "plan":
            return await self._subscribers(plan for plan in await self._plans() if plan.key == change.key)
        if change.kind == "add_on":
            return await self.ledger.add_on_users(change.key)
        if change.kind == "feature":
            return await self._users({change.key}, old, new)
        if change.kind == "credit":
            features = [*(old.features if old else ()), *new.features]
            return await self._users({item.key for item in features if item.credit == change.key}, old, new)
        return 0

    async def _users(self, features: set[str], old: Catalog | None, new: Catalog) -> int:
        known = [*(old.features if old else ()), *new.features]
        if any(item.key in features and item.default_value not in (None, False) for item in known):
            return await self.ledger.count_accounts()
        return await self._subscribers(
            plan
            for plan in await self._plans()
            if any(item.feature in features for item in plan.entitlements)
        )

    async def _plans(self) -> list[Plan]:
        if self._in_use is None:
            found = [await self.catalogs.plan(*pair) for pair in await self.ledger.plans_in_use()]
            self._in_use = [plan for plan in found if plan is not None]
        return self._in_use

    async def _subscribers(self, plans: Iterable[Plan]) -> int:
        pairs = frozenset((plan.key, plan.version) for plan in plans)
        if not pairs:
            return 0
        if pairs not in self._counts:
            self._counts[pairs] = await self.ledger.count_subscribers(sorted(pairs))
        return self._counts[pairs]
