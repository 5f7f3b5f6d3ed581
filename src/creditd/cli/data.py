"""`creditd check`, `consume` and `balance`: the data plane from a terminal."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from creditd.cli.client import (
    DEFAULT_ADDRESS,
    TIMEOUT_SECONDS,
    Address,
    AsJson,
    ExitCode,
    channel,
    showing_errors,
)
from creditd.cli.pairs import credits_text, pairs, quantities
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

Account = Annotated[str, typer.Argument(help="Account id.")]
Feature = Annotated[str, typer.Argument(help="Feature key.")]
Quantity = Annotated[int | None, typer.Option(help="Units of the feature's default meter; 1 by default.")]
Usage = Annotated[list[str] | None, typer.Option(help="Units by meter: input_tokens=1200,output_tokens=80.")]
Attributes = Annotated[list[str] | None, typer.Option(help="What rates match on: model=gpt-4o,region=eu.")]
Metadata = Annotated[list[str] | None, typer.Option(help="Kept on the ledger entry: request=r1.")]
Subject = Annotated[str, typer.Option(help="User, seat or key within the account.")]

_MODES = {"enforce": pb.MODE_ENFORCE, "partial": pb.MODE_PARTIAL, "record": pb.MODE_RECORD}


def check(
    account: Account,
    feature: Feature,
    *,
    quantity: Quantity = None,
    usage: Usage = None,
    attributes: Attributes = None,
    subject: Subject = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say how the answer came about.")] = False,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """May the account do this? Changes nothing. Exit code 1 when it may not.

    Example: creditd check demo chat --attributes model=gpt-4o --usage input_tokens=1000
    """
    request = pb.CheckRequest(
        account=account,
        feature=feature,
        subject=subject,
        quantity=quantity,
        usage=quantities(usage or (), "--usage"),
        attributes=pairs(attributes or (), "--attributes"),
        explain=explain,
    )
    with showing_errors(address), channel(address) as open_channel:
        answer = EntitlementsStub(open_channel).Check(request, timeout=TIMEOUT_SECONDS)
    if as_json:
        _print_json(answer)
    else:
        rows = [("costs", f"{credits_text(answer.cost_micros)} {answer.credit}")] if answer.credit else []
        if answer.HasField("value"):
            rows.append(("value", MessageToJson(answer.value, indent=None)))
        rows += _balance_rows(answer)
        if answer.credit or answer.HasField("limit"):
            rows.append(("affordable", f"{answer.affordable_quantity:,} units"))
        _print_ruling(answer, rows)
        for step in answer.explanation:
            amount = f"  {credits_text(step.amount_micros)}" if step.amount_micros else ""
            Console(highlight=False).print(f"  {step.kind}: {step.key}  {step.detail}{amount}", markup=False)
    raise typer.Exit(ExitCode.OK if answer.allowed else ExitCode.DENIED)


def consume(
    account: Account,
    feature: Feature,
    *,
    quantity: Quantity = None,
    usage: Usage = None,
    attributes: Attributes = None,
    metadata: Metadata = None,
    subject: Subject = "",
    mode: Annotated[str, typer.Option(help="enforce, partial or record.")] = "enforce",
    idempotency_key: Annotated[str, typer.Option(help="Burns once per key; made up when not given.")] = "",
    cost: Annotated[
        int | None, typer.Option(help="Micro-credits, for features with an external rate.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Burn credits or count usage. Exit code 1 when it was denied.

    Example: creditd consume demo chat --attributes model=gpt-4o --usage output_tokens=500 --idempotency-key r1
    """
    if mode not in _MODES:
        raise typer.BadParameter(f"expected one of {', '.join(_MODES)}", param_hint="--mode")
    request = pb.ConsumeRequest(
        account=account,
        feature=feature,
        subject=subject,
        quantity=quantity,
        usage=quantities(usage or (), "--usage"),
        attributes=pairs(attributes or (), "--attributes"),
        metadata=pairs(metadata or (), "--metadata"),
        mode=_MODES[mode],
        idempotency_key=idempotency_key or str(uuid.uuid4()),
        cost_micros=cost,
    )
    with showing_errors(address), channel(address) as open_channel:
        answer = EntitlementsStub(open_channel).Consume(request, timeout=TIMEOUT_SECONDS)
    if as_json:
        _print_json(answer)
    else:
        rows = [("burned", f"{credits_text(answer.charged_micros)} {answer.credit}")] if answer.credit else []
        if answer.shortfall_micros:
            rows.append(("short of", credits_text(answer.shortfall_micros)))
        rows += _balance_rows(answer)
        rows += [
            ("paid by", f"{item.grant_id}: {credits_text(item.amount_micros)}") for item in answer.allocations
        ]
        if answer.entry_id:
            replayed = " (replayed)" if answer.replayed else ""
            rows.append(("entry", f"{answer.entry_id}, number {answer.sequence}{replayed}"))
            rows.append(("key", request.idempotency_key))
        _print_ruling(answer, rows)
    raise typer.Exit(ExitCode.OK if answer.allowed else ExitCode.DENIED)


