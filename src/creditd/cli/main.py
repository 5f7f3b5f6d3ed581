"""`creditd`: the entry point."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from creditd import __version__
from creditd.cli import (
    account,
    catalog,
    context,
    data,
    explain,
    grant,
    ledger,
    replay,
    server,
    subscription,
    top,
)
from creditd.cli.output import ExitCode, abandon_stdout, fail

_EPILOG = """\
Exit codes
    0  done, or allowed
    1  denied, or another negative answer
    2  the command line or a file is wrong
    3  refused by the server
    4  no answer: try again, with the same key
  130  interrupted

Example:
  creditd check demo chat --attributes model=gpt-4o
"""

app = typer.Typer(
    name="creditd",
    help="A gRPC entitlement and credit-burndown service.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_USE, _MANAGE, _RUN = "Use", "Manage", "Run a server"
app.command("check", rich_help_panel=_USE)(data.check)
app.command("explain", rich_help_panel=_USE)(explain.explain)
app.command("consume", rich_help_panel=_USE)(data.consume)
app.command("balance", rich_help_panel=_USE)(data.balance)
app.command("replay", rich_help_panel=_USE)(replay.command)
app.command("top", rich_help_panel=_USE)(top.top)
app.add_typer(account.app, name="account", rich_help_panel=_MANAGE)
app.add_typer(subscription.app, name="subscription", rich_help_panel=_MANAGE)
app.add_typer(grant.app, name="grant", rich_help_panel=_MANAGE)
app.add_typer(ledger.app, name="ledger", rich_help_panel=_MANAGE)
app.add_typer(catalog.app, name="catalog", rich_help_panel=_MANAGE)
app.add_typer(context.app, name="context", rich_help_panel=_MANAGE)
app.command("dev", rich_help_panel=_RUN)(server.dev)
app.command("serve", rich_help_panel=_RUN)(server.serve)
app.command("migrate", rich_help_panel=_RUN)(server.migrate)
app.command("config", rich_help_panel=_RUN)(server.config)
app.command("health", rich_help_panel=_RUN)(server.health)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"creditd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A gRPC entitlement and credit-burndown service."""


def main() -> None:
    """Run a command; what nobody foresaw of files and values is one message, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding doesn't have is shown all the same.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (ValueError, OSError) as error:
        sys.exit(fail(str(error)).exit_code)
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            abandon_stdout()
            sys.exit(ExitCode.CLOSED_PIPE)
