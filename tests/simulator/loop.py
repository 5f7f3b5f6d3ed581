"""An event loop in simulated time, with processes that can be stopped at any await point.

`time()` stands still while callbacks run and jumps to the next timer when none is ready. Callbacks that are ready run
in the order in which they were scheduled, as asyncio promises; timers of one instant run in an order that the seed
decides. There is no I/O and there are no threads: the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any


class Process:
    """What runs in it runs only while it is alive and not paused."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.paused = False
        self.backlog: list[asyncio.Handle] = []
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def crash(self) -> None:
        """Nothing of it ever runs again: no handler, no finally."""
        self.alive = False
        self.backlog.clear()

    def pause(self) -> None:
        """As SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """As SIGCONT: all that became due meanwhile runs now."""
        self.paused = False
        self.loop.ready.extend(self.backlog)
        self.backlog.clear()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Run a coroutine in the process."""
        return self.loop.create_task(work, name=name or self.name, context=self.context.copy())


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Stuck(Exception):
    """Nothing is ready, no timer is set, and what is waited for has not come."""


class SimLoop(asyncio.AbstractEventLoop):
    """The loop; `run` is its only entrance."""

    def __init__(self, source: random.Random) -> None:
        self.now = 0.0
        self.ready: deque[asyncio.Handle] = deque()
        self.unhandled: list[str] = []
        self.steps = 0
        # What a transport to a path is made by; the simulated network sets it.
        self.connector: Callable[[str, asyncio.Protocol], asyncio.Transport] | None = None
        self._timers: list[tuple[float, float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._order = source.random
        self._tasks: list[asyncio.Task[Any]] = []
        self._closed = False

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run until `work` is done; what else is under way then is dropped by `dispose`."""
        events._set_running_loop(self)
        try:
            task = self.create_task(work)
            ready, timers, pop = self.ready, self._timers, heapq.heappop
            while not task.done():
                if ready:
                    handle = ready.popleft()
                elif timers:
                    when, _order, _count, handle = pop(timers)
                    if when > self.now and not handle._cancelled:
                        self.now = when
                else:
                    raise Stuck(f"nothing will ever happen after {self.now:.3f} s")
                if handle._cancelled:
                    continue
                process = handle._context.get(PROCESS)
                if process is not None and (process.paused or not process.alive):
                    if process.alive:
                        process.backlog.append(handle)
                    continue
                self.steps += 1
                handle._run()
            return task.result()
        finally:
            events._set_running_loop(None)

    def dispose(self) -> None:
        """Take what never ended apart; what it says on its way out is nobody's."""
        events._set_running_loop(self)
        self._closed = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False
                for _ in range(20):
                    try:
                        task.get_coro().close()
                    except BaseException:
                        continue
                    break
        self.ready.clear()
        self._timers.clear()
        del tasks
        events._set_running_loop(None)

    # What asyncio and the code under test use of a loop.

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._order(), self._count, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        # Held on to: a task that nobody refers to any more would be taken apart at once, and its handlers run.
        self._tasks.append(task)
        if len(self._tasks) > 5_000:
            self._tasks = [each for each in self._tasks if not each.done()]
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    async def create_unix_connection(
        self, protocol_factory: Callable[[], asyncio.Protocol], path: str, **_settings: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        protocol = protocol_factory()
        if self.connector is None:
            raise OSError(f"no network to {path}")
        transport = self.connector(path, protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)
