"""One multiplexed connection to Redis or Valkey: many calls in flight, one write per tick of the loop.

redis-py costs 200 to 300 microseconds a call; this costs 15 to 20. A call is handed over once and never taken back:
a caller that is cancelled loses only its wait, the reply is still read and given to the call's own callback, so
replies can't be crossed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

import hiredis
from redis.asyncio.connection import parse_url

from creditd.domain.errors import Unavailable

Reply = Any
"""A reply as hiredis gives it: bytes, int, list, None, or an exception of type hiredis.ReplyError."""

OnReply = Callable[[Reply], None]

IN_FLIGHT_MAX: Final = 20_000
"""Calls that may wait for a reply on one connection; beyond, a call is refused before it is sent."""


class HotUnavailable(Unavailable):
    """The hot store can't be reached. `sent` tells whether the call may have been carried out."""

    reason = "HOT_STORE_UNAVAILABLE"

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and how to greet it; made from a redis://, rediss:// or unix:// URL."""

    host: str
    port: int
    path: str
    tls: bool
    username: str | None
    password: str | None
    database: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address in a URL; ValueError with the schemes that are known when it is not one."""
        parsed: dict[str, Any] = cast("dict[str, Any]", dict(parse_url(url)))
        return cls(
            host=str(parsed.get("host", "127.0.0.1")),
            port=int(parsed.get("port", 6379)),
            path=str(parsed.get("path", "")),
            tls=urlsplit(url).scheme == "rediss",
            username=parsed.get("username"),
            password=parsed.get("password"),
            database=int(parsed.get("db", 0)),
        )

    def greetings(self) -> list[tuple[str, ...]]:
        """The commands that a new connection begins with."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            user = () if self.username is None else (self.username,)
            commands.append(("AUTH", *user, self.password))
        if self.database:
            commands.append(("SELECT", str(self.database)))
        return commands


class Connection(asyncio.Protocol):
    """A connection; make it with `open_connection`. `run_id` is the server's, asked once."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self._waiting: deque[tuple[OnReply, float]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._watchdog: asyncio.TimerHandle | None = None
        self.run_id = ""

    @property
    def closed(self) -> bool:
        """Whether no call can be made any more."""
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._watch()

    def send(self, on_reply: OnReply, *command: str | bytes | int) -> None:
        """Send a command; `on_reply` is called once with its reply, or with a HotUnavailable.

        Raises:
            HotUnavailable: the connection is closed or full; nothing was sent.
        """
        if self.closed:
            raise HotUnavailable("the hot store is not connected", sent=False)
        if len(self._waiting) >= IN_FLIGHT_MAX:
            raise HotUnavailable(f"{IN_FLIGHT_MAX} calls wait for the hot store already", sent=False)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(cast("Any", command)))
        self._waiting.append((on_reply, self._loop.time()))

    def call(self, *command: str | bytes | int) -> asyncio.Future[Reply]:
        """Send a command; the future has its reply. Error replies are raised."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.send(into(future), *command)
        return future

    def close(self, why: str = "closed") -> None:
        """Drop the connection; calls in flight fail with HotUnavailable, outcome unknown."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._fail(why)

    def _flush(self) -> None:
        if self._transport is not None and self._out:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol: gives each reply to its call."""
        self._reader.feed(data)
        while True:
            try:
                reply = self._reader.gets()
            except hiredis.ProtocolError as error:
                self.close(f"the hot store broke the protocol: {error}")
                return
            if reply is Ellipsis:
                return
            if not self._waiting:
                self.close("the hot store sent a reply that nobody asked for")
                return
            on_reply, _since = self._waiting.popleft()
            on_reply(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self.close(f"the connection to the hot store was lost{f': {exc}' if exc else ''}")

    def _fail(self, why: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for on_reply, _since in waiting:
            on_reply(HotUnavailable(why, sent=True))

    def _watch(self) -> None:
        """Drops a connection whose oldest call has had no reply in time: one timer, not one per call."""
        if self._waiting and self._loop.time() - self._waiting[0][1] > self._timeout_s:
            self.close(f"the hot store did not answer in {self._timeout_s} s")
            return
        self._watchdog = self._loop.call_later(self._timeout_s / 4, self._watch)


def into(future: asyncio.Future[Reply]) -> OnReply:
    """Settles a future with a reply, unless the one who waited is gone."""

    def settle(reply: Reply) -> None:
        if future.done():
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    return settle


async def open_connection(address: Address, timeout_s: float) -> Connection:
    """Connect, greet and learn the server's run id.

    Raises:
        HotUnavailable: it is not reachable in time, or refuses the credentials.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            if address.path:
                await loop.create_unix_connection(lambda: connection, address.path)
            else:
                context = ssl.create_default_context() if address.tls else None
                await loop.create_connection(lambda: connection, address.host, address.port, ssl=context)
            for command in address.greetings():
                await connection.call(*command)
            info = await connection.call("INFO", "server")
            connection.run_id = _run_id(info)
            return connection
    except (OSError, TimeoutError, hiredis.ReplyError, HotUnavailable) as error:
        connection.close()
        raise HotUnavailable(f"can't connect to the hot store: {error or 'timed out'}", sent=False) from error


def _run_id(info: bytes) -> str:
    for line in info.splitlines():
        if line.startswith(b"run_id:"):
            return line[7:].decode()
    raise HotUnavailable("the hot store does not tell its run id (INFO server)", sent=False)
