"""`creditd catalog`: apply, compare and show catalogs, and make one from a price map."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from creditd.cli.catalog_prices import import_prices_command
from creditd.cli.client import TIMEOUT_SECONDS, Address, AsJson, Context, ExitCode, connected
from creditd.cli.listing import Limit, pages, show_pages
from creditd.cli.output import Column, complain, fail, print_json, show, styled, table, waiting, write
from creditd.cli.values import instant_text, later
from creditd.v1 import catalog_pb2 as pb
from creditd.v1.catalog_pb2_grpc import CatalogsStub

if TYPE_CHECKING:
    from creditd.cli.catalog_file import LoadedCatalog

_APPLY_TIMEOUT_SECONDS = 300.0

app = typer.Typer(
    name="catalog",
    help="""Apply, compare and show catalogs.

Example:
  creditd catalog apply examples/catalog.yaml --note "first prices"
""",
    no_args_is_help=True,
)
app.command("import-prices")(import_prices_command)

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Catalog file: YAML, or JSON if named *.json.", dir_okay=False)
]


@app.command("apply")
def apply_command(
    file: File,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and compare, change nothing.")] = False,
    expected_version: Annotated[
        int,
        typer.Option(
            min=0, metavar="NUMBER", help="Refuse if another version than this is the newest; 0: any."
        ),
    ] = 0,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the history.")] = "",
    effective_at: Annotated[
        datetime | None,
        typer.Option(parser=later, metavar="WHEN", help="From when on: an instant, or 2d. Else now."),
    ] = None,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Put a catalog in force, whole: what is not in the file is removed.

    Example:
      creditd catalog apply examples/catalog.yaml --note "image prices"
    """
    loaded = _load(file, quiet=as_json)
    request = pb.ApplyCatalogRequest(
        catalog=loaded.message, dry_run=dry_run, expected_version=expected_version, note=note
    )
    if effective_at is not None:
        request.effective_at.FromDatetime(effective_at)
    response = _apply(request, loaded, address, context, as_json=as_json)
    if as_json:
        print_json(response)
        return
    _show_changes(response.changes)
    done = "would be" if dry_run else "is"
    version = f"version {response.version}" if response.version else "still empty"
    show(f"the catalog {done} {version}" if response.changes else f"the catalog stays {version}")


@app.command("diff")
def diff_command(
    file: File,
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 1 when something would change, as git diff does.")
    ] = False,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Show what applying a catalog would change. Exit code 0 either way, unless --exit-code is given.

    Example:
      creditd catalog diff examples/catalog.yaml
    """
    loaded = _load(file, quiet=as_json)
    request = pb.ApplyCatalogRequest(catalog=loaded.message, dry_run=True)
    response = _apply(request, loaded, address, context, as_json=as_json)
    if as_json:
        print_json(response)
    else:
        _show_changes(response.changes)
    raise typer.Exit(ExitCode.DENIED if exit_code and response.changes else ExitCode.OK)


@app.command("show")
def show_command(
    *,
    version: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="Which version; 0: the one in force.")
    ] = 0,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Print a catalog as a file that `apply` takes, YAML or with --json JSON.

    Example:
      creditd catalog show
    """
    # Here and not above, as below: YAML is slow to import.
    from creditd.cli.catalog_dump import dump_catalog

    with connected(address, context, as_json=as_json) as channel:
        stub = CatalogsStub(channel)
        response = stub.GetCatalog(pb.GetCatalogRequest(version=version), timeout=TIMEOUT_SECONDS)
    if not as_json:
        since = instant_text(response.effective_at)
        write(f"# catalog version {response.version}, effective at {since}\n")
    write(dump_catalog(response.catalog, as_json=as_json))


@app.command("versions")
def versions_command(
    *,
    limit: Limit = 100,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of the catalog, newest first. With --json one a line.

    Example:
      creditd catalog versions
    """
    columns = (Column("version", number=True), "effective at", "")
    with connected(address, context, as_json=as_json) as channel:
        stub = CatalogsStub(channel)
        current = stub.GetCatalog(pb.GetCatalogRequest(), timeout=TIMEOUT_SECONDS).version

        def row(item: pb.GetCatalogResponse) -> Sequence[str | Text]:
            state = styled("in force", "green") if item.version == current else styled("")
            return (f"{item.version:,}", instant_text(item.effective_at), state)

        found = pages(stub.ListCatalogVersions, pb.ListCatalogVersionsRequest(), "versions", limit)
        show_pages(
            found, columns, row, as_json=as_json, empty="there is no catalog yet; `creditd catalog apply`"
        )


def _load(file: Path, *, quiet: bool) -> LoadedCatalog:
    from creditd.cli.catalog_file import load_catalog
    from creditd.cli.document import DocumentError

    try:
        with waiting(f"reading {file}", quiet=quiet):
            return load_catalog(file)
    except DocumentError as error:
        count = len(error.faults)
        complain(f"{file} has {count} fault{'' if count == 1 else 's'}", *error.lines())
        raise typer.Exit(ExitCode.USAGE) from None
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}") from None


def _apply(
    request: pb.ApplyCatalogRequest,
    loaded: LoadedCatalog,
    address: str | None,
    context: str | None,
    *,
    as_json: bool,
) -> pb.ApplyCatalogResponse:
    def place(path: str) -> str:
        found = loaded.locate(path) if path.startswith("catalog.") else None
        return f"{loaded.file}:{found.line}:{found.column}" if found else ""

    named = {"effective_at": "--effective-at"}
    with (
        connected(address, context, as_json=as_json, place=place, named=named) as channel,
        waiting(f"{'comparing' if request.dry_run else 'applying'} {loaded.file}", quiet=as_json),
    ):
        stub = CatalogsStub(channel)
        response: pb.ApplyCatalogResponse = stub.ApplyCatalog(request, timeout=_APPLY_TIMEOUT_SECONDS)
    return response


def _show_changes(changes: Sequence[pb.Change]) -> None:
    if not changes:
        show("nothing changes")
        return
    colours = {"ADDED": "green", "CHANGED": "yellow", "REMOVED": "red"}
    columns: list[Column | str] = ["", "what", Column("key", style="cyan"), "change"]
    counted = any(change.accounts_affected for change in changes)
    rows = []
    for change in changes:
        row: list[str | Text] = [
            styled(change.action.lower(), colours.get(change.action, "")),
            change.kind,
            change.key,
            change.summary,
        ]
        rows.append([*row, f"{change.accounts_affected:,}"] if counted else row)
    show(table([*columns, Column("accounts", number=True)] if counted else columns, rows))
