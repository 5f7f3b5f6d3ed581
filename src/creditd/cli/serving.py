"""Running a server: what `creditd dev`, `serve`, `migrate` and `config` do.

Apart from `server`, which declares them: what a server needs takes half a second to import, and commands that only
talk to one don't wait for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import uvloop
from platformdirs import user_data_path
from rich.console import Console

from creditd import app as service
from creditd import logs
from creditd.cli.demo_data import install_demo, suggestions
from creditd.cli.output import Column, ExitCode, fail, show, styled, table, write
from creditd.config import ConfigError, Settings, describe, load_settings
from creditd.domain.errors import CreditdError
from creditd.embedded import EmbeddedError, embedded_servers
from creditd.ledger import SchemaError
from creditd.ledger import migrate as apply_migrations

_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


@contextmanager
def telling_problems() -> Iterator[None]:
    """What is wrong with the settings or the stores is one message, not a traceback."""
    try:
        yield
    except (ConfigError, ValueError) as error:
        raise fail(str(error)) from None
    except SchemaError as error:
        raise fail(f"{error}; `creditd migrate` brings it up to date", ExitCode.REFUSED) from None
    except (CreditdError, OSError) as error:
        raise fail(str(error), ExitCode.UNAVAILABLE) from None


def serve(listen: str | None, transport: str | None, environ: Mapping[str, str]) -> None:
    """Serve until a signal says to stop."""
    settings = load_settings(environ, listen=listen, transport=transport)
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
    listen: str, data_dir: Path | None, transport: str | None, environ: Mapping[str, str], *, demo: bool
) -> None:
    """Serve on embedded stores until a signal says to stop."""
    if not listen.startswith(_LOOPBACK):
        raise fail(f"`creditd dev` has no keys, so it serves on loopback only, not on {listen}")
    where = data_dir or user_data_path("creditd") / "dev"
    console = Console(highlight=False)

    async def run(stop: asyncio.Event) -> None:
        async with embedded_servers(where) as servers:
            settings = load_settings(
                environ,
                postgres_dsn=servers.dsn,
                redis_url=servers.url,
                listen=listen,
                transport=transport,
                test_clocks=True,
                log_format="text",
                log_level=None if "CREDITD_LOG_LEVEL" in environ else "WARNING",
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


def migrate(environ: Mapping[str, str]) -> None:
    """Apply the migrations that are missing."""
    settings = load_settings(environ)
    if settings.postgres_dsn is None:
        raise fail("CREDITD_POSTGRES_DSN must be set")
    dsn = settings.postgres_dsn.get_secret_value()
    applied = asyncio.run(apply_migrations(dsn, report=show))
    show(f"{len(applied)} migrations applied" if applied else "the schema is up to date")


def config(environ: Mapping[str, str], *, as_json: bool) -> None:
    """Print the effective settings."""
    described = describe(load_settings(environ))
    if as_json:
        write(json.dumps({item.name: item.value for item in described}, indent=2) + "\n")
        return
    rows = [
        (item.name, item.value, styled("" if item.is_default else "set", "green"), item.description)
        for item in described
    ]
    show(table((Column("variable", style="cyan"), "value", "", "meaning"), rows))


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
