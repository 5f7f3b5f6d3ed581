"""`creditd`: the entry point."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from creditd import __version__
from creditd.cli import catalog, data, replay, server, top
from creditd.cli.client import ExitCode, fail
from creditd.config import ConfigError
from creditd.domain.errors import CreditdError
from creditd.ledger import SchemaError

app = typer.Typer(
    name="creditd",
    help="A gRPC entitlement and credit-burndown service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("dev")(server.dev)
app.command("serve")(server.serve)
app.command("migrate")(server.migrate)
app.command("config")(server.config)
app.command("health")(server.health)
app.command("check")(data.check)
app.command("consume")(data.consume)
app.command("balance")(data.balance)
app.command("replay")(replay.command)
app.command("top")(top.top)
app.add_typer(catalog.app, name="catalog")


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
    """Run a command; what is wrong with the settings or the stores is one message, not a traceback."""
    try:
        app()
    except (ConfigError, ValueError) as error:
        sys.exit(fail(str(error), ExitCode.USAGE).exit_code)
    except SchemaError as error:
        sys.exit(fail(f"{error}; `creditd migrate` brings it up to date", ExitCode.REFUSED).exit_code)
    except (CreditdError, OSError) as error:
        sys.exit(fail(str(error), ExitCode.UNAVAILABLE).exit_code)