def balance(
    account: Account,
    *,
    credit: Annotated[str, typer.Option(help="Credit type; all by default.")] = "",
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """What an account has, and the grants behind it in the order in which they burn.

    Example: creditd balance demo
    """
    with showing_errors(address), channel(address) as open_channel:
        answer = EntitlementsStub(open_channel).GetBalance(
            pb.GetBalanceRequest(account=account, credit=credit), timeout=TIMEOUT_SECONDS
        )
    if as_json:
        _print_json(answer)
        return
    console = Console(highlight=False)
    table = Table("credit", "available", "granted", "held", "overage", "debt", "next expiry", box=None)
    for item in answer.balances:
        expiry = item.next_expiry.ToJsonString() if item.HasField("next_expiry") else ""
        amounts = (
            item.available_micros,
            item.granted_micros,
            item.held_micros,
            item.overage_micros,
            item.debt_micros,
        )
        table.add_row(item.credit, *(credits_text(amount) for amount in amounts), expiry)
    console.print(table)
    if answer.grants:
        grants = Table("grant", "remaining", "of", "priority", "expires", "source", box=None)
        for held in answer.grants:
            grant = held.grant
            grants.add_row(
                grant.id,
                credits_text(held.remaining_micros),
                credits_text(grant.amount_micros),
                str(grant.priority),
                grant.expires_at.ToJsonString() if grant.HasField("expires_at") else "never",
                grant.source,
            )
        console.print()
        console.print(grants)


def _balance_rows(answer: pb.CheckResponse | pb.ConsumeResponse) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if answer.HasField("balance"):
        rows.append(("available", f"{credits_text(answer.balance.available_micros)} {answer.credit}"))
    if answer.HasField("limit"):
        limit = answer.limit
        of = "unlimited" if limit.unlimited else f"{limit.limit:,}"
        resets = f", resets {limit.resets_at.ToJsonString()}" if limit.HasField("resets_at") else ""
        rows.append(("used", f"{limit.used:,} of {of}{resets}"))
    return rows


def _print_ruling(answer: pb.CheckResponse | pb.ConsumeResponse, rows: list[tuple[str, str]]) -> None:
    console = Console(highlight=False)
    reason = pb.Reason.Name(answer.reason).removeprefix("REASON_")
    console.print(f"[bold green]allowed[/] {reason}" if answer.allowed else f"[bold red]denied[/] {reason}")
    if answer.message:
        console.print(f"  {answer.message}", markup=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in rows:
        table.add_row(f"  {name}", text)
    console.print(table)


def _print_json(message: Message) -> None:
    # False and zero are told too: a script asks for them by name.
    text = MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    typer.echo(text)
