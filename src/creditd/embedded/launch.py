"""Becomes a server process that does not outlive its parent; run as a script, never imported.

``python -I -S launch.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENT...``; UID and GID of -1 keep
the present ones. A script of its own and not a ``preexec_fn``, because running Python between fork
and exec can deadlock in a process that has threads, and a gRPC server has.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
# Nothing of the caller's environment (PGDATA, locale, LD_PRELOAD, secrets) reaches a server.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def main(arguments: list[str]) -> None:
    """Change the user, tie this process to its parent, and become the command."""
    parent, death_signal, uid, gid = map(int, arguments[:4])
    command = arguments[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user, which would clear it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before it was watched
        sys.exit("the process that started this one is gone")
    os.chdir("/")
    os.umask(0o077)
    os.execve(command[0], command, _ENVIRONMENT)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
