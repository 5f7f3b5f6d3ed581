"""Names that a server knows, for completion and for «did you mean»: asked in haste, and never a reason to fail."""

from __future__ import annotations

import grpc

from creditd.v1 import accounts_pb2, catalog_pb2
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.catalog_pb2_grpc import CatalogsStub

_TIMEOUT_S = 1.0
_ACCOUNTS_MAX = 1000


def known(channel: grpc.Channel, kind: str, near: str = "") -> list[str]:
    """Names of a kind: account, feature, credit or plan. None when the server doesn't answer at once."""
    try:
        if kind == "account":
            # Ids that begin alike: a server may have millions.
            return accounts(channel, near[:1])
        if kind in {"feature", "credit", "plan"}:
            return in_catalog(channel, kind)
    except grpc.RpcError:
        pass
    return []


def accounts(channel: grpc.Channel, prefix: str) -> list[str]:
    """The first thousand ids of accounts that begin so."""
    request = accounts_pb2.ListAccountsRequest(page_size=_ACCOUNTS_MAX, filter=prefix)
    answer = AccountsStub(channel).ListAccounts(request, timeout=_TIMEOUT_S)
    return [account.id for account in answer.accounts]


def subscriptions(channel: grpc.Channel, account: str) -> list[str]:
    """The ids of an account's subscriptions."""
    answer = AccountsStub(channel).GetAccount(accounts_pb2.GetAccountRequest(id=account), timeout=_TIMEOUT_S)
    return [subscription.id for subscription in answer.subscriptions]


def grants(channel: grpc.Channel, account: str) -> list[str]:
    """The ids of an account's active grants."""
    request = accounts_pb2.ListGrantsRequest(account=account, page_size=_ACCOUNTS_MAX)
    answer = AccountsStub(channel).ListGrants(request, timeout=_TIMEOUT_S)
    return [held.grant.id for held in answer.grants]


def in_catalog(channel: grpc.Channel, kind: str) -> list[str]:
    """The keys of the catalog in force: of its features, credits or plans."""
    catalog = CatalogsStub(channel).GetCatalog(catalog_pb2.GetCatalogRequest(), timeout=_TIMEOUT_S).catalog
    items = {"feature": catalog.features, "credit": catalog.credits, "plan": catalog.plans}[kind]
    return [item.key for item in items]  # type: ignore[attr-defined]  # each of the three has a key
