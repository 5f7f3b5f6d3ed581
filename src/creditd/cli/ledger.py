"""`creditd ledger`: an account's entries, listed, exported and verified."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from creditd.cli import completion
from creditd.cli.client import Account, Address, AsJson, Context, ExitCode, connected
from creditd.cli.listing import Limit, pages, show_pages
from creditd.cli.output import Column, facts, plain, print_json, show, styled, waiting
from creditd.cli.tables import enum_text
from creditd.cli.values import credits_text, earlier, instant_text, signed_credits
from creditd.v1 import ledger_pb2 as pb
from creditd.v1.ledger_pb2_grpc import LedgerStub

_VERIFY_TIMEOUT_SECONDS = 600.0

app = typer.Typer(
    name="ledger",
    help="""List, export and verify the entries of an account.

Example:
  creditd ledger list demo --since 1d --kind consume
""",
    no_args_is_help=True,
)


class Kind(StrEnum):
    """What an entry records."""

    GRANT = "grant"
    CONSUME = "consume"
    EXPIRE = "expire"
    VOID = "void"
    REFILL = "refill"
    RESERVE = "reserve"
    COMMIT = "commit"
    RELEASE = "release"
    REFUND = "refund"
    ADJUST = "adjust"
    LEASE = "lease"
    SETTLE = "settle"


class Format(StrEnum):
    """How entries are written to a file."""

    JSONL = "jsonl"
    CSV = "csv"


Since = Annotated[
    datetime | None,
    typer.Option(parser=earlier, metavar="WHEN", help="Not before: 2h (ago), a day, or an instant."),
]
Until = Annotated[
    datetime | None,
    typer.Option(parser=earlier, metavar="WHEN", help="Before: 2h (ago), a day, or an instant."),
]
Kinds = Annotated[
    list[Kind] | None,
    typer.Option("--kind", metavar="KIND", help="Only grant, consume, expire, void ...; may be repeated."),
]
FeatureOption = Annotated[
    str, typer.Option(metavar="KEY", help="Only of this feature.", autocompletion=completion.features)
]
SubjectOption = Annotated[str, typer.Option(metavar="TEXT", help="Only of this subject.")]
CreditOption = Annotated[
    str, typer.Option(metavar="KEY", help="Only of this credit type.", autocompletion=completion.credit_keys)
]
_NAMED = {"feature": "--feature", "credit": "--credit", "subject": "--subject"}


def entries_request(
    account: str,
    since: datetime | None,
    until: datetime | None,
    kinds: Sequence[Kind],
    feature: str,
    subject: str,
    credit: str,
) -> pb.ListEntriesRequest:
    """The request of these options."""
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("is not before --until: nothing can lie between them", param_hint="--since")
    request = pb.ListEntriesRequest(
        account=account,
        kinds=[pb.Entry.Kind.Value(f"KIND_{kind.name}") for kind in kinds],
        feature=feature,
        subject=subject,
        credit=credit,
    )
    if since is not None:
        request.since.FromDatetime(since)
    if until is not None:
        request.until.FromDatetime(until)
    return request


@app.command("list")
def list_command(
    account: Account,
    *,
    since: Since = None,
    until: Until = None,
    kinds: Kinds = None,
    feature: FeatureOption = "",
    subject: SubjectOption = "",
    credit: CreditOption = "",
    limit: Limit = 50,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """List an account's entries, newest first. With --json one entry a line.

    Example:
      creditd ledger list demo --since 1d --kind consume --feature chat
    """
    request = entries_request(account, since, until, kinds or (), feature, subject, credit)
    columns: list[Column | str] = [
        Column("number", number=True, style="bright_black"),
        "at",
        "kind",
        Column("amount", number=True),
        Column("balance", number=True),
        "credit",
        "for",
        "subject",
    ]
    with connected(address, context, as_json=as_json, named=_NAMED) as channel:
        found = pages(LedgerStub(channel).ListEntries, request, "entries", limit)
        show_pages(found, columns, _row, as_json=as_json, empty="no entries match")


def _row(entry: pb.Entry) -> Sequence[str | Text]:
    style = "green" if entry.amount_micros > 0 else "red" if entry.amount_micros < 0 else "bright_black"
    # Entries without credits only count.
    has_credit = bool(entry.credit)
    return (
        f"{entry.sequence:,}",
        instant_text(entry.at),
        enum_text(pb.Entry.Kind, entry.kind),
        styled(signed_credits(entry.amount_micros), style) if has_credit else "",
        credits_text(entry.balance_after_micros) if has_credit else "",
        entry.credit,
        entry.feature or entry.grant_id or entry.reservation_id,
        entry.subject,
    )


@app.command("export")
def export(
    account: Account,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="*.jsonl or *.csv; - for stdout.")
    ],
    file_format: Annotated[
        Format | None, typer.Option("--format", help="When the file's name doesn't say it.")
    ] = None,
    since: Since = None,
    until: Until = None,
    kinds: Kinds = None,
    feature: FeatureOption = "",
    subject: SubjectOption = "",
    credit: CreditOption = "",
    address: Address = None,
    context: Context = None,
) -> None:
    """Write an account's entries to a file, newest first: all that match, as of now.

    JSON Lines have the API's messages, one a line, with amounts in
    micro-credits. CSV has amounts in credits. The file appears when it is
    complete; an export that was interrupted leaves none.

    Example:
      creditd ledger export demo --output entries.csv --since 2026-01-01
    """
    # Here and not above: only an export needs it.
    from creditd.cli.ledger_export import write_entries

    form = _format(output, file_format)
    request = entries_request(account, since, until, kinds or (), feature, subject, credit)
    with connected(address, context, named=_NAMED) as channel:
        found = pages(LedgerStub(channel).ListEntries, request, "entries", 0)
        write_entries(found, output, as_csv=form is Format.CSV)


def _format(output: Path, chosen: Format | None) -> Format:
    if chosen is not None:
        return chosen
    suffixes = {".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".csv": Format.CSV}
    found = suffixes.get(output.suffix.lower())
    if found is None:
        raise typer.BadParameter(
            f"{str(output)!r} is neither *.jsonl nor *.csv; say --format jsonl or --format csv",
            param_hint="--output",
        )
    return found


@app.command("verify")
def verify(
    account: Account,
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Load a hot state that differs anew from the ledger, which is the truth."
        ),
    ] = False,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Compare an account's hot state with its ledger. Exit code 1 when they differ.

    With --repair the exit code is still 1 when they did: run it again to see
    that they agree.

    Example:
      creditd ledger verify demo
    """
    request = pb.VerifyAccountRequest(account=account, repair=repair)
    with (
        connected(address, context, as_json=as_json) as channel,
        waiting(f"folding the ledger of {plain(account)}", quiet=as_json),
    ):
        found = LedgerStub(channel).VerifyAccount(request, timeout=_VERIFY_TIMEOUT_SECONDS)
    if as_json:
        print_json(found)
    else:
        _show_verified(found, repair=repair)
    raise typer.Exit(ExitCode.OK if found.consistent else ExitCode.DENIED)


def _show_verified(found: pb.VerifyAccountResponse, *, repair: bool) -> None:
    head = styled("consistent", "bold green") if found.consistent else styled("inconsistent", "bold red")
    hot = f"up to entry {found.hot_sequence:,}" if found.hot_sequence else "nothing is hot"
    rows: list[tuple[str, str | Text]] = [
        ("ledger", f"{found.ledger_sequence:,} entries"),
        ("hot state", hot),
    ]
    rows += [("differs", styled(item, "red")) for item in found.differences]
    if not found.consistent:
        rows.append(("repaired", "loaded anew from the ledger") if repair else ("to repair", "add --repair"))
    show(head, facts(rows))
