"""`creditd catalog`: apply, compare and show catalogs, and make one from a price map."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from creditd.cli.catalog_dump import dump_catalog
from creditd.cli.catalog_fields import TextError, timestamp
from creditd.cli.catalog_file import LoadedCatalog, load_catalog
from creditd.cli.catalog_prices import import_prices_command
from creditd.cli.client import (
    DEFAULT_ADDRESS,
    TIMEOUT_SECONDS,
    Address,
    AsJson,
    channel,
    errors,
    fail,
    showing_errors,
)
from creditd.cli.document import DocumentError
from creditd.v1 import catalog_pb2 as pb
from creditd.v1.catalog_pb2_grpc import CatalogsStub

app = typer.Typer(name="catalog", help="Apply, compare and show catalogs.", no_args_is_help=True)
app.command("import-prices")(import_prices_command)

File = Annotated[Path, typer.Argument(help="Catalog file: YAML, or JSON if named *.json.", dir_okay=False)]


def _instant(text: str) -> datetime:
    try:
        return timestamp(text)
    except TextError as error:
        raise typer.BadParameter(str(error)) from None


@app.command("apply")
def apply_command(
    file: File,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and compare, change nothing.")] = False,
    expected_version: Annotated[
        int, typer.Option(min=0, help="Refuse if another version than this is in force; 0: any.")
    ] = 0,
    note: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    effective_at: Annotated[
        datetime | None,
        typer.Option(parser=_instant, metavar="ISO", help="From when on; now if not given."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Put a catalog in force, whole: what is not in the file is removed."""
    loaded = _load(file)
    request = pb.ApplyCatalogRequest(
        catalog=loaded.message, dry_run=dry_run, expected_version=expected_version, note=note
    )
    if effective_at is not None:
        request.effective_at.FromDatetime(effective_at)
    response = _apply(request, loaded, address)
    if as_json:
        _print_json(response)
        return
    _print_changes(response.changes)
    done = "would become" if dry_run else "is now"
    typer.echo(f"The catalog {done} version {response.version}.")


@app.command("diff")
def diff_command(file: File, *, address: Address = DEFAULT_ADDRESS, as_json: AsJson = False) -> None:
    """Show what applying a catalog would change."""
    loaded = _load(file)
    response = _apply(pb.ApplyCatalogRequest(catalog=loaded.message, dry_run=True), loaded, address)
    if as_json:
        _print_json(response)
    else:
        _print_changes(response.changes)


@app.command("show")
def show_command(
    *,
    version: Annotated[int, typer.Option(min=0, help="Which version; 0: the one in force.")] = 0,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Print a catalog as a file that `apply` takes."""
    with showing_errors(address), channel(address) as connection:
        stub = CatalogsStub(connection)
        response = stub.GetCatalog(pb.GetCatalogRequest(version=version), timeout=TIMEOUT_SECONDS)
    if not as_json:
        since = response.effective_at.ToDatetime().isoformat(timespec="seconds")
        typer.echo(f"# catalog version {response.version}, effective at {since}Z")
    typer.echo(dump_catalog(response.catalog, as_json=as_json), nl=False)


def _load(file: Path) -> LoadedCatalog:
    try:
        return load_catalog(file)
    except DocumentError as error:
        for line in error.lines():
            errors.print(line, markup=False)
        raise fail(f"{file} has {len(error.faults)} fault{'' if len(error.faults) == 1 else 's'}") from None
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}") from None


def _apply(request: pb.ApplyCatalogRequest, loaded: LoadedCatalog, address: str) -> pb.ApplyCatalogResponse:
    def place(path: str) -> str:
        found = loaded.locate(path)
        return f"{loaded.file}:{found.line}:{found.column}" if found else loaded.file

    with showing_errors(address, place), channel(address) as connection:
        response: pb.ApplyCatalogResponse = CatalogsStub(connection).ApplyCatalog(
            request, timeout=TIMEOUT_SECONDS
        )
    return response


def _print_changes(changes: Sequence[pb.Change]) -> None:
    table = Table("what", "key", "change", "accounts", box=None, pad_edge=False)
    colours = {"ADDED": "green", "CHANGED": "yellow", "REMOVED": "red"}
    for change in changes:
        colour = colours.get(change.action, "default")
        table.add_row(
            change.kind,
            escape(change.key),
            f"[{colour}]{change.action.lower()}[/]: {escape(change.summary)}",
            str(change.accounts_affected or ""),
        )
    if changes:
        Console().print(table)
    else:
        typer.echo("Nothing changes.")


def _print_json(response: pb.ApplyCatalogResponse) -> None:
    text = MessageToJson(
        response,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
    )
    typer.echo(text)
