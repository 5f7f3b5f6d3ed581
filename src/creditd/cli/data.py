"""`creditd check`, `consume` and `balance`: the data plane from a terminal."""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from creditd.cli import completion
from creditd.cli.client import TIMEOUT_SECONDS, Account, Address, AsJson, Context, ExitCode, connected
from creditd.cli.output import facts, print_json, show, styled
from creditd.cli.tables import balances_table, grants_table
from creditd.cli.use import (
    Attributes,
    Feature,
    Quantity,
    Subject,
    Usage,
    affordable_text,
    state_facts,
    use_fields,
    value_text,
    verdict,
)
from creditd.cli.values import credits_text, micros_of, of_credit, pairs
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub


class Mode(StrEnum):
    """What happens when there is not enough."""

    ENFORCE = "enforce"
    PARTIAL = "partial"
    RECORD = "record"

    @property
    def on_the_wire(self) -> pb.Mode.ValueType:
        """The API's value."""
        return pb.Mode.Value(f"MODE_{self.name}")


ModeOption = Annotated[
    Mode,
    typer.Option(help="When there is not enough: all or nothing, what is there, or record it all the same."),
]
Metadata = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE,..", help="Kept on the ledger entry: request=r1.")
]
Cost = Annotated[
    int | None,
    typer.Option(
        parser=micros_of, metavar="CREDITS", help="The cost in credits, for features with an external rate."
    ),
]


def check(
    account: Account,
    feature: Feature,
    *,
    quantity: Quantity = None,
    usage: Usage = None,
    attributes: Attributes = None,
    subject: Subject = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="With the steps of the decision; see also `creditd explain`.")
    ] = False,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """May the account do this?

    Changes nothing. Exit code 1 when it may not.

    Example:
      creditd check demo chat --attributes model=gpt-4o --usage input_tokens=900
    """
    request = pb.CheckRequest(
        account=account,
        feature=feature,
        explain=explain,
        **use_fields(quantity, usage, attributes, subject),
    )
    with connected(address, context, as_json=as_json) as channel:
        answer = EntitlementsStub(channel).Check(request, timeout=TIMEOUT_SECONDS)
    if as_json:
        print_json(answer)
    else:
        _show_check(answer)
    raise typer.Exit(ExitCode.OK if answer.allowed else ExitCode.DENIED)


def _show_check(answer: pb.CheckResponse) -> None:
    rows: list[tuple[str, str | Text]] = []
    if answer.credit:
        rows.append(("costs", of_credit(answer.cost_micros, answer.credit)))
    if answer.HasField("value"):
        rows.append(("value", value_text(answer)))
    rows += state_facts(answer)
    if answer.credit or answer.HasField("limit"):
        rows.append(("affordable", affordable_text(answer)))
    show(verdict(answer), facts(rows))
    if answer.explanation:
        # Here and not above: few ask for it.
        from creditd.cli.explain import steps

        show("", steps(answer))


def consume(
    account: Account,
    feature: Feature,
    *,
    quantity: Quantity = None,
    usage: Usage = None,
    attributes: Attributes = None,
    subject: Subject = "",
    metadata: Metadata = None,
    mode: ModeOption = Mode.ENFORCE,
    idempotency_key: Annotated[
        str,
        typer.Option(
            "--idempotency-key", "--key", metavar="KEY", help="Burns once per key; made up when not given."
        ),
    ] = "",
    cost: Cost = None,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    r"""Burn credits or count usage.

    Exit code 1 when it was denied. The key is printed, also when it was made
    up: the same command with it never burns a second time.

    Example:
      creditd consume demo chat --attributes model=gpt-4o \
        --usage output_tokens=500 --key r1
    """
    key = idempotency_key or str(uuid.uuid4())
    request = pb.ConsumeRequest(
        account=account,
        feature=feature,
        metadata=pairs(metadata or (), "--metadata"),
        mode=mode.on_the_wire,
        idempotency_key=key,
        cost_micros=cost,
        **use_fields(quantity, usage, attributes, subject),
    )
    with connected(address, context, as_json=as_json, retry=("--idempotency-key", key)) as channel:
        answer = EntitlementsStub(channel).Consume(request, timeout=TIMEOUT_SECONDS)
    if as_json:
        print_json(answer)
    else:
        _show_consume(answer, key)
    raise typer.Exit(ExitCode.OK if answer.allowed else ExitCode.DENIED)


def _show_consume(answer: pb.ConsumeResponse, key: str) -> None:
    rows: list[tuple[str, str | Text]] = []
    if answer.credit:
        rows.append(("burned", of_credit(answer.charged_micros, answer.credit)))
    if answer.overage_micros:
        rows.append(("overage", of_credit(answer.overage_micros, answer.credit)))
    if answer.shortfall_micros:
        short = answer.shortfall_micros
        # Where a limit denied, units are missing and not credits.
        is_limit = answer.reason == pb.REASON_LIMIT_EXCEEDED
        rows.append(("short of", f"{short:,} units" if is_limit else of_credit(short, answer.credit)))
    rows += [
        ("paid by", f"{item.grant_id}: {credits_text(item.amount_micros)}") for item in answer.allocations
    ]
    rows += state_facts(answer)
    if answer.entry_id:
        rows.append(("entry", f"{answer.entry_id}, number {answer.sequence:,}"))
        replayed = (
            styled("  replayed: burned before, nothing burned now", "yellow") if answer.replayed else ""
        )
        rows.append(("key", styled(key).append(replayed)))
    show(verdict(answer), facts(rows))


def balance(
    account: Account,
    *,
    credit: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="Credit type; all by default.", autocompletion=completion.credit_keys
        ),
    ] = "",
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """What an account has, and the grants that it burns next.

    Example:
      creditd balance demo
    """
    with connected(address, context, as_json=as_json) as channel:
        answer = EntitlementsStub(channel).GetBalance(
            pb.GetBalanceRequest(account=account, credit=credit), timeout=TIMEOUT_SECONDS
        )
    if as_json:
        print_json(answer)
        return
    if not answer.balances:
        show(f"account {account} has no credits: the catalog in force has no credit types")
        return
    show(balances_table(answer.balances))
    if answer.grants:
        show("", grants_table(answer.grants))
