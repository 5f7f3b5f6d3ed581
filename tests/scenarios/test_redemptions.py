"""A promotion's maximum is kept exactly, however many redeem it at once and on however many servers."""

from __future__ import annotations

import asyncio

import grpc
from tests.scenarios.steps import catalog_of
from tests.scenarios.test_scenarios import serving

from creditd.cli.refusals import refusal_of
from creditd.v1 import accounts_pb2 as pb
from creditd.v1 import catalog_pb2, entitlements_pb2

CALLERS = 64
MAXIMUM = 20


def promotions(**promotion: object) -> catalog_pb2.Catalog:
    return catalog_of(
        {
            "credits": [{"key": "credits"}],
            "promotions": [
                {
                    "key": "spring",
                    "credit": "credits",
                    "amount": 5,
                    "max_redemptions": MAXIMUM,
                    **promotion,
                }
            ],
        }
    )


async def redeem(api, account: str) -> str:
    """The grant's id, or the reason of the refusal."""
    request = pb.RedeemPromotionRequest(account=account, promotion="spring", idempotency_key="once")
    try:
        return (await api.accounts.RedeemPromotion(request)).id
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason


async def available(api, account: str) -> int:
    answer = await api.entitlements.GetBalance(entitlements_pb2.GetBalanceRequest(account=account))
    return answer.balances[0].available_micros


async def test_a_promotion_is_redeemed_exactly_as_often_as_it_may_be_by_many_callers_on_two_servers(
    dsn, valkey
):
    accounts = [f"account-{number}" for number in range(CALLERS)]
    async with serving(dsn, valkey) as (one, _ledger), serving(dsn, valkey) as (other, _):
        await one.catalogs.ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=promotions()))
        for account in accounts:
            await one.accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id=account)))
        first = await asyncio.gather(
            *(redeem(api, account) for account, api in zip(accounts, [one, other] * CALLERS, strict=False))
        )
        # The same again, each on the other server: retries neither redeem nor lose anything.
        again = await asyncio.gather(
            *(redeem(api, account) for account, api in zip(accounts, [other, one] * CALLERS, strict=False))
        )
        balances = await asyncio.gather(*(available(one, account) for account in accounts))

    assert again == first
    assert first.count("PROMOTION_USED_UP") == CALLERS - MAXIMUM
    assert sorted(balances) == [0] * (CALLERS - MAXIMUM) + [5_000_000] * MAXIMUM


async def test_one_account_redeems_a_promotion_once_however_many_ask_at_once(dsn, valkey):
    async with serving(dsn, valkey) as (api, _ledger):
        await api.catalogs.ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=promotions()))
        await api.accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id="acme")))

        async def attempt(number: int) -> str:
            request = pb.RedeemPromotionRequest(
                account="acme", promotion="spring", idempotency_key=f"key-{number}"
            )
            try:
                return (await api.accounts.RedeemPromotion(request)).id
            except grpc.aio.AioRpcError as error:
                return refusal_of(error).reason

        answers = await asyncio.gather(*(attempt(number) for number in range(CALLERS)))

        assert answers.count("PROMOTION_REDEEMED") == CALLERS - 1
        assert await available(api, "acme") == 5_000_000


async def test_accounts_are_created_without_a_signup_promotion_that_is_used_up(dsn, valkey):
    accounts = [f"account-{number}" for number in range(CALLERS)]
    async with serving(dsn, valkey) as (api, _ledger):
        catalog = promotions(on_signup=True)
        await api.catalogs.ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=catalog))
        await asyncio.gather(
            *(
                api.accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id=account)))
                for account in accounts
            )
        )
        balances = await asyncio.gather(*(available(api, account) for account in accounts))

    assert sorted(balances) == [0] * (CALLERS - MAXIMUM) + [5_000_000] * MAXIMUM
