"""`creditd dev`, `serve`, `migrate`, `config`, `health`: running a server, and what belongs to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from platformdirs import user_data_path
from rich.console import Console
from rich.table import Table

from creditd import app as service
from creditd import logs
from creditd.cli.client import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    ExitCode,
    channel,
    fail,
    refusal_of,
    showing_errors,
)
from creditd.cli.demo_data import install_demo, suggestions
from creditd.config import Settings, describe, load_settings
from creditd.embedded import EmbeddedError, embedded_servers
from creditd.ledger.migrate import migrate as apply_migrations

_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")

Listen = Annotated[str | None, typer.Option(help="Address to serve on, as host:port.")]
TransportOption = Annotated[
    str | None, typer.Option("--transport", help="Server to run: asgi (h2corn) or grpcio.")
]


def serve(listen: Listen = None, transport: TransportOption = None) -> None:
    """Serve on the Postgres and Redis/Valkey that CREDITD_POSTGRES_DSN and CREDITD_REDIS_URL name.

    Example: CREDITD_POSTGRES_DSN=postgresql://creditd@db/creditd CREDITD_REDIS_URL=redis://cache creditd serve
    """
    settings = load_settings(os.environ, listen=listen, transport=transport)
    missing = [
        name
        for name, value in (
            ("CREDITD_POSTGRES_DSN", settings.postgres_dsn),
            ("CREDITD_REDIS_URL", settings.redis_url),
        )
        if value is None
    ]
    if missing:
        raise fail(f"{' and '.join(missing)} must be set; `creditd dev` brings its own servers")
    logs.configure(settings.log_level, settings.log_format)
    console = Console(stderr=True, highlight=False)

    async def run(stop: asyncio.Event) -> None:
        await service.serve(settings, on_ready=lambda at: console.print(f"serving gRPC on {at}"), stop=stop)

    _run(run)


def dev(
    listen: Annotated[str, typer.Option(help="Loopback address to serve on.")] = DEFAULT_ADDRESS,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the data is kept between runs; a per-user folder by default.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="A demo catalog, and an account with credits.")
    ] = False,
    transport: TransportOption = None,
) -> None:
    """Run everything on this machine: an embedded PostgreSQL and Valkey, and the service on them.

    Example: creditd dev --demo
    """
    if not listen.startswith(_LOOPBACK):
        raise fail(f"`creditd dev` has no keys, so it serves on loopback only, not on {listen}")
    where = data_dir or user_data_path("creditd") / "dev"
    console = Console(highlight=False)

    async def run(stop: asyncio.Event) -> None:
        async with embedded_servers(where) as servers:
            settings = load_settings(
                os.environ,
                postgres_dsn=servers.dsn,
                redis_url=servers.url,
                listen=listen,
                transport=transport,
                test_clocks=True,
                log_format="text",
                log_level=None if "CREDITD_LOG_LEVEL" in os.environ else "WARNING",
            )
            logs.configure(settings.log_level, settings.log_format)
            await apply_migrations(servers.dsn)
            await _serve_dev(settings, where, console, stop, demo=demo)

    try:
        _run(run)
    except EmbeddedError as error:
        raise fail(str(error), ExitCode.UNAVAILABLE) from None


async def _serve_dev(
    settings: Settings, data_dir: Path, console: Console, stop: asyncio.Event, *, demo: bool
) -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(service.serve(settings, on_ready=ready.set_result, stop=stop))
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    try:
        if ready.done():
            address = ready.result()
            if demo:
                await install_demo(address)
            said = f"creditd serves gRPC on {address} (data in {data_dir}); Ctrl-C stops everything"
            console.print(said, soft_wrap=True, markup=False)
            if demo:
                console.print(suggestions(address), soft_wrap=True, markup=False)
    except grpc.RpcError as error:
        # Stopped while the demo was being put in place: no error. Anything else is one.
        if not stop.is_set():
            raise fail(f"the demo could not be put in place: {error}", ExitCode.REFUSED) from None
    finally:
        if sys.exception() is not None:
            stop.set()
        await serving


def migrate() -> None:
    """Bring the database of CREDITD_POSTGRES_DSN to this release's schema; safe to run from several places at once.

    Example: CREDITD_POSTGRES_DSN=postgresql://creditd@db/creditd creditd migrate
    """
    settings = load_settings(os.environ)
    if settings.postgres_dsn is None:
        raise fail("CREDITD_POSTGRES_DSN must be set")
    dsn = settings.postgres_dsn.get_secret_value()
    applied = asyncio.run(apply_migrations(dsn, report=typer.echo))
    typer.echo(f"{len(applied)} migrations applied" if applied else "the schema is up to date")


def config(as_json: AsJson = False) -> None:
    """Show the effective settings, secrets hidden.

    Example: creditd config
    """
    described = describe(load_settings(os.environ))
    if as_json:
        typer.echo(json.dumps({item.name: item.value for item in described}, indent=2))
        return
    table = Table("variable", "value", "", "meaning", box=None, pad_edge=False)
    for item in described:
        table.add_row(item.name, item.value, "" if item.is_default else "set", item.description)
    Console(highlight=False).print(table)


def health(
    address: Address = DEFAULT_ADDRESS,
    service_name: Annotated[str, typer.Option("--service", help="Service to ask for; all by default.")] = "",
) -> None:
    """Ask a server whether it serves: exit code 0 when it does, 1 when not, 4 when nothing answers.

    Example: creditd health --address 127.0.0.1:50051
    """
    with showing_errors(address), channel(address) as open_channel:
        stub: Any = health_pb2_grpc.HealthStub(open_channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service_name), timeout=5)
        except grpc.RpcError as error:
            if refusal_of(error).status is grpc.StatusCode.NOT_FOUND:
                raise fail(f"no service {service_name!r} is served there", ExitCode.DENIED) from None
            raise
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    typer.echo(status)
    raise typer.Exit(ExitCode.OK if status == "SERVING" else ExitCode.DENIED)


def _run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run until SIGINT or SIGTERM, which drain; a second one ends the process at once."""

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(130)
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
