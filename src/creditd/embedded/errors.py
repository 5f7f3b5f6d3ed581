"""What can go wrong with an embedded server, in words for the person who started it."""

from __future__ import annotations

from pathlib import Path


class EmbeddedError(Exception):
    """A server could not be found, started or stopped; the message says what to do."""


class DataDirLockedError(EmbeddedError):
    """Another live process uses the data directory; `pid` is its process id, if it could be read."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{data_dir} is in use by {holder}: stop it, or choose another data directory")
        self.data_dir = data_dir
        self.pid = pid


class ServerExitedError(EmbeddedError):
    """A server ended before it was ready; `log` is what it wrote."""

    def __init__(self, name: str, code: int, log_file: Path, log: str) -> None:
        last_lines = "\n  ".join(log.strip().splitlines()[-12:])
        super().__init__(f"{name} ended with exit code {code}; the end of {log_file}:\n  {last_lines}")
        self.log = log

    @property
    def address_in_use(self) -> bool:
        """Whether the port was taken."""
        return "Address already in use" in self.log
