"""Accounts, their subscriptions and grants, outside of load transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import orjson

from creditd.domain.accounts import Account, Epoch, PendingPlan, Subscription, SubscriptionStatus
from creditd.domain.entries import Entry
from creditd.domain.errors import NotFound
from creditd.domain.fold import fold_all
from creditd.domain.grants import Grant
from creditd.domain.state import AccountState
from creditd.ledger import folding, redemptions
from creditd.ledger.codec import decode_grant, encode_grant
from creditd.ledger.connection import Connection, Connections
from creditd.ledger.documents import decode_account, decode_budgets, decode_overrides, encode_account
from creditd.ledger.queries import load
from creditd.ledger.redemptions import Redemption

_SQL: Final = load("accounts")


@dataclass(frozen=True, slots=True)
class Gift:
    """A promotion that a new account gets while it has redemptions left; `entries` follow a state of the account."""

    promotion: str
    maximum: int
    entries: Callable[[AccountState], Sequence[Entry]]


async def create(
    connections: Connections, account: Account, *, nonce: int, gifts: Sequence[Gift] = ()
) -> Account:
    """See `Ledger.create_account`."""
    async with connections.transaction() as connection:
        if await _insert(connection, account):
            await connection.execute(_SQL["insert_head"], account.id, nonce)
            await keep_version(connection, account, account.created_at)
            for subscription in account.subscriptions:
                await connection.execute(
                    _SQL["put_subscription"], *subscription_values(account.id, subscription)
                )
            await _give(connection, account, gifts)
            return account
        row = await connection.fetchrow(_SQL["get_account"], account.id)
    if row is None:
        raise NotFound("account", account.id)
    return to_account(row)


async def _give(connection: Connection, account: Account, gifts: Sequence[Gift]) -> None:
    """What a new account is given; a promotion that is used up is passed over."""
    state = AccountState(account.id)
    for gift in gifts:
        redeemed = await redemptions.redeem(connection, gift.promotion, account.id, gift.maximum)
        if redeemed is not Redemption.DONE:
            continue
        entries = gift.entries(state)
        for entry in entries:
            if entry.effects.put is not None:
                grant = entry.effects.put
                await connection.execute(
                    _SQL["insert_grant"], account.id, grant.id, grant.created_at, "", encode_grant(grant)
                )
        await folding.insert(connection, *entries)
        state = fold_all(state, entries)


async def _insert(connection: Connection, account: Account) -> bool:
    try:
        inserted = await connection.fetchval(_SQL["insert_account"], *account_values(account))
    except asyncpg.ForeignKeyViolationError as error:
        raise NotFound("test clock", account.test_clock) from error
    return inserted is not None


async def get(connections: Connections, account_id: str) -> Account | None:
    """See `Ledger.get_account`."""
    async with connections.session() as connection:
        row = await connection.fetchrow(_SQL["get_account"], account_id)
    return None if row is None else to_account(row)


async def version_at(connections: Connections, account_id: str, at: int) -> Account | None:
    """See `Ledger.account_at`."""
    async with connections.session() as connection:
        text = await connection.fetchval(_SQL["version_at"], account_id, at)
    return None if text is None else decode_account(text)


async def keep_version(connection: Connection, account: Account, at: int) -> None:
    """Keep what decides for an account from `at` on."""
    document = encode_account(account)
    await connection.execute(_SQL["keep_version"], account.id, account.revision, at, document)


async def epochs(connections: Connections, ids: Sequence[str]) -> dict[str, Epoch]:
    """See `Ledger.epochs`."""
    async with connections.session() as connection:
        rows = await connection.fetch(_SQL["epochs"], ids)
    return {row["account"]: Epoch(row["epoch"], row["nonce"]) for row in rows}


async def listed(
    connections: Connections, *, after_id: str, limit: int, prefix: str, labels: Mapping[str, str]
) -> list[Account]:
    """See `Ledger.list_accounts`."""
    async with connections.session() as connection:
        rows = await connection.fetch(
            _SQL["list_accounts"], after_id, limit, prefix, orjson.dumps(dict(labels)).decode()
        )
    return [to_account(row) for row in rows]


async def grants(connections: Connections, account_id: str) -> list[Grant]:
    """See `Ledger.list_grants`."""
    async with connections.session() as connection:
        rows = await connection.fetch(_SQL["list_grants"], account_id)
    return [decode_grant(row["document"]) for row in rows]


def account_values(account: Account) -> tuple[Any, ...]:
    """An account as the arguments of `insert_account` and `put_account`."""
    return (
        account.id,
        account.created_at,
        account.policy_version,
        account.revision,
        account.suspended,
        account.archived,
        account.name,
        account.external_id,
        account.test_clock or None,
        orjson.dumps(account.labels).decode(),
    )


def subscription_values(account_id: str, subscription: Subscription) -> tuple[Any, ...]:
    """A subscription as the arguments of `put_subscription`."""
    return (
        account_id,
        subscription.id,
        subscription.started_at,
        subscription.anchor,
        subscription.cancel_at,
        subscription.plan_version,
        subscription.seats,
        subscription.plan,
        subscription.status,
        subscription.external_id,
        orjson.dumps(subscription.add_ons).decode(),
        subscription.trial_ends_at,
        subscription.pauses_after_trial,
        None if subscription.pending is None else orjson.dumps(subscription.pending).decode(),
    )


def to_account(row: asyncpg.Record) -> Account:
    """The account of a row of `get_account` or `list_accounts`."""
    subscriptions = orjson.loads(row["subscriptions"] or "[]")
    return Account(
        id=row["id"],
        created_at=row["created_at"],
        name=row["name"],
        labels=orjson.loads(row["labels"]),
        suspended=row["suspended"],
        external_id=row["external_id"],
        test_clock=row["test_clock"] or "",
        archived=row["archived"],
        policy_version=row["policy_version"],
        revision=row["revision"],
        subscriptions=tuple(_subscription(document) for document in subscriptions),
        overrides=decode_overrides(row["overrides"] or "[]"),
        budgets=decode_budgets(row["budgets"] or "[]"),
    )


def _subscription(document: dict[str, Any]) -> Subscription:
    return Subscription(
        id=document["id"],
        plan=document["plan"],
        plan_version=document["plan_version"],
        status=SubscriptionStatus(document["status"]),
        started_at=document["started_at"],
        anchor=document["anchor"],
        seats=document["seats"],
        external_id=document["external_id"],
        cancel_at=document["cancel_at"],
        add_ons=tuple((key, quantity) for key, quantity in document["add_ons"]),
        trial_ends_at=document["trial_ends_at"],
        pauses_after_trial=document["pauses_after_trial"],
        pending=None if document["pending"] is None else PendingPlan(**document["pending"]),
    )
