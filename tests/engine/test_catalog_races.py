"""A replica that is behind with the catalog, and learns of a new version at the worst moment."""

from __future__ import annotations

from dataclasses import replace

from tests.engine.conftest import CATALOG, CREDIT

from creditd.domain.catalog import Entitlement, Feature, FeatureType, MeterPrice, Rate
from creditd.engine.requests import Use

CHAT = Use("acme", "chat", quantity=1)
DEARER = replace(
    CATALOG,
    features=tuple(
        replace(feature, rates=(Rate((MeterPrice("tokens", 5 * CREDIT),)),))
        if feature.key == "chat"
        else feature
        for feature in CATALOG.features
    ),
)


async def apply(engine, catalog) -> None:
    await engine.apply_catalog(catalog, dry_run=False, effective_at=None, expected_version=None, note="")


async def test_a_new_price_holds_on_every_replica_though_the_hot_store_has_forgotten_what_was_announced(
    world, engine
):
    await world.account()
    other = await world.replica()
    assert (await other.consume(CHAT)).charged == CREDIT
    await apply(engine, DEARER)
    await (await engine.hot._connected()).call("FLUSHDB")
    assert (await other.consume(CHAT)).charged == 5 * CREDIT


async def test_a_policy_that_was_made_while_the_catalog_was_read_anew_is_made_again(
    world, engine, monkeypatch
):
    await world.account()
    other = await world.replica()
    await apply(engine, DEARER)
    plan = other.catalogs.plan

    async def reads_meanwhile(key, version):
        found = await plan(key, version)
        await other.catalogs.refresh()
        return found

    monkeypatch.setattr(other.catalogs, "plan", reads_meanwhile)
    assert (await other.consume(CHAT)).charged == 5 * CREDIT


async def test_a_feature_is_refused_only_by_the_catalog_that_it_was_looked_for_in(world, engine, monkeypatch):
    await world.account()
    other = await world.replica()
    await other.check(CHAT)
    wider = replace(
        CATALOG,
        features=(*CATALOG.features, Feature("new", FeatureType.BOOLEAN)),
        plans=tuple(
            replace(plan, entitlements=(*plan.entitlements, Entitlement("new", enabled=True)))
            for plan in CATALOG.plans
        ),
    )
    await apply(engine, wider)
    find = other.decisions.lookup.find

    async def reads_meanwhile(account, keys):
        await other.catalogs.refresh()
        return await find(account, keys)

    monkeypatch.setattr(other.decisions.lookup, "find", reads_meanwhile)
    ruling = await other.consume(Use("acme", "new", idempotency_key="k1"))
    assert ruling.reason != "UNKNOWN"
