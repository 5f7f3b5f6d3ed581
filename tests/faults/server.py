"""A creditd server that can be told to fail: `creditd serve` with its failpoints armed and its clock in other hands.

    python -m tests.faults.server '{"listen": "127.0.0.1:0", "postgres_dsn": "...", "redis_url": "...", ...}'

It prints its address once it serves, then takes orders, one JSON object a line, from standard input, whose end ends it:

    {"arm": "after_script", "nth": 3, "action": "kill"}    or "stop", "stall": the third time that it gets there
    {"disarm": true}
    {"clock_ms": -5000}                                    how far its clock is off
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

import uvloop

from creditd import app, logs
from creditd.config import load_settings
from creditd.engine import failpoints

STALL_S = 0.8


class Orders:
    """What this server has been told to do to itself."""

    def __init__(self) -> None:
        self.clock_ms = 0
        self._armed: dict[str, tuple[int, str]] = {}

    def take(self, order: dict[str, Any]) -> None:
        """Follow one order."""
        if "clock_ms" in order:
            self.clock_ms = int(order["clock_ms"])
        if "arm" in order:
            self._armed[order["arm"]] = (int(order["nth"]), order["action"])
            failpoints.arm(self.reached)
        if "disarm" in order:
            self._armed.clear()
            failpoints.arm(None)

    def reached(self, name: str) -> None:
        """A step of a Consume has been reached."""
        if name not in self._armed:
            return
        left, action = self._armed.pop(name)
        if left > 1:
            self._armed[name] = (left - 1, action)
        elif action == "stall":
            time.sleep(STALL_S)  # the whole process, as a page fault or a collection of garbage would
        else:
            os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)

    def wall_ms(self) -> int:
        """The wall clock as this server believes it."""
        return app.wall_ms() + self.clock_ms


async def _take_orders(orders: Orders, stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        orders.take(json.loads(line))
    stop.set()


async def _main(given: dict[str, Any]) -> None:
    settings = load_settings({}, **given)
    logs.configure("INFO", "text")
    orders, stop = Orders(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    taking = asyncio.create_task(_take_orders(orders, stop))
    await app.serve(
        settings, on_ready=lambda address: print(address, flush=True), stop=stop, wall_ms=orders.wall_ms
    )
    taking.cancel()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(json.loads(sys.argv[1])))
