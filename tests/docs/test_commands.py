"""Every command of README.md and docs/*.md runs as it is written, and prints what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.conftest import MakeShell
from tests.docs.not_run import reason_not_run
from tests.docs.pages import blocks, page_name, pages, steps
from tests.docs.shell import run_page

WITH_COMMANDS = [page for page in pages() if steps(page.read_text())]
SHELLS = {"sh", "bash", "shell", "zsh", "terminal", "shell-session"}


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_name)
async def test_the_commands_of_a_page_do_what_it_shows(page: Path, make_shell: MakeShell) -> None:
    wanted = steps(page.read_text())
    if all(reason_not_run(step.command) for step in wanted):
        pytest.skip("every command of the page is run elsewhere, as tests/docs/not_run.py says")
    shell = await make_shell(wanted)
    faults = []
    async for ran in run_page(shell, wanted):
        if ran.fault:
            faults.append(f"{page_name(page)}:{ran.step.line}: $ {ran.step.command}\n{ran.fault}")
        if ran.failed:
            break
    assert not faults, "\n\n".join(faults)


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_commands_stand_in_console_blocks_where_they_are_run(page: Path) -> None:
    """A block of another name would be run by nobody."""
    astray = [block.line for block in blocks(page.read_text()) if block.language in SHELLS]
    assert astray == [], f"{page_name(page)}: write ```console, with `$ ` before each command"
