"""Tables that several commands show: balances, grants, subscriptions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from creditd.cli.output import Column, styled, table
from creditd.cli.values import credits_text, instant_text
from creditd.v1 import accounts_pb2, grants_pb2
from creditd.v1 import entitlements_pb2 as pb


def balances_table(balances: Iterable[pb.Balance]) -> Table:
    """Balances by credit type; what is zero everywhere has no column."""
    items = list(balances)
    columns: list[Column | str] = [Column("credit", style="bold"), Column("available", number=True)]
    amounts = {
        "granted": [item.granted_micros for item in items],
        "held": [item.held_micros for item in items],
        "overage": [item.overage_micros for item in items],
        "debt": [item.debt_micros for item in items],
    }
    amounts = {title: column for title, column in amounts.items() if title == "granted" or any(column)}
    columns += [Column(title, number=True) for title in amounts]
    rows: list[Sequence[str | Text]] = []
    for place, item in enumerate(items):
        style = "green" if item.available_micros > 0 else "red"
        row: list[str | Text] = [item.credit, styled(credits_text(item.available_micros), style)]
        row += [credits_text(column[place]) for column in amounts.values()]
        row.append(instant_text(item.next_expiry) if item.HasField("next_expiry") else "")
        rows.append(row)
    return table([*columns, "next expiry"], rows)


def category_text(category: int) -> str:
    """`promotion`, `auto top up`."""
    return enum_text(grants_pb2.Grant.Category, category)


def grants_table(grants: Sequence[grants_pb2.GrantBalance]) -> Table:
    """Active grants in the order in which they burn; the credit type has a column when there are several."""
    several = len({held.grant.credit for held in grants}) > 1
    columns: list[Column | str] = [
        Column("grant", style="cyan"),
        Column("remaining", number=True),
        Column("of", number=True),
        *(["credit"] if several else []),
        Column("prio", number=True),
        "category",
        "expires",
        "pays for",
    ]
    return table(columns, [_grant_row(held, several=several) for held in grants])


def _grant_row(held: grants_pb2.GrantBalance, *, several: bool) -> Sequence[str]:
    grant = held.grant
    return (
        grant.id,
        credits_text(held.remaining_micros),
        credits_text(grant.amount_micros),
        *([grant.credit] if several else []),
        str(grant.priority),
        category_text(grant.category),
        expiry_text(grant),
        features_text(grant),
    )


def expiry_text(grant: grants_pb2.Grant) -> str:
    """When a grant expires."""
    return instant_text(grant.expires_at) if grant.HasField("expires_at") else "never"


def features_text(grant: grants_pb2.Grant) -> str:
    """What a grant pays for."""
    return ", ".join(grant.features) or "all"


def status_text(status: int) -> Text:
    """The status of a subscription: green when it entitles."""
    text = enum_text(accounts_pb2.Subscription.Status, status)
    return styled(text, {"active": "green", "trialing": "green", "past due": "yellow"}.get(text, "red"))


def subscriptions_table(subscriptions: Sequence[accounts_pb2.Subscription]) -> Table:
    """An account's subscriptions."""
    rows = [
        (
            item.id,
            item.plan,
            str(item.plan_version),
            status_text(item.status),
            str(item.seats),
            instant_text(item.started_at),
            instant_text(item.cancel_at) if item.HasField("cancel_at") else "never",
        )
        for item in subscriptions
    ]
    columns = (
        Column("subscription", style="cyan"),
        "plan",
        Column("version", number=True),
        "status",
        Column("seats", number=True),
        "started",
        "ends",
    )
    return table(columns, rows)


def enum_text(enum: Any, value: int) -> str:
    """A value of an enum in small letters without its prefix; a value that is not known is its number."""
    descriptor = enum.DESCRIPTOR
    found = descriptor.values_by_number.get(value)
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", descriptor.name).upper() + "_"
    return found.name.removeprefix(prefix).lower().replace("_", " ") if found else str(value)
