"""A whole server on real stores, over a real socket, on each host; callers are grpcio's own stubs."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import pytest
from tests.support.serving import serving

from creditd.config import load_settings
from creditd.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    diagnostics_pb2_grpc,
    entitlements_pb2_grpc,
    ledger_pb2_grpc,
    test_clocks_pb2_grpc,
)

CREDIT = 1_000_000


@dataclass
class Api:
    """Stubs of every service, on one channel."""

    address: str
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.entitlements = entitlements_pb2_grpc.EntitlementsStub(self.channel)
        self.catalogs = catalog_pb2_grpc.CatalogsStub(self.channel)
        self.accounts = accounts_pb2_grpc.AccountsStub(self.channel)
        self.ledger = ledger_pb2_grpc.LedgerStub(self.channel)
        self.clocks = test_clocks_pb2_grpc.TestClocksStub(self.channel)
        self.diagnostics = diagnostics_pb2_grpc.DiagnosticsStub(self.channel)


def demo_catalog(price: int = CREDIT) -> catalog_pb2.Catalog:
    """One feature of each type, one plan that has them all."""
    pb = catalog_pb2
    return pb.Catalog(
        credits=[pb.CreditType(key="credits")],
        features=[
            pb.Feature(
                key="chat",
                type=pb.FEATURE_TYPE_CREDIT,
                credit="credits",
                default_meter="tokens",
                rates=[pb.Rate(prices=[pb.MeterPrice(meter="tokens", credits_micros=price, per=1)])],
            ),
            pb.Feature(key="sso", type=pb.FEATURE_TYPE_BOOLEAN),
            pb.Feature(key="window", type=pb.FEATURE_TYPE_CONFIG),
            pb.Feature(key="calls", type=pb.FEATURE_TYPE_LIMIT),
        ],
        plans=[
            pb.Plan(
                key="pro",
                allowances=[pb.Allowance(credit="credits", amount_micros=100 * CREDIT)],
                entitlements=[
                    pb.Entitlement(feature="chat", enabled=True),
                    pb.Entitlement(feature="sso", enabled=True),
                    pb.Entitlement(feature="window", value={"number_value": 128000}),
                    pb.Entitlement(
                        feature="calls",
                        limit=pb.Limit(max=3, per=pb.Period(unit=pb.Period.UNIT_DAY, count=1)),
                    ),
                ],
            )
        ],
    )


@pytest.fixture(params=["asgi", "grpcio"])
async def api(request, dsn, valkey):
    settings = load_settings(
        {},
        postgres_dsn=dsn,
        redis_url=valkey,
        listen="127.0.0.1:0",
        transport=request.param,
        test_clocks=True,
        drain_grace_s=5,
    )
    async with serving(settings) as address, grpc.aio.insecure_channel(address) as channel:
        yield Api(address, channel)


@pytest.fixture
async def demo(api):
    """The API with the demo catalog and an account `acme` on plan pro."""
    await api.catalogs.ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=demo_catalog()))
    pb = accounts_pb2
    await api.accounts.PutAccount(pb.PutAccountRequest(account=pb.Account(id="acme")))
    await api.accounts.PutSubscription(
        pb.PutSubscriptionRequest(account="acme", subscription=pb.Subscription(id="s", plan="pro"))
    )
    return api
