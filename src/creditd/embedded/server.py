"""The life of one embedded server process, whichever server it is."""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from creditd.embedded.account import Account
from creditd.embedded.errors import EmbeddedError, ServerExitedError
from creditd.embedded.lock import DataDirLock
from creditd.embedded.process import (
    all_gone,
    find_processes,
    free_port,
    signal_processes,
    spawn,
    tag_of,
    wait_until,
)

_PORT_ATTEMPTS = 8
_START_TIMEOUT_S = 60.0  # a database that was killed replays its log first
_STOP_TIMEOUT_S = 30.0
_LEFTOVER_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 10.0
_LOG_LIMIT_BYTES = 8 * 1024 * 1024


class EmbeddedServer(ABC):
    """A server on 127.0.0.1 whose process this object owns.

    An async context manager: entering starts the server, leaving stops it. The data directory outlives
    both; only one live object at a time may use it. Start it from a thread that lives as long as the
    server should (on Linux the server is told to stop when that thread ends, even by SIGKILL).
    """

    name: ClassVar[str]
    _stop_signal: ClassVar[signal.Signals]
    """Asks the main process for an orderly end."""
    _leftover_signal: ClassVar[signal.Signals]
    """Ends any process of the server, main or not, without losing what it promised to keep."""

    def __init__(self, data_dir: Path, *, port: int = 0) -> None:
        """Remember where and how to run; nothing is touched before `start`.

        Args:
            data_dir: a directory of this server's own, created when missing.
            port: the TCP port; 0 takes a free one at the first start and keeps it.
        """
        self.data_dir = data_dir.absolute()
        self.log_file = self.data_dir / "server.log"
        self._port = port
        self._lock = DataDirLock(self.data_dir)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The TCP port, the same for the life of this object.

        Raises:
            EmbeddedError: none was asked for, and the server never started.
        """
        if not self._port:
            raise EmbeddedError(f"{self.name} has no port before its first start")
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id of the main process; None when it does not run."""
        return self._process.pid if self._process and self.running else None

    @property
    def running(self) -> bool:
        """Whether the main process is alive."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start the server and wait until it accepts connections; a running one is left alone.

        What an earlier run left on the data directory, processes included, is cleared away first.

        Raises:
            DataDirLockedError: a live object, of this process or another, uses the data directory.
            ServerExitedError: the server gave up; the message has the end of its log.
            EmbeddedError: the server is not installed, or was not ready within a minute.
        """
        if self.running:
            return
        self._lock.acquire()
        try:
            await self._prepare()
            await self._end_leftovers()
            self._rotate_log()
            await self._launch()
        except BaseException:
            self._abandon()
            raise

    async def stop(self) -> None:
        """Shut the server down in order and give the data directory free; harmless when it does not run.

        A server that does not end within half a minute is killed.
        """
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(self._stop_signal)
            if not await wait_until(lambda: process.poll() is not None, _STOP_TIMEOUT_S):
                await self.kill()
        self._process = None
        self._lock.release()

    async def kill(self) -> None:
        """End the server and its children by SIGKILL, as a crash would; the data directory stays owned.

        `restart` or `start` brings it back, `stop` gives the data directory free.
        """
        process = self._process
        if process is not None:
            process.kill()
            await wait_until(lambda: process.poll() is not None, _KILL_TIMEOUT_S)
        self._process = None
        await self._kill_tagged()

    async def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port and data."""
        await self.stop()
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _home(self) -> Path:
        """The directory whose identity tags the processes."""
        return self.data_dir

    @abstractmethod
    async def _prepare(self) -> None:
        """Find the program and make ready its data; called with the data directory locked."""

    @abstractmethod
    def _command(self, port: int, tag: str) -> list[str | Path]:
        """Return the command line; the tag is to show in that of every process it leads to."""

    @abstractmethod
    def _ready(self, pid: int, log: str) -> bool:
        """Return whether the main process, given what it logged so far, accepts connections."""

    @abstractmethod
    def _after_leftovers(self) -> None:
        """Clear away the files that misled a start; called when no process of the server is alive."""

    def _account(self) -> Account | None:
        return None

    def _pass_fds(self) -> tuple[int, ...]:
        return ()

    async def _end_leftovers(self) -> None:
        leftovers = find_processes(tag_of(self._home))
        if leftovers:
            signal_processes(leftovers, self._leftover_signal)
            await wait_until(partial(all_gone, leftovers), _LEFTOVER_TIMEOUT_S)
            await self._kill_tagged()
        self._after_leftovers()

    async def _kill_tagged(self) -> None:
        if not self._home.exists():
            return
        # Again until none is left: a process that is killed may have forked another just before.
        while found := find_processes(tag_of(self._home)):
            signal_processes(found, signal.SIGKILL)
            if not await wait_until(partial(all_gone, found), _KILL_TIMEOUT_S):
                pids = ", ".join(str(process.pid) for process in found)
                raise EmbeddedError(f"{self.name} does not end even when killed (process {pids})")

    async def _launch(self) -> None:
        chosen_here = self._port == 0
        for attempt in range(_PORT_ATTEMPTS):
            port = self._port or free_port()
            try:
                await self._launch_on(port)
            except ServerExitedError as error:
                last = attempt == _PORT_ATTEMPTS - 1
                if last or not (chosen_here and error.address_in_use):
                    raise
            else:
                self._port = port
                return

    async def _launch_on(self, port: int) -> None:
        log_start = self.log_file.stat().st_size if self.log_file.exists() else 0

        def log() -> str:
            with self.log_file.open("rb") as file:
                file.seek(log_start)
                return file.read().decode(errors="replace")

        process = self._process = spawn(
            self._command(port, tag_of(self._home)),
            log_file=self.log_file,
            death_signal=self._stop_signal,
            account=self._account(),
            pass_fds=self._pass_fds(),
        )
        ready = await wait_until(
            lambda: process.poll() is not None or self._ready(process.pid, log()), _START_TIMEOUT_S
        )
        if process.returncode is not None:
            raise ServerExitedError(self.name, process.returncode, self.log_file, log())
        if not ready:
            raise EmbeddedError(
                f"{self.name} was not ready within {_START_TIMEOUT_S:.0f} s; see {self.log_file}"
            )

    def _rotate_log(self) -> None:
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_LIMIT_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.old"))

    def _abandon(self) -> None:
        """Undo a start that failed or was cancelled, without waiting for anything but the kernel."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._lock.release()
