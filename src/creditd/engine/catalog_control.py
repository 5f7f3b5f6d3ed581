"""Applying and reading catalogs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from creditd.domain.catalog import Catalog
from creditd.domain.catalog_check import check_catalog, unsupported
from creditd.domain.catalog_diff import diff_catalogs, next_plan_versions
from creditd.domain.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from creditd.engine.catalog_reach import CatalogReach
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import AppliedCatalog, CatalogVersion
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore
from creditd.ledger.catalogs import CatalogVersion as Stored
from creditd.ledger.store import Ledger

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class CatalogControl:
    """Use cases on the catalog."""

    ledger: Ledger
    hot: HotStore
    catalogs: Catalogs
    wall_ms: Callable[[], int]

    async def apply(
        self,
        catalog: Catalog,
        *,
        dry_run: bool,
        effective_at: int | None,
        expected_version: int | None,
        note: str,
    ) -> AppliedCatalog:
        """Make a catalog the next version, if anything in it differs from the newest one.

        Once this returns, every decision that is priced from `effective_at` on knows it, on every replica.

        Raises:
            InvalidArgument: the catalog is wrong, or takes effect in the past.
            FailedPrecondition: VERSION_MISMATCH.
        """
        now = self.wall_ms()
        violations = [*check_catalog(catalog), *unsupported(catalog)]
        if effective_at is not None and effective_at < now - 1000:
            violations.append(Violation("effective_at", "is in the past: what was priced stays priced"))
        if violations:
            raise InvalidArgument(
                violations=[
                    item if item.field == "effective_at" else Violation(f"catalog.{item.field}", item.problem)
                    for item in violations
                ]
            )
        await self.catalogs.refresh()
        newest = await self.ledger.get_catalog(self.catalogs.revision) if self.catalogs.revision else None
        version = 0 if newest is None else newest.version
        if expected_version is not None and expected_version != version:
            raise FailedPrecondition(
                f"catalog version {version} is the newest, not {expected_version}; see what changed, then apply again",
                reason="VERSION_MISMATCH",
                metadata={"version": str(version), "expectedVersion": str(expected_version)},
            )
        latest = await self.ledger.latest_plans()
        versioned = next_plan_versions(Catalog(plans=tuple(latest.values())), catalog)
        present = None if newest is None else newest.catalog
        reach = CatalogReach(self.ledger, self.catalogs)
        changes = await reach.of(diff_catalogs(present, versioned), present, versioned)
        if dry_run or not changes:
            return AppliedCatalog(version, changes)
        applied = await self.ledger.apply_catalog(
            versioned,
            effective_at=now if effective_at is None else effective_at,
            created_at=now,
            note=note,
            expected_version=version,
            plans=[plan for plan in versioned.plans if latest.get(plan.key) != plan],
        )
        await self.catalogs.refresh()
        await self.announce(applied)
        return AppliedCatalog(applied, changes)

    async def announce(self, revision: int) -> None:
        """Tell the hot store: replicas that do not know this revision are turned away until they do."""
        try:
            await self.hot.raise_revision(revision)
        except HotUnavailable as error:
            # States that are loaded after it is back carry the revision with them.
            _log.info("catalog not announced", extra={"revision": revision, "error": str(error)})

    async def get(self, version: int) -> CatalogVersion:
        """A version, or with 0 the one in force now."""
        if version == 0:
            await self.catalogs.refresh()
            version = self.catalogs.version_at(self.wall_ms())[0]
            if version == 0:
                return CatalogVersion(Catalog(), 0, 0)
        stored = await self.ledger.get_catalog(version)
        if stored is None:
            raise NotFound("catalog version", str(version))
        return _version(stored)

    async def listed(self, *, limit: int, before: int | None) -> list[CatalogVersion]:
        """Versions, newest first."""
        return [_version(stored) for stored in await self.ledger.list_catalogs(limit=limit, before=before)]


def _version(stored: Stored) -> CatalogVersion:
    return CatalogVersion(stored.catalog, stored.version, stored.effective_at, stored.note)
