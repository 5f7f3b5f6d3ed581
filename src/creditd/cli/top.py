"""`creditd top`: what a server does right now."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Final

import grpc
import typer
from rich.console import Console
from rich.live import Live

from creditd.cli.client import (
    Address,
    AsJson,
    Context,
    Server,
    aio_channel,
    chosen_server,
    showing_errors,
)
from creditd.cli.output import ExitCode, fail
from creditd.cli.top_rates import Interval, interval_of
from creditd.cli.top_view import View, plain, screen
from creditd.v1 import diagnostics_pb2 as pb
from creditd.v1.diagnostics_pb2_grpc import DiagnosticsStub

_CALL_TIMEOUT_S: Final = 5.0
_MINUTE_S: Final = 60.0
_GONE: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


def top(
    *,
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one interval and end.")] = False,
    accounts: Annotated[int, typer.Option(min=1, max=100, help="Hottest accounts to show.")] = 20,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Watch a server: decisions a second, denials, the hottest accounts, latencies, the ledger. `q` quits.

    Shows the process that answers; calls of `top` itself are left out. Where stdout is no terminal it prints one
    interval. With --json it prints one object for each interval, until it is stopped.

    Example:
      creditd top --once
    """
    server = chosen_server(address, context)
    watch = Watch(server, interval, accounts)
    whole_screen = not (once or as_json) and sys.stdout.isatty()
    with showing_errors(server):
        try:
            if whole_screen:
                asyncio.run(_live(watch))
            else:
                asyncio.run(_printed(watch, once=once or not as_json, as_json=as_json))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            raise fail(
                f"the server at {server.address} is too old: it does not serve Diagnostics", ExitCode.REFUSED
            ) from None


class Watch:
    """Looks at a server again and again, and keeps what a minute of it was."""

    def __init__(self, server: Server, interval_s: float, accounts: int) -> None:
        self._server = server
        self._interval_s = interval_s
        self._request = pb.GetServerStatsRequest(hottest_max=accounts)
        self._history: deque[float | None] = deque(maxlen=max(1, round(_MINUTE_S / interval_s)))
        self._latest: pb.ServerStats | None = None

    async def views(self, stop: asyncio.Event) -> AsyncIterator[View]:
        """A view for each look, the first one without rates; ends when `stop` is set.

        Raises:
            AioRpcError: the server was never there, or refuses the call.
        """
        loop = asyncio.get_running_loop()
        stopping = asyncio.create_task(stop.wait())
        async with aio_channel(self._server) as channel:
            stub = DiagnosticsStub(channel)
            due = loop.time()
            while not stop.is_set():
                looking = asyncio.ensure_future(self._look(stub))
                await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not looking.done():
                    looking.cancel()
                    break
                yield looking.result()
                # After a pause, such as a suspended terminal, there is nothing to catch up with.
                due = max(due + self._interval_s, loop.time())
                await asyncio.wait({stopping}, timeout=due - loop.time())
        stopping.cancel()

    async def _look(self, stub: DiagnosticsStub) -> View:
        before = self._latest
        try:
            stats: pb.ServerStats = await stub.GetServerStats(self._request, timeout=_CALL_TIMEOUT_S)  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            if before is None or error.code() not in _GONE:
                raise
            self._history.append(None)
            trouble = f"no answer ({error.code().name}), reconnecting ..."
            return self._view(before, None, trouble)
        found = None if before is None else interval_of(before, stats)
        if before is not None:
            self._history.append(None if found is None else found.decisions_per_s)
        self._latest = stats
        return self._view(stats, found)

    def _view(self, stats: pb.ServerStats, interval: Interval | None, trouble: str = "") -> View:
        return View(
            address=str(self._server),
            stats=stats,
            interval=interval,
            history=tuple(self._history),
            history_max=self._history.maxlen or 1,
            trouble=trouble,
        )


async def _live(watch: Watch) -> None:
    """The whole screen, until `q` or a signal; the terminal is as before afterwards."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    console = Console(highlight=False)
    shown: View | None = None
    views = watch.views(stop)
    # Before the screen is taken: a server that is not there is an error, not an empty screen.
    first = await anext(views)
    with _keys(stop), Live(console=console, screen=True, auto_refresh=False) as live:

        def draw() -> None:
            if shown is not None:
                width, height = console.size
                live.update(screen(shown, width, height), refresh=True)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGWINCH, draw)
        shown = first
        draw()
        async for shown in views:  # noqa: B007 - draw() reads it
            draw()


async def _printed(watch: Watch, *, once: bool, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    first = True
    async for view in watch.views(stop):
        if first:  # has no interval before it
            first = False
            continue
        if as_json:
            typer.echo(json.dumps(_as_dict(view)))
        else:
            Console(highlight=False, soft_wrap=False).print(plain(view))
        if once:
            stop.set()
    if once and not stop.is_set():
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _as_dict(view: View) -> dict[str, Any]:
    """For --json: latencies in seconds, amounts in micros; `interval` is null where there is none."""
    if view.trouble:
        return {"address": view.address, "trouble": view.trouble}
    stats = view.stats
    interval = None
    if view.interval is not None:
        interval = asdict(view.interval) | {"decisions_per_s": view.interval.decisions_per_s}
        interval["denials"] = dict(view.interval.denials)
        interval["commits"]["units_per_flight"] = view.interval.commits.units_per_flight
    return {
        "address": view.address,
        "instance_id": stats.instance_id,
        "version": stats.version,
        "transport": stats.transport,
        "started_at": stats.started_at.ToJsonString(),
        "now": stats.now.ToJsonString(),
        "hot_store_reachable": stats.hot_store_reachable,
        "ledger_reachable": stats.ledger_reachable,
        "outbox_depth": stats.outbox_depth if stats.HasField("outbox_depth") else None,
        "queued": stats.commits.queued,
        "cached_policies": stats.cached_policies,
        "interval": interval,
        "hottest": [_account(hot) for hot in stats.hottest.accounts],
        "hottest_window_s": stats.hottest.window.ToMilliseconds() / 1000,
    }


def _account(hot: pb.HotAccount) -> dict[str, Any]:
    return {
        "account": hot.account,
        "decisions": hot.decisions,
        "decisions_missed_max": hot.decisions_missed_max,
        "denials": hot.denials,
        "burned_micros": hot.burned_micros,
    }


@contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """Keys act at once and are not echoed; `q` stops. Without a terminal to type at, nothing happens."""
    if not sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def on_key() -> None:
        typed = os.read(number, 64)
        if not typed or b"q" in typed.lower():
            stop.set()

    tty.setcbreak(number)
    loop.add_reader(number, on_key)
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)
