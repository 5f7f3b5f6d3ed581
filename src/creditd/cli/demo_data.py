"""The demo of `creditd dev --demo`: a catalog, an account, credits, and commands to try."""

from __future__ import annotations

from importlib.resources import as_file, files

import grpc

from creditd.cli.catalog_file import load_catalog
from creditd.v1 import accounts_pb2, catalog_pb2, grants_pb2
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.catalog_pb2_grpc import CatalogsStub

ACCOUNT = "demo"
WELCOME_MICROS = 1_000_000_000


async def install_demo(address: str) -> None:
    """Put the demo in place through the API itself; what is there already stays as it is."""
    with as_file(files("creditd.cli") / "demo" / "catalog.yaml") as path:
        catalog = load_catalog(path).message
    async with grpc.aio.insecure_channel(address) as channel:
        catalogs, accounts = CatalogsStub(channel), AccountsStub(channel)
        version = await catalogs.GetCatalog(catalog_pb2.GetCatalogRequest())
        if not version.version:
            # A catalog of the user's own is never replaced.
            await catalogs.ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=catalog, note="demo"))
        elif not any(plan.key == "pro" for plan in version.catalog.plans):
            return
        await accounts.PutAccount(
            accounts_pb2.PutAccountRequest(account=accounts_pb2.Account(id=ACCOUNT, name="Demo"))
        )
        await accounts.PutSubscription(
            accounts_pb2.PutSubscriptionRequest(
                account=ACCOUNT, subscription=accounts_pb2.Subscription(id="demo-pro", plan="pro")
            )
        )
        if any(credit.key == "credits" for credit in (version.catalog.credits or catalog.credits)):
            await accounts.CreateGrant(
                accounts_pb2.CreateGrantRequest(
                    grant=grants_pb2.Grant(
                        id="demo-welcome",
                        account=ACCOUNT,
                        credit="credits",
                        amount_micros=WELCOME_MICROS,
                        category=grants_pb2.Grant.CATEGORY_PROMOTION,
                        source="demo",
                    )
                )
            )


def suggestions(address: str) -> str:
    """Three commands to try."""
    use = (
        '"account": "demo", "feature": "chat", "attributes": {"model": "gpt-4o"}, '
        '"usage": {"input_tokens": 1000, "output_tokens": 500}'
    )
    keyed = use + ', "idempotency_key": "try-1"'
    lines = [
        f"grpcurl -plaintext -d '{{{body}}}' {address} creditd.v1.Entitlements/{method}"
        for method, body in (("Check", use), ("Consume", keyed), ("GetBalance", '"account": "demo"'))
    ]
    return "Try:\n" + "\n".join(f"  {line}" for line in lines)
