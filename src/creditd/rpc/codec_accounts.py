"""Accounts, subscriptions and grants on the wire <-> the engine's terms."""

from __future__ import annotations

from creditd.domain.accounts import Account, Subscription, SubscriptionStatus
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import Money, Rollover
from creditd.domain.catalog_check import PERIOD_COUNT_MAX
from creditd.domain.grants import Category, Grant, Recurrence
from creditd.engine.control_types import GrantDraft, SubscriptionChange
from creditd.rpc.checks import MAP_MAX, TEXT_BYTES_MAX, Checks
from creditd.rpc.codec_catalog_write import rollover_to_proto
from creditd.rpc.codec_values import (
    money_to_proto,
    period_to_proto,
    read_money,
    read_period,
    timestamp_to_proto,
)
from creditd.v1 import accounts_pb2 as pb
from creditd.v1 import catalog_pb2, grants_pb2

NO_ANCHOR = -1
_PRIORITY_MAX = 1_000_000
_SEATS_MAX = 1_000_000_000
_STATUSES = pb.Subscription.Status
_CATEGORIES = grants_pb2.Grant.Category
_MODES = pb.PutSubscriptionRequest.ChangeMode


def read_account(request: pb.PutAccountRequest, checks: Checks) -> tuple[Account, str]:
    """The account to put, and the etag that it must have."""
    account = request.account
    checks.identifier("account.id", account.id)
    checks.text("account.name", account.name)
    checks.texts("account.labels", account.labels, TEXT_BYTES_MAX)
    checks.identifier("account.external_id", account.external_id, required=False)
    checks.identifier("account.test_clock", account.test_clock, required=False)
    checks.text("account.etag", account.etag)
    return (
        Account(
            id=account.id,
            created_at=0,
            name=account.name,
            labels=dict(account.labels),
            suspended=account.suspended,
            external_id=account.external_id,
            test_clock=account.test_clock,
        ),
        account.etag,
    )


def account_to_proto(account: Account) -> pb.Account:
    """An account on the wire."""
    return pb.Account(
        id=account.id,
        name=account.name,
        labels=account.labels,
        suspended=account.suspended,
        subscriptions=[subscription_to_proto(item) for item in account.subscriptions],
        external_id=account.external_id,
        test_clock=account.test_clock,
        created_at=timestamp_to_proto(account.created_at),
        etag=str(account.revision),
        archived=account.archived,
    )


def subscription_to_proto(
    subscription: Subscription, period: tuple[int, int] | None = None
) -> pb.Subscription:
    """A subscription on the wire, with its current period where that is known."""
    message = pb.Subscription(
        id=subscription.id,
        plan=subscription.plan,
        plan_version=subscription.plan_version,
        seats=subscription.seats,
        status=_STATUSES.Value(f"STATUS_{subscription.status.value}"),
        started_at=timestamp_to_proto(subscription.started_at),
        anchor=timestamp_to_proto(subscription.anchor),
        external_id=subscription.external_id,
    )
    for key, quantity in subscription.add_ons:
        message.add_ons.add(add_on=key, quantity=quantity)
    if subscription.trial_ends_at is not None:
        message.trial_ends_at.CopyFrom(timestamp_to_proto(subscription.trial_ends_at))
    if subscription.cancel_at is not None:
        message.cancel_at.CopyFrom(timestamp_to_proto(subscription.cancel_at))
    if period is not None:
        message.period_start.CopyFrom(timestamp_to_proto(period[0]))
        message.period_end.CopyFrom(timestamp_to_proto(period[1]))
    return message


def read_subscription(request: pb.PutSubscriptionRequest, checks: Checks) -> SubscriptionChange:
    """The subscription to put."""
    subscription = request.subscription
    checks.identifier("account", request.account)
    checks.identifier("idempotency_key", request.idempotency_key, required=False)
    checks.enum("mode", request.mode, _MODES)
    checks.identifier("subscription.id", subscription.id, required=False)
    checks.identifier("subscription.plan", subscription.plan, required=not subscription.id)
    checks.identifier("subscription.external_id", subscription.external_id, required=False)
    checks.number("subscription.plan_version", subscription.plan_version)
    checks.number("subscription.seats", subscription.seats, high=_SEATS_MAX)
    checks.enum("subscription.status", subscription.status, _STATUSES)
    started_at = checks.instant("subscription.started_at", subscription, "started_at")
    anchor = checks.instant("subscription.anchor", subscription, "anchor")
    cancel_at = checks.instant("subscription.cancel_at", subscription, "cancel_at")
    trial_ends_at = checks.instant("subscription.trial_ends_at", subscription, "trial_ends_at")
    add_ons = _add_ons(subscription, checks)
    checks.done()
    status = _STATUSES.Name(subscription.status).removeprefix("STATUS_")
    mode = _MODES.Name(request.mode).removeprefix("CHANGE_MODE_")
    return SubscriptionChange(
        account=request.account,
        id=subscription.id,
        plan=subscription.plan,
        plan_version=subscription.plan_version,
        seats=subscription.seats,
        status=None if status == "UNSPECIFIED" else SubscriptionStatus(status),
        started_at=started_at,
        anchor=anchor,
        cancel_at=cancel_at,
        trial_ends_at=trial_ends_at,
        add_ons=add_ons,
        external_id=subscription.external_id,
        mode="" if mode == "UNSPECIFIED" else mode,
        preview=request.preview,
        idempotency_key=request.idempotency_key,
    )


