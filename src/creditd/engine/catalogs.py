"""The catalog versions that a replica knows, and which is in force at an instant."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from creditd.domain.catalog import Catalog, Plan
from creditd.domain.errors import NotFound
from creditd.domain.periods import MS_MAX
from creditd.domain.policy import CatalogIndex
from creditd.ledger.store import Ledger

INDEXES_KEPT: Final = 8
"""Prepared catalogs in memory: the one in force, the next, and a few that test clocks still live under."""


class Catalogs:
    """Every version's (version, effective_at), and prepared indexes of those in use.

    `revision` is the newest version known. It goes with every decision, so that the hot store can turn away a
    replica that has not heard of a newer one.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._timeline: tuple[tuple[int, int], ...] = ()
        self._indexes: OrderedDict[int, CatalogIndex] = OrderedDict()
        self._plans: dict[tuple[str, int], Plan] = {}
        self._lock = asyncio.Lock()

    @property
    def revision(self) -> int:
        """The newest version known; 0 before the first catalog."""
        return max((version for version, _ in self._timeline), default=0)

    async def refresh(self) -> bool:
        """Read the versions anew; True when there are new ones."""
        before = self.revision
        self._timeline = tuple(await self._ledger.catalog_timeline())
        return self.revision > before

    def version_at(self, now: int) -> tuple[int, int]:
        """The version in force at `now` (0 = none yet) and the instant at which the next one takes over (ms).

        Of the versions effective by `now`, the one that became effective last; of equals the newest.
        """
        effective = [(at, version) for version, at in self._timeline if at <= now]
        following = [at for _version, at in self._timeline if at > now]
        return max(effective, default=(0, 0))[1], min(following, default=MS_MAX)

    async def in_force(self, now: int) -> tuple[CatalogIndex, int]:
        """The prepared catalog in force at `now`, and until when (ms)."""
        version, until = self.version_at(now)
        return await self.index(version), until

    async def index(self, version: int) -> CatalogIndex:
        """A version, prepared; NotFound when there is none."""
        index = self._indexes.get(version)
        if index is None:
            async with self._lock:
                index = self._indexes.get(version) or await self._prepare(version)
                self._indexes[version] = index
                if len(self._indexes) > INDEXES_KEPT:
                    self._indexes.popitem(last=False)
        self._indexes.move_to_end(version)
        return index

    async def _prepare(self, version: int) -> CatalogIndex:
        if version == 0:
            return CatalogIndex(Catalog(), 0)
        stored = await self._ledger.get_catalog(version)
        if stored is None:
            raise NotFound("catalog version", str(version))
        return CatalogIndex(stored.catalog, version)

    async def plan(self, key: str, version: int) -> Plan | None:
        """A version of a plan. They never change, so they are read once."""
        plan = self._plans.get((key, version))
        if plan is None:
            plan = await self._ledger.get_plan(key, version)
            if plan is not None:
                self._plans[(key, version)] = plan
        return plan
