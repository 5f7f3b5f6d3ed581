"""The user that PostgreSQL runs as when this process is root, which PostgreSQL refuses to be.

The files stay where they are asked for, even below a directory that is closed to that user, such
as /root: PostgreSQL is given its data directory as an open descriptor, and its programs are copied
to a place that everybody can read.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from creditd.embedded.errors import EmbeddedError

_CANDIDATES = ("nobody", "postgres")
_CACHE = Path("/var/cache/creditd")


@dataclass(frozen=True, slots=True)
class Account:
    """A user without rights."""

    uid: int
    gid: int


def account_for(data_dir: Path) -> Account | None:
    """Return whom to run PostgreSQL as: None unless this process is root.

    An existing data directory belongs to the user that it was made by.

    Raises:
        EmbeddedError: there is no such user.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists() and (owner := data_dir.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no user 'nobody' or 'postgres' to run it as: "
        "run creditd as an ordinary user"
    )


def can_reach(path: Path, account: Account) -> bool:
    """Return whether the user may enter every directory above a path."""
    return all(_may_enter(folder, account) for folder in path.resolve().parents)


def _may_enter(folder: Path, account: Account) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def reachable_package(package: Path, version: str, account: Account, cache: Path = _CACHE) -> Path:
    """Return the package's directory, or a copy of it that the user can reach.

    A wheel keeps shared libraries in a directory beside the package, which goes along.
    """
    if can_reach(package / "any", account):
        return package
    target = cache / f"{package.name}-{version}"
    if not target.exists():
        # Made aside and renamed, so that a copy that was interrupted is never used.
        making = cache / f"making-{os.getpid()}"
        cache.mkdir(parents=True, exist_ok=True)
        cache.chmod(0o755)
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                ignore = shutil.ignore_patterns("include", "__pycache__", "*.a")
                shutil.copytree(source, making / source.name, symlinks=True, ignore=ignore)
        for folder in (making, *(path for path in making.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        try:
            making.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(making)
            if not target.exists():
                raise
    return target / package.name