def _add_ons(subscription: pb.Subscription, checks: Checks) -> tuple[tuple[str, int], ...]:
    """Keys and quantities, by key; each once."""
    if len(subscription.add_ons) > MAP_MAX:
        count = len(subscription.add_ons)
        checks.add("subscription.add_ons", f"has {count} add-ons; at most {MAP_MAX} are allowed")
    found: dict[str, int] = {}
    for place, item in enumerate(subscription.add_ons[:MAP_MAX]):
        at = f"subscription.add_ons[{place}]"
        checks.identifier(f"{at}.add_on", item.add_on)
        checks.number(f"{at}.quantity", item.quantity, low=1, high=_SEATS_MAX)
        if item.add_on in found:
            checks.add(f"{at}.add_on", f"{item.add_on!r} is there already; once, with its quantity")
        found[item.add_on] = item.quantity
    return tuple(sorted(found.items()))


def read_grant(request: pb.CreateGrantRequest, checks: Checks) -> GrantDraft:
    """The grant to create."""
    grant = request.grant
    checks.identifier("idempotency_key", request.idempotency_key, required=False)
    checks.identifier("grant.id", grant.id, required=False)
    checks.identifier("grant.account", grant.account)
    checks.identifier("grant.credit", grant.credit)
    checks.number("grant.amount_micros", grant.amount_micros, low=1, high=AMOUNT_MAX)
    checks.number("grant.priority", grant.priority, high=_PRIORITY_MAX)
    checks.enum("grant.category", grant.category, _CATEGORIES)
    checks.texts("grant.metadata", grant.metadata, TEXT_BYTES_MAX)
    checks.identifier("grant.source", grant.source, required=False)
    if len(grant.features) > MAP_MAX:
        checks.add("grant.features", f"has {len(grant.features)} features; at most {MAP_MAX} are allowed")
    for place, feature in enumerate(grant.features[:MAP_MAX]):
        checks.identifier(f"grant.features[{place}]", feature)
    effective_at = checks.instant("grant.effective_at", grant, "effective_at")
    expires_at = checks.instant("grant.expires_at", grant, "expires_at")
    price = _price(grant, checks)
    recurrence = _recurrence(grant, checks) if grant.HasField("recurrence") else None
    checks.done()
    category = _CATEGORIES.Name(grant.category).removeprefix("CATEGORY_")
    return GrantDraft(
        account=grant.account,
        id=grant.id,
        credit=grant.credit,
        amount=grant.amount_micros,
        priority=grant.priority,
        category=None if category == "UNSPECIFIED" else Category(category),
        effective_at=effective_at,
        expires_at=expires_at,
        price=price,
        metadata=dict(grant.metadata),
        source=grant.source,
        features=tuple(grant.features),
        recurrence=recurrence,
    )


def _recurrence(grant: grants_pb2.Grant, checks: Checks) -> Recurrence:
    """A recurrence; anchored before all time when it says no anchor, which stands for `effective_at`."""
    message = grant.recurrence
    at = "grant.recurrence"
    every = read_period(message.every, f"{at}.every", checks)
    checks.number(f"{at}.every.count", every.count, low=1, high=PERIOD_COUNT_MAX)
    anchor = checks.instant(f"{at}.anchor", message, "anchor")
    rollover = None
    if message.HasField("rollover"):
        rollover = Rollover(
            message.rollover.max_micros, message.rollover.max_percent, message.rollover.max_periods
        )
        checks.number(f"{at}.rollover.max_micros", rollover.max_micros)
        checks.number(f"{at}.rollover.max_percent", rollover.max_percent, high=100)
        checks.number(f"{at}.rollover.max_periods", rollover.max_periods, high=PERIOD_COUNT_MAX)
    return Recurrence(every, NO_ANCHOR if anchor is None else anchor, rollover)


def _price(grant: grants_pb2.Grant, checks: Checks) -> Money | None:
    if not grant.HasField("price"):
        return None
    price = read_money(grant.price, "grant.price", checks)
    if not (len(price.currency) == 3 and price.currency.isascii() and price.currency.isalpha()) or (
        not price.currency.isupper()
    ):
        checks.add("grant.price.currency_code", "is not three capital letters, as USD")
    if price.nanos < 0:
        checks.add("grant.price", "is negative")
    return price


def grant_to_proto(grant: Grant, account: str) -> grants_pb2.Grant:
    """A grant on the wire."""
    message = grants_pb2.Grant(
        id=grant.id,
        account=account,
        credit=grant.credit,
        amount_micros=grant.amount,
        priority=grant.priority,
        category=_CATEGORIES.Value(f"CATEGORY_{grant.category.value}"),
        effective_at=timestamp_to_proto(grant.effective_at),
        created_at=timestamp_to_proto(grant.created_at),
        metadata=grant.metadata,
        source=grant.source,
        features=grant.features,
    )
    if grant.expires_at is not None:
        message.expires_at.CopyFrom(timestamp_to_proto(grant.expires_at))
    if grant.voided_at is not None:
        message.voided_at.CopyFrom(timestamp_to_proto(grant.voided_at))
    if grant.price is not None:
        message.price.CopyFrom(money_to_proto(grant.price))
    if grant.recurrence is not None:
        every: catalog_pb2.Period = period_to_proto(grant.recurrence.every)
        message.recurrence.every.CopyFrom(every)
        message.recurrence.anchor.CopyFrom(timestamp_to_proto(grant.recurrence.anchor))
        if grant.recurrence.rollover is not None:
            rollover: catalog_pb2.Rollover = rollover_to_proto(grant.recurrence.rollover)
            message.recurrence.rollover.CopyFrom(rollover)
    return message
