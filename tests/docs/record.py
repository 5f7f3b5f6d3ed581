"""Writes into a page what its commands print now: `python -m tests.docs.record docs/grpcurl.md`.

Only what differs is written, and where a command has no output on the page, none comes in: put a line with `?` there to
get it. Lines of `...` are lost where it writes. Read the difference before you commit it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from tests.docs.pages import steps
from tests.docs.shell import Ran, Shell, creditd, run_page
from tests.e2e.conftest import dev
from tests.interop.conftest import go_program


async def record(page: Path) -> None:
    """Run a page on a server of its own and write what it printed."""
    text = page.read_text()
    grpcurl = go_program("github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.3")
    with tempfile.TemporaryDirectory() as folder:
        async with dev(Path(folder) / "data") as server:
            shell = Shell(Path(folder) / "page", server.address, {"creditd": creditd(), "grpcurl": grpcurl})
            ran = [each async for each in run_page(shell, steps(text))]
            await server.stop(signal.SIGTERM)
    page.write_text(with_output(text, ran))
    for each in ran:
        if each.fault:
            print(f"{page}:{each.step.line}: $ {each.step.command}\n{each.fault}\n")


def with_output(text: str, ran: list[Ran]) -> str:
    """The page with what was printed where it shows something else."""
    lines = text.splitlines()
    for each in reversed(ran):
        if each.fault:
            begin = each.step.line - 1 + len(each.step.command.splitlines())
            end = begin + len(each.step.printed.splitlines())
            lines[begin:end] = [line.rstrip() for line in each.printed.strip("\n").splitlines()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        asyncio.run(record(Path(name)))
