"""Catalog versions: numbered without gaps, never changed, told to every replica."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from creditd.domain.amounts import Rounding
from creditd.domain.catalog import Catalog, CreditType, Feature, FeatureType, MeterPrice, Plan, Rate
from creditd.domain.errors import FailedPrecondition
from creditd.ledger import Ledger
from creditd.ledger.catalogs import CATALOG_CHANNEL, CatalogVersion
from creditd.ledger.documents import decode_catalog, encode_catalog

PRO_1, PRO_2, FREE_1 = Plan("pro", version=1), Plan("pro", "Pro", version=2), Plan("free", version=1)
FIRST = Catalog(credits=(CreditType("ai"),), plans=(PRO_1,))
SECOND = Catalog(credits=(CreditType("ai", "AI credits"),), plans=(PRO_2, FREE_1))


async def test_versions_count_from_one(ledger: Ledger) -> None:
    assert await ledger.latest_plans() == {}
    assert await ledger.apply_catalog(FIRST, effective_at=10, created_at=1, plans=[PRO_1]) == 1
    second = await ledger.apply_catalog(
        SECOND, effective_at=5, created_at=2, note="cheaper", expected_version=1, plans=[PRO_2, FREE_1]
    )

    assert second == 2
    assert await ledger.catalog_timeline() == [(1, 10), (2, 5)]
    newer, older = CatalogVersion(SECOND, 2, 5, 2, "cheaper"), CatalogVersion(FIRST, 1, 10, 1, "")
    assert await ledger.get_catalog(2) == newer
    assert await ledger.get_catalog(3) is None
    assert await ledger.list_catalogs(limit=9) == [newer, older]
    assert await ledger.list_catalogs(limit=1) == [newer]
    assert await ledger.list_catalogs(limit=9, before=2) == [older]
    assert await ledger.latest_plans() == {"pro": PRO_2, "free": FREE_1}
    assert await ledger.get_plan("pro", 1) == PRO_1
    assert await ledger.get_plan("pro", 3) is None


@pytest.mark.parametrize("expected", [0, 2])
async def test_another_version_than_expected_applies_nothing(ledger: Ledger, expected: int) -> None:
    await ledger.apply_catalog(FIRST, effective_at=0, created_at=0, expected_version=0)

    with pytest.raises(FailedPrecondition) as caught:
        await ledger.apply_catalog(
            SECOND, effective_at=0, created_at=0, expected_version=expected, plans=[FREE_1]
        )
    assert caught.value.reason == "VERSION_MISMATCH"
    assert await ledger.catalog_timeline() == [(1, 0)]
    assert await ledger.latest_plans() == {}


async def test_a_plan_version_that_is_taken_applies_nothing(ledger: Ledger) -> None:
    await ledger.apply_catalog(FIRST, effective_at=0, created_at=0, plans=[PRO_1])

    with pytest.raises(FailedPrecondition) as caught:
        await ledger.apply_catalog(SECOND, effective_at=0, created_at=0, plans=[Plan("pro", "X", version=1)])
    assert caught.value.reason == "VERSION_MISMATCH"
    assert await ledger.catalog_timeline() == [(1, 0)]
    assert await ledger.get_plan("pro", 1) == PRO_1


async def test_of_those_who_expect_the_same_version_one_applies(ledger: Ledger, other: Ledger) -> None:
    calls = [
        store.apply_catalog(FIRST, effective_at=0, created_at=0, expected_version=0)
        for store in (ledger, other, ledger, other)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert sorted(isinstance(result, FailedPrecondition) for result in results) == [False, True, True, True]
    assert await ledger.catalog_timeline() == [(1, 0)]


async def test_replicas_are_told_the_new_version(ledger: Ledger, connection: asyncpg.Connection) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener(CATALOG_CHANNEL, lambda *message: told.put_nowait(message[-1]))
    await ledger.apply_catalog(FIRST, effective_at=0, created_at=0)

    assert await told.get() == "1"


def test_a_catalog_of_many_rates_is_read_back_equal() -> None:
    rates = tuple(
        Rate(
            prices=(
                MeterPrice("in", number),
                MeterPrice("out", 2 * number, per=1_000, rounding=Rounding.UNIT_UP),
            ),
            match={"model": f"m{number}"},
        )
        for number in range(15_000)
    )
    catalog = Catalog(features=(Feature("chat", FeatureType.CREDIT, rates=rates),))

    assert decode_catalog(encode_catalog(catalog)) == catalog
