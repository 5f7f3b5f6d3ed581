"""`creditd account`: accounts, by Accounts.PutAccount, GetAccount and ListAccounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import grpc
import typer
from rich.text import Text

from creditd.cli.client import TIMEOUT_SECONDS, Account, Address, AsJson, Context, connected
from creditd.cli.listing import Limit, pages, show_pages
from creditd.cli.output import Column, facts, print_json, show, styled
from creditd.cli.tables import subscriptions_table
from creditd.cli.values import instant_text, pairs, words
from creditd.v1 import accounts_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub

_TRIES = 5
_NAMED = {"id": "ACCOUNT"}

app = typer.Typer(
    name="account",
    help="""Create, change and show accounts.

Example:
  creditd account put acme --name "Acme Ltd" --label tier=gold
""",
    no_args_is_help=True,
)


@app.command("put")
def put(
    account: Account,
    *,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Name for people.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE,..", help="Labels to set; the others stay.")
    ] = None,
    remove_label: Annotated[
        list[str] | None, typer.Option(metavar="NAME,..", help="Labels to remove.")
    ] = None,
    external_id: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Id in another system, such as billing.")
    ] = None,
    test_clock: Annotated[
        str | None, typer.Option(metavar="ID", help="Test clock whose time it lives in; fixed at creation.")
    ] = None,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Create an account, or change what is given of one; what is not given stays as it is.

    An account that exists is read first and put back with its etag. When
    somebody else changed it in between, this is done again on what they made of
    it, so that neither change is lost.

    Example:
      creditd account put acme --name "Acme Ltd" --label tier=gold
    """
    labels = pairs(label or (), "--label")
    removed = words(remove_label or ())

    def change(wanted: pb.Account) -> None:
        if name is not None:
            wanted.name = name
        if external_id is not None:
            wanted.external_id = external_id
        if test_clock is not None:
            wanted.test_clock = test_clock
        for key in removed:
            wanted.labels.pop(key, None)
        wanted.labels.update(labels)

    _change(account, change, address=address, context=context, as_json=as_json, create=True)


@app.command("suspend")
def suspend(
    account: Account, *, address: Address = None, context: Context = None, as_json: AsJson = False
) -> None:
    """Deny everything to an account until it is resumed; nothing of it is lost.

    Example:
      creditd account suspend acme
    """

    def change(wanted: pb.Account) -> None:
        wanted.suspended = True

    _change(account, change, address=address, context=context, as_json=as_json)


@app.command("resume")
def resume(
    account: Account, *, address: Address = None, context: Context = None, as_json: AsJson = False
) -> None:
    """End the suspension of an account.

    Example:
      creditd account resume acme
    """

    def change(wanted: pb.Account) -> None:
        wanted.suspended = False

    _change(account, change, address=address, context=context, as_json=as_json)


@app.command("get")
def get(
    account: Account, *, address: Address = None, context: Context = None, as_json: AsJson = False
) -> None:
    """Show an account and its subscriptions; `creditd balance` shows its credits.

    Example:
      creditd account get demo
    """
    with connected(address, context, as_json=as_json, named=_NAMED) as channel:
        found = AccountsStub(channel).GetAccount(pb.GetAccountRequest(id=account), timeout=TIMEOUT_SECONDS)
    if as_json:
        print_json(found)
        return
    _show(found, "")
    if found.subscriptions:
        show("", subscriptions_table(found.subscriptions))


@app.command("list")
def list_command(
    *,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only ids that begin so.")] = "",
    limit: Limit = 100,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """List accounts by id. With --json one account a line.

    Example:
      creditd account list --prefix de
    """
    columns = (Column("account", style="cyan"), "name", "state", "subscriptions", "labels", "created")
    with connected(address, context, as_json=as_json) as channel:
        found = pages(
            AccountsStub(channel).ListAccounts, pb.ListAccountsRequest(filter=prefix), "accounts", limit
        )
        empty = f"no account begins with {prefix}" if prefix else "there are no accounts"
        show_pages(found, columns, _row, as_json=as_json, empty=empty)


def _row(account: pb.Account) -> Sequence[str | Text]:
    plans = sorted({item.plan for item in account.subscriptions})
    labels = ", ".join(f"{key}={value}" for key, value in sorted(account.labels.items()))
    return (
        account.id,
        account.name,
        _state(account),
        ", ".join(plans),
        labels,
        instant_text(account.created_at),
    )


def _state(account: pb.Account) -> Text:
    if account.archived:
        return styled("archived", "bright_black")
    return styled("suspended", "red") if account.suspended else styled("active", "green")


def _change(
    account: str,
    change: Callable[[pb.Account], None],
    *,
    address: str | None,
    context: str | None,
    as_json: bool,
    create: bool = False,
) -> None:
    """Read, change, put back with the etag; again when somebody else was faster."""
    with connected(address, context, as_json=as_json, named=_NAMED) as channel:
        stub = AccountsStub(channel)
        for tries_left in reversed(range(_TRIES)):
            before = _read(stub, account, create=create)
            wanted = pb.Account(id=account)
            wanted.CopyFrom(before)
            change(wanted)
            try:
                after = stub.PutAccount(pb.PutAccountRequest(account=wanted), timeout=TIMEOUT_SECONDS)
                break
            except grpc.RpcError as error:
                if not (tries_left and _has_changed(error)):
                    raise
    if as_json:
        print_json(after)
    else:
        done = "changed" if after.etag != before.etag else "unchanged"
        _show(after, done if before.etag else "created")


def _read(stub: AccountsStub, account: str, *, create: bool) -> pb.Account:
    try:
        found: pb.Account = stub.GetAccount(pb.GetAccountRequest(id=account), timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        if create and error.code() is grpc.StatusCode.NOT_FOUND:
            return pb.Account(id=account)
        raise
    return found


def _has_changed(error: grpc.RpcError) -> bool:
    from creditd.cli.refusals import refusal_of

    return refusal_of(error).reason == "VERSION_MISMATCH"


def _show(account: pb.Account, done: str) -> None:
    head = Text.assemble(styled(account.id, "bold cyan"), "  ", _state(account))
    if done:
        head.append(f"  {done}", "bold")
    rows: list[tuple[str, str | Text]] = [("name", account.name)] if account.name else []
    rows += [("label", f"{key}={value}") for key, value in sorted(account.labels.items())]
    if account.external_id:
        rows.append(("external id", account.external_id))
    if account.test_clock:
        rows.append(("test clock", account.test_clock))
    rows.append(("created", instant_text(account.created_at)))
    show(head, facts(rows))
