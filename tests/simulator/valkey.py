"""Nodes of a hot store: databases of one real Valkey, asked over a socket at the instants that the simulation sets.

The real `HotStore`, its `Connection` and the real scripts run; only the transport between them and the server is
simulated: it delays, cuts and loses as a TCP connection does, in order. A node has a run id of its own, which
connections are told instead of the server's.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextvars import Context
from hashlib import sha1
from pathlib import Path
from typing import Any, Self

import hiredis
from lupa import lua51
from tests.simulator.loop import PROCESS, Process, SimLoop
from tests.simulator.weather import Fate, Weather

from creditd.embedded.wheels import valkey_server

_DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('DUMP', key)
end
return found
"""


_TICK = 1e-9
"""What keeps apart, in s, what goes over one connection one after the other."""

_REFUSALS = (
    b"-LOADING Valkey is loading the dataset in memory\r\n",
    b"-BUSY Valkey is busy running a script.\r\n",
    b"-MASTERDOWN Link with MASTER is down\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
)


class RealValkey:
    """A Valkey of the simulator's own, on a socket in a directory that goes with it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="simulator-"))
        self.path = str(self._folder / "s")
        settings = {
            "port": "0",
            "unixsocket": self.path,
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder),
            "logfile": str(self._folder / "log"),
            # Small encodings keep the order of insertion: what a script or a sweep sees doesn't depend on a hash seed.
            "hash-max-listpack-entries": "100000",
            "hash-max-listpack-value": "1000000000",
            "io-threads": "1",
            "databases": "4",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._server = subprocess.Popen([valkey_server(), *options], stdout=subprocess.DEVNULL)
        for _ in range(500):
            if Path(self.path).exists():
                break
            time.sleep(0.01)
        else:
            self.close()
            raise RuntimeError("the simulator's Valkey did not start")

    def database(self, number: int) -> Real:
        """One of its databases, empty."""
        return Real(self, number)

    def close(self) -> None:
        """Stop the server."""
        self._server.terminate()
        self._server.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_why: object) -> None:
        self.close()


class _Line:
    """A connection that waits for each answer."""

    def __init__(self, path: str, database: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self.ask("SELECT", database)

    def send(self, data: bytes, replies: int) -> bytes:
        """Send commands; what the server says to so many."""
        self._socket.sendall(data)
        reader = hiredis.Reader(notEnoughData=Ellipsis)
        received = []
        while True:
            chunk = self._socket.recv(1 << 20)
            if not chunk:
                raise RuntimeError("the simulator's Valkey went away")
            received.append(chunk)
            reader.feed(chunk)
            while replies and reader.gets() is not Ellipsis:
                replies -= 1
            if not replies:
                return received[0] if len(received) == 1 else b"".join(received)

    def ask(self, *command: Any) -> Any:
        """Call one command; error replies are raised."""
        reader = hiredis.Reader()
        reader.feed(self.send(hiredis.pack_command(command), 1))
        reply = reader.gets()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self._socket.close()


class Real:
    """A database of a real Valkey."""

    def __init__(self, server: RealValkey, database: int) -> None:
        self._line = _Line(server.path, database)
        self.ask("FLUSHDB")

    def ask(self, *command: Any) -> Any:
        """Call a command; error replies are raised."""
        return self._line.ask(*command)

    def execute(self, commands: list[Any], *, full: bool) -> bytes:
        """Carry out commands; `full` as a server does that has no memory left."""
        data = b"".join(hiredis.pack_command(tuple(command)) for command in commands)
        if not full:
            return self._line.send(data, len(commands))
        self._line.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            return self._line.send(data, len(commands))
        finally:
            self._line.ask("CONFIG", "SET", "maxmemory", "0")

    def dump(self) -> Any:
        """All keys, of one instant."""
        flat = self._line.ask("EVAL", _DUMP, 0)
        return dict(sorted(zip(flat[::2], flat[1::2], strict=True)))

    def load(self, keys: Any) -> None:
        """Have exactly these keys; None = none."""
        self._line.ask("FLUSHDB")
        for key, value in (keys or {}).items():
            self._line.ask("RESTORE", key, 0, value)

    def close(self) -> None:
        """Leave the database empty."""
        self._line.ask("FLUSHDB")
        self._line.close()


class Embedded:
    """A database of the Lua 5.1 in this process, with embedded.lua around the scripts. It never waits for a socket."""

    def __init__(self, scripts: _Scripts) -> None:
        self._scripts = scripts
        self._db = scripts.new_db()

    def ask(self, *command: Any) -> Any:
        """Call a command; error replies are raised."""
        words = [each if isinstance(each, bytes) else str(each).encode() for each in command]
        reader = hiredis.Reader()
        reader.feed(self._one(words, full=False))
        reply = reader.gets()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def execute(self, commands: list[Any], *, full: bool) -> bytes:
        """Carry out commands; `full` as a server does that has no memory left."""
        return b"".join([self._one(command, full=full) for command in commands])

    def _one(self, command: list[bytes], *, full: bool) -> bytes:
        scripts = self._scripts
        if command[0] == b"SCRIPT":
            if command[1] == b"FLUSH":
                scripts.forget_scripts()
                return b"+OK\r\n"
            digest = sha1(command[2], usedforsecurity=False).hexdigest().encode()
            scripts.keep_script(digest, command[2])
            return b"$40\r\n%b\r\n" % digest
        if command[0] == b"EVAL":
            digest = sha1(command[1], usedforsecurity=False).hexdigest().encode()
            found: bytes = scripts.eval(self._db, full, digest, command[1], int(command[2]), *command[3:])
            return found
        reply: bytes = scripts.execute(self._db, full, *command)
        return reply

    def dump(self) -> Any:
        """All keys, of one instant."""
        return self._scripts.copy(self._db)

    def load(self, keys: Any) -> None:
        """Have exactly these keys; None = none."""
        self._db = self._scripts.new_db() if keys is None else self._scripts.copy(keys)

    def close(self) -> None:
        """Nothing is held."""


class _Scripts:
    """A Lua 5.1 with embedded.lua."""

    def __init__(self) -> None:
        text = (Path(__file__).parent / "embedded.lua").read_bytes()
        runtime = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        found = runtime.execute(text)
        self.execute, self.eval, self.keep_script, self.forget_scripts, self.new_db, self.copy = found


class EmbeddedStores:
    """Makes embedded databases, which share a script cache as those of a server do."""

    def __init__(self) -> None:
        self._scripts = _Scripts()

    def database(self, _number: int) -> Embedded:
        return Embedded(self._scripts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_why: object) -> None:
        pass


Database = Real | Embedded
Stores = RealValkey | EmbeddedStores


class Node:
    """One hot store as those who connect to it see it."""

    def __init__(self, name: str, database: Database, source: random.Random) -> None:
        self.name = name
        self.up = True
        self.full = False
        self.links: list[Link] = []
        self.snapshots: list[Any] = []
        self._source = source
        self._database = database
        self.ask = database.ask
        self.dump = database.dump
        self.load = database.load
        self.run_id = ""
        self.new_run()

    def new_run(self) -> None:
        """As after a restart: another run id, and all connections gone."""
        self.run_id = f"{self._source.getrandbits(160):040x}"
        for link in list(self.links):
            link.reset()

    def execute(self, commands: list[Any]) -> bytes:
        """Carry out commands now."""
        return self._database.execute(commands, full=self.full)

    def keys(self, part: bytes) -> list[bytes]:
        """The keys with a text in them, in order."""
        return sorted(key for key in self.ask("KEYS", "*") if part in key)

    def close(self) -> None:
        """Give the database back."""
        self._database.close()


class Network:
    """Brings processes to nodes. `route` says which node a process reaches now; None = none."""

    def __init__(self, loop: SimLoop, weather: Weather, outside: Context, trace: Callable[..., None]) -> None:
        self.loop = loop
        self.weather = weather
        self.outside = outside
        self.trace = trace
        self.route: Callable[[Process], Node | None] = lambda _process: None
        loop.connector = self.connect

    def connect(self, _path: str, protocol: asyncio.Protocol) -> Link:
        """A connection of the running process to its node."""
        process = PROCESS.get()
        node = None if process is None else self.route(process)
        if process is None or node is None or not node.up:
            raise ConnectionRefusedError("connection refused")
        return Link(self, process, node, protocol)


class Link(asyncio.Transport):
    """A connection: what is written arrives in order, and so do the replies, until it is cut."""

    def __init__(self, network: Network, process: Process, node: Node, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._network = network
        self._process = process
        self._node = node
        self._protocol = protocol
        self._closed = False
        self._cut = False
        self._there = 0.0
        self._back = 0.0
        node.links.append(self)

    def is_closing(self) -> bool:
        return self._closed

    def is_of(self, process: Process) -> bool:
        """Whether it is a connection of the process."""
        return self._process is process

    def abort(self) -> None:
        """The process closes its end: what is on its way may still arrive."""
        self._closed = True
        if self in self._node.links:
            self._node.links.remove(self)

    close = abort

    def reset(self) -> None:
        """The server's end is gone: nothing more arrives, and the process is told."""
        if not self._cut:
            self._cut = True
            if self in self._node.links:
                self._node.links.remove(self)
            self._after(self._network.weather.delay(), self._lost)

    def _lost(self) -> None:
        if not self._closed:
            self._closed = True
            self._protocol.connection_lost(ConnectionResetError("connection reset by peer"))

    def _after(self, delay: float, callback: Callable[..., None], *args: Any) -> None:
        """Something that the process gets to see."""
        loop = self._network.loop
        self._back = max(self._back + _TICK, loop.now + delay)
        loop.call_at(self._back, callback, *args, context=self._process.context)

    def write(self, data: bytes) -> None:
        if self._closed:
            return
        network = self._network
        weather, loop = network.weather, network.loop
        reader = hiredis.Reader(notEnoughData=Ellipsis)
        reader.feed(data)
        commands = []
        while (command := reader.gets()) is not Ellipsis:
            commands.append(command)
        if len(commands) > 1 and weather.happens(0.3):
            place = 1 + weather.below(len(commands) - 1)
            parts = [commands[:place], commands[place:]]
        else:
            parts = [commands]
        for part in parts:
            fate = weather.fate(weather.hot)
            if fate is not Fate.FINE:
                network.trace("hot", self._process.name, fate.name, len(part))
            there = weather.long_delay() if fate in {Fate.SLOW, Fate.LATE} else weather.delay()
            self._there = max(self._there + _TICK, loop.now + there)
            loop.call_at(self._there, self._arrive, part, fate, context=network.outside)
            if fate is Fate.LATE:
                # The process sees its connection break; what it has sent is under way all the same.
                self._after(weather.delay(), self._lost)

    def _arrive(self, commands: list[Any], fate: Fate) -> None:
        if self._cut or not self._node.up:
            self.reset()
            return
        if fate is Fate.LOST:
            self.reset()
            return
        if fate is Fate.REFUSED:
            reply = self._network.weather.one_of(_REFUSALS) * len(commands)
        elif commands[0][0] == b"INFO":
            told = f"run_id:{self._node.run_id}\r\n".encode()
            reply = b"$%d\r\n%b\r\n" % (len(told), told)
        else:
            reply = self._node.execute(commands)
        if fate is Fate.UNANSWERED:
            self.reset()
            return
        weather = self._network.weather
        back = weather.long_delay() if fate is Fate.SLOW else weather.delay()
        self._after(back, self._receive, reply)

    def _receive(self, reply: bytes) -> None:
        if not self._closed:
            self._protocol.data_received(reply)
