"""What is changed through one server counts at once on another, also where no decision tells it so."""

from __future__ import annotations

from tests.scenarios.steps import catalog_of
from tests.scenarios.test_scenarios import serving

from creditd.v1 import accounts_pb2 as pb
from creditd.v1 import catalog_pb2


def catalog(amount: int) -> catalog_pb2.ApplyCatalogRequest:
    document = {
        "credits": [{"key": "credits"}],
        "features": [{"key": "sso", "type": "boolean"}],
        "plans": [{"key": "pro", "allowances": [{"credit": "credits", "amount": amount}]}],
    }
    return catalog_pb2.ApplyCatalogRequest(catalog=catalog_of(document))


async def test_a_plan_applied_on_one_server_is_subscribed_to_on_another(dsn, valkey):
    async with serving(dsn, valkey) as (one, _), serving(dsn, valkey) as (other, _ledger):
        await one.catalogs.ApplyCatalog(catalog(5))
        await other.accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id="acme")))
        await one.catalogs.ApplyCatalog(catalog(7))
        request = pb.PutSubscriptionRequest(account="acme", subscription=pb.Subscription(id="s", plan="pro"))
        answer = await other.accounts.PutSubscription(request)

    assert [grant.amount_micros for grant in answer.granted] == [7_000_000]


async def test_entitlements_on_one_server_show_what_another_has_overridden(dsn, valkey):
    async def enabled(api) -> bool:
        answer = await api.accounts.GetEntitlements(pb.GetEntitlementsRequest(account="acme"))
        return answer.entitlements[0].entitlement.enabled

    async with serving(dsn, valkey) as (one, _), serving(dsn, valkey) as (other, _ledger):
        await one.catalogs.ApplyCatalog(catalog(5))
        await one.accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id="acme")))
        before = await enabled(other)
        override = pb.Override(
            account="acme", entitlement=catalog_pb2.Entitlement(feature="sso", enabled=True)
        )
        await one.accounts.PutOverride(pb.PutOverrideRequest(override=override))
        after = await enabled(other)

    assert (before, after) == (False, True)
