"""`creditd subscription`: subscriptions to plans, by Accounts.PutSubscription and GetAccount."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from creditd.cli import completion
from creditd.cli.client import TIMEOUT_SECONDS, Account, Address, AsJson, Context, connected
from creditd.cli.output import Column, facts, fail, json_of, note, print_json, show, styled, table, write
from creditd.cli.tables import balances_table, status_text, subscriptions_table
from creditd.cli.values import credits_text, instant_text, later
from creditd.v1 import accounts_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub

_STATUS = pb.Subscription
_NEVER = "never"
_PERIOD_END = "period-end"

app = typer.Typer(
    name="subscription",
    help="""Subscribe accounts to plans; pause, resume, cancel.

Example:
  creditd subscription put acme --plan pro --id main
""",
    no_args_is_help=True,
)

SubscriptionId = Annotated[
    str,
    typer.Argument(
        metavar="SUBSCRIPTION",
        help="Subscription id; may be left out when the account has a single one.",
        autocompletion=completion.subscriptions,
        show_default=False,
    ),
]
Preview = Annotated[bool, typer.Option("--preview", help="Show what would happen; nothing changes.")]


class Status(StrEnum):
    """Statuses that can be set."""

    ACTIVE = "active"
    PAST_DUE = "past_due"
    PAUSED = "paused"
    CANCELED = "canceled"


PlanOption = Annotated[
    str, typer.Option(metavar="KEY", help="Plan to subscribe to.", autocompletion=completion.plans)
]
IdOption = Annotated[
    str,
    typer.Option(
        "--id", metavar="ID", help="Id; made up when not given.", autocompletion=completion.subscriptions
    ),
]
PlanVersion = Annotated[
    int,
    typer.Option(min=0, metavar="NUMBER", help="Version of the plan; 0: the newest, or the one that it has."),
]
Seats = Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Seats; 0: 1, or as many as it has.")]
StatusOption = Annotated[
    Status | None, typer.Option(help="Where it stands; active, or as it is, when not given.")
]
Start = Annotated[
    datetime | None,
    typer.Option(parser=later, metavar="WHEN", help="When it started: an instant. Else now."),
]
Anchor = Annotated[
    datetime | None,
    typer.Option(parser=later, metavar="WHEN", help="What its periods are counted from. Else its start."),
]
CancelAt = Annotated[
    str, typer.Option(metavar="WHEN", help="When it ends: 30d, an instant, period-end or never.")
]
ExternalId = Annotated[str, typer.Option(metavar="TEXT", help="Id in another system, such as billing.")]


@app.command("put")
def put(
    account: Account,
    *,
    plan: PlanOption = "",
    subscription_id: IdOption = "",
    plan_version: PlanVersion = 0,
    seats: Seats = 0,
    status: StatusOption = None,
    start: Start = None,
    anchor: Anchor = None,
    cancel_at: CancelAt = "",
    external_id: ExternalId = "",
    preview: Preview = False,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Subscribe an account to a plan, or change what is given of a subscription; the rest stays as it is.

    The plan's allowances are granted once, when the subscription begins. The id
    is printed, also when it was made up: the same command with it never
    subscribes a second time.

    Example:
      creditd subscription put acme --plan pro --id main --seats 3
    """
    if not plan and not subscription_id:
        raise typer.BadParameter(
            "is needed for a new subscription; --id names one that is there", param_hint="--plan"
        )
    chosen_id = subscription_id or f"sub-{secrets.token_hex(6)}"

    def change(wanted: pb.Subscription) -> None:
        wanted.plan = plan
        wanted.plan_version, wanted.seats, wanted.external_id = plan_version, seats, external_id
        if status is not None:
            wanted.status = _STATUS.Status.Value(f"STATUS_{status.name}")
        if start is not None:
            wanted.started_at.FromDatetime(start)
        if anchor is not None:
            wanted.anchor.FromDatetime(anchor)

    _change(
        account, chosen_id, change, cancel_at=cancel_at, preview=preview, retry=("--id", chosen_id),
        address=address, context=context, as_json=as_json,
    )  # fmt: skip


