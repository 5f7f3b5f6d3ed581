"""A use of a feature: the options that check, explain and consume have alike, and the facts of their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.text import Text

from creditd.cli import completion
from creditd.cli.output import plain, styled
from creditd.cli.values import instant_text, of_credit, pairs, quantities, whole_number
from creditd.v1 import entitlements_pb2 as pb

Feature = Annotated[
    str, typer.Argument(metavar="FEATURE", help="Feature key.", autocompletion=completion.features)
]
Quantity = Annotated[
    int | None,
    typer.Option(
        parser=whole_number, metavar="UNITS", help="Units of the feature's default meter; 1 by default."
    ),
]
Usage = Annotated[
    list[str] | None,
    typer.Option(metavar="METER=UNITS,..", help="Units by meter: input_tokens=1200,output_tokens=80."),
]
Attributes = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE,..", help="What rates match on: model=gpt-4o,region=eu."),
]
Subject = Annotated[str, typer.Option(metavar="TEXT", help="User, seat or key within the account.")]


def use_fields(
    quantity: int | None, usage: Sequence[str] | None, attributes: Sequence[str] | None, subject: str
) -> dict[str, Any]:
    """The fields that CheckRequest and ConsumeRequest have alike, from these options."""
    if quantity is not None and usage:
        raise typer.BadParameter(
            "is not given together with --usage: one of the two", param_hint="--quantity"
        )
    return {
        "quantity": quantity,
        "usage": quantities(usage or (), "--usage"),
        "attributes": pairs(attributes or (), "--attributes"),
        "subject": subject,
    }


def reason_text(reason: int) -> str:
    """`INSUFFICIENT_CREDITS`; a reason that this release doesn't know is its number."""
    found = pb.Reason.DESCRIPTOR.values_by_number.get(reason)
    return found.name.removeprefix("REASON_") if found else str(reason)


def verdict(answer: pb.CheckResponse | pb.ConsumeResponse) -> Text:
    """`allowed  COVERED`, and below it the answer in words if there are any."""
    word, style = ("allowed", "bold green") if answer.allowed else ("denied", "bold red")
    text = Text.assemble((word, style), "  ", (reason_text(answer.reason), "bold"))
    if answer.message:
        text.append(f"\n  {plain(answer.message)}")
    return text


def state_facts(answer: pb.CheckResponse | pb.ConsumeResponse) -> list[tuple[str, str | Text]]:
    """The balance and the limit of an answer."""
    rows: list[tuple[str, str | Text]] = []
    if answer.HasField("balance"):
        rows.append(("available", available_text(answer.balance, answer.credit)))
        if answer.balance.held_micros:
            rows.append(("held", of_credit(answer.balance.held_micros, answer.credit)))
        if answer.balance.debt_micros:
            rows.append(("debt", styled(of_credit(answer.balance.debt_micros, answer.credit), "red")))
    if answer.HasField("limit"):
        limit = answer.limit
        of = "unlimited" if limit.unlimited else f"{limit.limit:,}"
        resets = f", resets {instant_text(limit.resets_at)}" if limit.HasField("resets_at") else ""
        rows.append(("used", f"{limit.used:,} of {of}{resets}"))
    return rows


def available_text(balance: pb.Balance, credit: str) -> Text:
    """What is available of what was granted; red when nothing is."""
    available = styled(
        of_credit(balance.available_micros, credit), "" if balance.available_micros > 0 else "red"
    )
    return available.append(f"  of {of_credit(balance.granted_micros, '')} granted", "bright_black")


def affordable_text(answer: pb.CheckResponse) -> str:
    """How many units would be allowed; the API's 9e15 stands for no bound."""
    return (
        "any number" if answer.affordable_quantity >= 9 * 10**15 else f"{answer.affordable_quantity:,} units"
    )


def value_text(answer: pb.CheckResponse) -> str:
    """The value of a CONFIG feature, as JSON."""
    value: Any = MessageToDict(answer.value)
    # JSON's numbers are doubles on the wire; a whole one is told as it was written.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)
