"""One process at a time on a data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from creditd.embedded.errors import DataDirLockedError


class DataDirLock:
    """An exclusive lock on ``<data_dir>/lock``, held until `release` or the death of the process.

    The kernel drops the lock with its holder, so what a killed process left is no obstacle. The file
    stays: were it removed, two processes could each hold the lock of another file of that name.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock, creating the directory if need be, without waiting.

        Raises:
            DataDirLockedError: another process, or another lock object of this one, holds it.
        """
        if self._descriptor is not None:
            return
        self._data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0)
            os.close(descriptor)
            pid = int(holder) if holder.isdigit() else None
            raise DataDirLockedError(self._data_dir, pid) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock up; without it, do nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