@app.command("pause")
def pause(
    account: Account,
    subscription_id: SubscriptionId = "",
    *,
    preview: Preview = False,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Pause a subscription: it entitles to nothing until it is resumed. Its grants stay.

    Example:
      creditd subscription pause acme
    """
    _set_status(
        account, subscription_id, _STATUS.STATUS_PAUSED, preview=preview,
        address=address, context=context, as_json=as_json,
    )  # fmt: skip


@app.command("resume")
def resume(
    account: Account,
    subscription_id: SubscriptionId = "",
    *,
    preview: Preview = False,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Make a subscription active again: paused, canceled, or about to end.

    Example:
      creditd subscription resume acme
    """
    _set_status(
        account, subscription_id, _STATUS.STATUS_ACTIVE, cancel_at=_NEVER, preview=preview,
        address=address, context=context, as_json=as_json,
    )  # fmt: skip


@app.command("cancel")
def cancel(
    account: Account,
    subscription_id: SubscriptionId = "",
    *,
    at: Annotated[str, typer.Option(metavar="WHEN", help="now, period-end, 30d, or an instant.")] = "now",
    preview: Preview = False,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """End a subscription, now or later. Its grants stay; `resume` takes it back.

    Example:
      creditd subscription cancel acme --at period-end
    """
    if at == "now":
        _set_status(
            account, subscription_id, _STATUS.STATUS_CANCELED, preview=preview,
            address=address, context=context, as_json=as_json,
        )  # fmt: skip
    else:
        _set_status(
            account, subscription_id, _STATUS.STATUS_UNSPECIFIED, cancel_at=at, preview=preview,
            address=address, context=context, as_json=as_json,
        )  # fmt: skip


@app.command("list")
def list_command(
    account: Account, *, address: Address = None, context: Context = None, as_json: AsJson = False
) -> None:
    """List an account's subscriptions. With --json one a line.

    Example:
      creditd subscription list demo
    """
    with connected(address, context, as_json=as_json) as channel:
        found = AccountsStub(channel).GetAccount(pb.GetAccountRequest(id=account), timeout=TIMEOUT_SECONDS)
    if as_json:
        write("".join(f"{json_of(item)}\n" for item in found.subscriptions))
    elif found.subscriptions:
        show(subscriptions_table(found.subscriptions))
    else:
        note(f"account {account} has no subscriptions")


def _set_status(
    account: str,
    subscription_id: str,
    status: pb.Subscription.Status.ValueType,
    *,
    cancel_at: str = "",
    preview: bool,
    address: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    def change(wanted: pb.Subscription) -> None:
        wanted.status = status

    _change(
        account, subscription_id, change, cancel_at=cancel_at, preview=preview, must_exist=True,
        address=address, context=context, as_json=as_json,
    )  # fmt: skip


def _change(
    account: str,
    subscription_id: str,
    change: Callable[[pb.Subscription], None],
    *,
    cancel_at: str,
    preview: bool,
    address: str | None,
    context: str | None,
    as_json: bool,
    must_exist: bool = False,
    retry: tuple[str, ...] = (),
) -> None:
    """Put a subscription; what is not set the server keeps, but for its end, which is read and put back."""
    named = {"account": "ACCOUNT", "id": "SUBSCRIPTION" if must_exist else "--id"}
    with connected(address, context, as_json=as_json, named=named, retry=retry) as channel:
        stub = AccountsStub(channel)
        found = stub.GetAccount(pb.GetAccountRequest(id=account), timeout=TIMEOUT_SECONDS)
        before = _before(found, subscription_id, must_exist=must_exist)
        wanted = pb.Subscription(id=before.id if before is not None else subscription_id)
        change(wanted)
        request = pb.PutSubscriptionRequest(account=account, subscription=wanted, preview=preview)
        _set_end(request, before, cancel_at, stub)
        response = stub.PutSubscription(request, timeout=TIMEOUT_SECONDS)
    if as_json:
        print_json(response)
    else:
        _show(response, "created" if before is None else "changed", preview=preview)


def _before(account: pb.Account, subscription_id: str, *, must_exist: bool) -> pb.Subscription | None:
    """The subscription that is meant, by its id or as the only one."""
    known = {item.id: item for item in account.subscriptions}
    if subscription_id in known or not must_exist:
        return known.get(subscription_id)
    if not subscription_id and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise fail(f"account {account.id} has no subscriptions; `creditd subscription put` makes one")
    ids = ", ".join(known)
    if subscription_id:
        raise fail(f"account {account.id} has no subscription {subscription_id!r}, but {ids}")
    raise fail(f"account {account.id} has several subscriptions; say which one: {ids}")


def _set_end(
    request: pb.PutSubscriptionRequest, before: pb.Subscription | None, cancel_at: str, stub: AccountsStub
) -> None:
    wanted = request.subscription
    if cancel_at == _NEVER:
        return
    if not cancel_at:
        if before is not None and before.HasField("cancel_at"):
            wanted.cancel_at.CopyFrom(before.cancel_at)
    elif cancel_at == _PERIOD_END:
        # Only an answer to a put tells the period; a preview of this one changes nothing.
        look = pb.PutSubscriptionRequest()
        look.CopyFrom(request)
        look.preview = True
        answer = stub.PutSubscription(look, timeout=TIMEOUT_SECONDS)
        wanted.cancel_at.CopyFrom(answer.subscription.period_end)
    else:
        wanted.cancel_at.FromDatetime(later(cancel_at))


def _show(response: pb.PutSubscriptionResponse, done: str, *, preview: bool) -> None:
    item = response.subscription
    head = Text.assemble(styled(item.id, "bold cyan"), "  ", status_text(item.status))
    head.append(f"  {'would be ' if preview else ''}{done}", "bold")
    rows: list[tuple[str, Any]] = [("plan", f"{item.plan}, version {item.plan_version}")]
    rows.append(("seats", f"{item.seats:,}"))
    rows.append(("started", instant_text(item.started_at)))
    if item.anchor != item.started_at:
        rows.append(("anchor", instant_text(item.anchor)))
    rows.append(("period", f"{instant_text(item.period_start)} to {instant_text(item.period_end)}"))
    rows.append(("ends", instant_text(item.cancel_at) if item.HasField("cancel_at") else "never"))
    if item.external_id:
        rows.append(("external id", item.external_id))
    show(head, facts(rows))
    if response.granted or response.voided:
        show("", _grants(response))
    if response.balances:
        show("", balances_table(response.balances))


def _grants(response: pb.PutSubscriptionResponse) -> Table:
    rows = [
        (styled(done, style), grant.id, credits_text(grant.amount_micros), grant.credit, grant.source)
        for done, style, grants in (
            ("granted", "green", response.granted),
            ("voided", "red", response.voided),
        )
        for grant in grants
    ]
    return table(("", Column("grant", style="cyan"), Column("amount", number=True), "credit", "source"), rows)
