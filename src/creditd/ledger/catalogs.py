"""Versions of the catalog and of its plans. A version, once applied, never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from creditd.domain.catalog import Catalog, Plan
from creditd.domain.errors import FailedPrecondition
from creditd.ledger.connection import Connection, Connections
from creditd.ledger.documents import decode_catalog, decode_plan, encode_catalog, encode_plan
from creditd.ledger.queries import load

_SQL: Final = load("catalogs")

_LOCK: Final = 0x63726564_63617461
"""Key of the advisory lock of those who apply a catalog: "credcata"."""

CATALOG_CHANNEL: Final = "creditd_catalog"
"""NOTIFY channel that carries the number of each new version."""


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """An applied catalog; instants in ms."""

    catalog: Catalog
    version: int
    effective_at: int
    created_at: int
    note: str


async def apply(
    connections: Connections,
    catalog: Catalog,
    *,
    effective_at: int,
    created_at: int,
    note: str,
    expected_version: int | None,
    plans: Sequence[Plan],
) -> int:
    """See `Ledger.apply_catalog`."""
    document = encode_catalog(catalog)
    async with connections.transaction() as connection:
        await connection.execute(_SQL["lock"], _LOCK)
        latest: int = await connection.fetchval(_SQL["latest_version"])
        if expected_version is not None and expected_version != latest:
            raise _mismatch(f"the catalog is at version {latest}, not {expected_version}", latest)
        version = latest + 1
        await connection.execute(_SQL["insert"], version, effective_at, created_at, note, document)
        if plans and await _insert_plans(connection, plans) != len(plans):
            raise _mismatch("another catalog with new plan versions was applied meanwhile", latest)
        await connection.execute(_SQL["notify"], str(version))
    return version


async def _insert_plans(connection: Connection, plans: Sequence[Plan]) -> int:
    inserted = await connection.fetch(
        _SQL["insert_plans"],
        [plan.key for plan in plans],
        [plan.version for plan in plans],
        [encode_plan(plan) for plan in plans],
    )
    return len(inserted)


def _mismatch(problem: str, latest: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"{problem}; read it again and apply your change to that",
        reason="VERSION_MISMATCH",
        metadata={"version": str(latest)},
    )


async def timeline(connections: Connections) -> list[tuple[int, int]]:
    """See `Ledger.catalog_timeline`."""
    async with connections.session() as connection:
        rows = await connection.fetch(_SQL["timeline"])
    return [(row["version"], row["effective_at"]) for row in rows]


async def get(connections: Connections, version: int) -> CatalogVersion | None:
    """See `Ledger.get_catalog`."""
    async with connections.session() as connection:
        row = await connection.fetchrow(_SQL["get"], version)
    return None if row is None else _version(row)


async def listed(connections: Connections, *, before: int | None, limit: int) -> list[CatalogVersion]:
    """See `Ledger.list_catalogs`."""
    async with connections.session() as connection:
        rows = await connection.fetch(_SQL["listed"], before, limit)
    return [_version(row) for row in rows]


async def get_plan(connections: Connections, key: str, version: int) -> Plan | None:
    """See `Ledger.get_plan`."""
    async with connections.session() as connection:
        text = await connection.fetchval(_SQL["get_plan"], key, version)
    return None if text is None else decode_plan(text)


async def latest_plans(connections: Connections) -> dict[str, Plan]:
    """See `Ledger.latest_plans`."""
    async with connections.session() as connection:
        rows = await connection.fetch(_SQL["latest_plans"])
    return {row["key"]: decode_plan(row["document"]) for row in rows}


async def plans_in_use(connections: Connections) -> list[tuple[str, int]]:
    """See `Ledger.plans_in_use`."""
    async with connections.session() as connection:
        rows = await connection.fetch(_SQL["plans_in_use"])
    return [(row["plan"], row["plan_version"]) for row in rows]


async def count_subscribers(connections: Connections, plans: Sequence[tuple[str, int]]) -> int:
    """See `Ledger.count_subscribers`."""
    keys, versions = [key for key, _version in plans], [version for _key, version in plans]
    async with connections.session() as connection:
        count: int = await connection.fetchval(_SQL["subscribers"], keys, versions)
    return count


async def add_on_users(connections: Connections, add_on: str) -> int:
    """See `Ledger.add_on_users`."""
    async with connections.session() as connection:
        count: int = await connection.fetchval(_SQL["add_on_users"], add_on)
    return count


async def count_accounts(connections: Connections) -> int:
    """See `Ledger.count_accounts`."""
    async with connections.session() as connection:
        count: int = await connection.fetchval(_SQL["all_accounts"])
    return count


def _version(row: asyncpg.Record) -> CatalogVersion:
    return CatalogVersion(
        catalog=decode_catalog(row["document"]),
        version=row["version"],
        effective_at=row["effective_at"],
        created_at=row["created_at"],
        note=row["note"],
    )
