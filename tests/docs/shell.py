"""Runs a page's commands, one after the other, as if they were typed into one shell."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from tests.docs.not_run import reason_not_run
from tests.docs.pages import ROOT, Step
from tests.docs.printed import Ids, difference

PAGE_ADDRESS: Final = "127.0.0.1:50051"
"""Where the pages say that the server is; the test's own is put in its place."""

TIMEOUT_S: Final = 120
SHOW_CODE: Final = "echo $?"
GRPCURL_FAILED: Final = 64
"""grpcurl's exit code is this plus the number of the status."""

# Variables and folder are kept from command to command. The exit code of the last one is there as `$?`.
_SCRIPT: Final = """\
set -a
[ ! -f "$PAGE_STATE/variables" ] || . "$PAGE_STATE/variables"
[ ! -f "$PAGE_STATE/folder" ] || cd "$(cat "$PAGE_STATE/folder")"
(exit {last})
{command}
page_code=$?
export -p > "$PAGE_STATE/variables"
pwd > "$PAGE_STATE/folder"
exit $page_code
"""


@dataclass
class Shell:
    """A folder with what the commands need, a search path with `creditd` and `grpcurl`, and a server's address."""

    folder: Path
    address: str
    programs: dict[str, Path]
    variables: dict[str, str] = field(default_factory=dict)
    last: int = 0

    def __post_init__(self) -> None:
        self._work, self._state = self.folder / "work", self.folder / "state"
        path = self._work / ".venv" / "bin"
        for made in (path, self._state, self.folder / "home"):
            made.mkdir(parents=True)
        for name, program in self.programs.items():
            (path / name).symlink_to(program)
        for name in ("examples", "protos"):
            shutil.copytree(ROOT / name, self._work / name)
        self._environment = {
            "PATH": f"{path}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder / "home"),
            "PAGE_STATE": str(self._state),
            "CREDITD_ADDRESS": self.address,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "TERM": "dumb",
            "COLUMNS": "100",
            "PYTHONPATH": str(ROOT / "src"),
            **self.variables,
        }

    async def run(self, command: str) -> str:
        """All that a command prints, on both streams; its exit code is `last` then."""
        script = _SCRIPT.format(last=self.last, command=command.replace(PAGE_ADDRESS, self.address))
        process = await asyncio.create_subprocess_exec(
            *("bash", "--norc", "-c", script),
            cwd=self._work,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self.last = process.returncode or 0
        return output.decode().replace(self.address, PAGE_ADDRESS)


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one command: what it printed, and what is wrong with it; "" when nothing is.

    After a wrong exit code (`failed`) the commands that follow tell nothing.
    """

    step: Step
    printed: str
    fault: str
    failed: bool = False


async def run_page(shell: Shell, page: list[Step]) -> AsyncIterator[Ran]:
    """Run a page's commands in order; those of `not_run` are left out."""
    ids = Ids()
    for place, step in enumerate(page):
        if reason_not_run(step.command):
            continue
        printed = await shell.run(ids.in_run(step.command))
        # Where the page shows the code itself, it is compared there.
        shown = place + 1 < len(page) and page[place + 1].command == SHOW_CODE
        expected = shell.last if shown or step.command == SHOW_CODE else expected_code(step)
        if shell.last != expected:
            fault = f"the exit code is {shell.last}, not {expected}:\n{printed}"
            yield Ran(step, printed, fault, failed=True)
        else:
            compared = step.printed.strip()
            yield Ran(step, printed, difference(step.printed, printed, ids) if compared else "")


def expected_code(step: Step) -> int:
    """0, or what grpcurl exits with after the status that the page shows."""
    status = re.search(r"^ERROR:\n  Code: (\w+)\n", step.printed, re.MULTILINE)
    if status is None:
        return 0
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", status[1]).upper()
    number: int = grpc.StatusCode[name].value[0]
    return GRPCURL_FAILED + number


def creditd() -> Path:
    """The command as it is installed beside this interpreter."""
    return Path(sys.executable).parent / "creditd"
