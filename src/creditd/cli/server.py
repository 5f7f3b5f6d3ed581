"""`creditd dev`, `serve`, `migrate`, `config`, `health`: running a server, and what belongs to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from creditd.cli.client import DEFAULT_ADDRESS, Address, AsJson, Context, ExitCode, connected
from creditd.cli.output import fail, show, styled

Listen = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Address to serve on.")]
TransportOption = Annotated[
    str | None, typer.Option("--transport", metavar="NAME", help="Server to run: asgi (h2corn) or grpcio.")
]


def serve(listen: Listen = None, transport: TransportOption = None) -> None:
    r"""Serve on your Postgres and Redis or Valkey.

    CREDITD_POSTGRES_DSN and CREDITD_REDIS_URL name them; `creditd config` shows
    every setting.

    Example:
      CREDITD_POSTGRES_DSN=postgresql://creditd@db/creditd \
        CREDITD_REDIS_URL=redis://cache creditd serve
    """
    from creditd.cli import serving

    with serving.telling_problems():
        serving.serve(listen, transport, os.environ)


def dev(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Loopback address to serve on.")
    ] = DEFAULT_ADDRESS,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the data stays; else a folder of the user's."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="A demo catalog, and an account with credits.")
    ] = False,
    transport: TransportOption = None,
) -> None:
    """Run the service and its stores on this machine.

    An embedded PostgreSQL and Valkey, whose data stays between runs.

    Example:
      creditd dev --demo
    """
    from creditd.cli import serving

    with serving.telling_problems():
        serving.dev(listen, data_dir, transport, os.environ, demo=demo)


def migrate() -> None:
    """Bring the database to this release's schema.

    That of CREDITD_POSTGRES_DSN. Safe to run from several places at once.

    Example:
      CREDITD_POSTGRES_DSN=postgresql://creditd@db/creditd creditd migrate
    """
    from creditd.cli import serving

    with serving.telling_problems():
        serving.migrate(os.environ)


def config(as_json: AsJson = False) -> None:
    """Show the settings that a server would have, secrets hidden.

    Example:
      creditd config
    """
    from creditd.cli import serving

    with serving.telling_problems():
        serving.config(os.environ, as_json=as_json)


def health(
    address: Address = None,
    service_name: Annotated[
        str, typer.Option("--service", metavar="NAME", help="Service to ask for; all by default.")
    ] = "",
    context: Context = None,
) -> None:
    """Ask a server whether it serves.

    Exit code 0 when it does, 1 when not, 4 when nothing answers.

    Example:
      creditd health --address 127.0.0.1:50051
    """
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with connected(address, context) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service_name), timeout=5)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise fail(f"no service {service_name!r} is served there", ExitCode.DENIED) from None
            raise
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    serves = status == "SERVING"
    show(styled(status, "bold green" if serves else "bold red"))
    raise typer.Exit(ExitCode.OK if serves else ExitCode.DENIED)
