"""README.md and docs/*.md, taken apart: the commands in their ```console blocks, their links, their headings.

Decision records are left out: they tell what was run once, on the machine of that day.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROMPT = "$ "
CONTINUATION = "> "

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>\S*).*$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the line of the page on which its text begins, and the text."""

    language: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command as written, the line of the page that it stands on, and what the page shows as printed."""

    line: int
    command: str
    printed: str


def pages() -> list[Path]:
    """The pages whose commands are run: README.md and those directly in docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def page_name(page: Path) -> str:
    """A page's path below the root, to name tests by."""
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    found, opened, lines = [], None, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, lines = (fence, number), []
        elif fence and not fence["language"] and len(fence["fence"]) >= len(opened[0]["fence"]):
            content = "".join(line.removeprefix(opened[0]["indent"]) + "\n" for line in lines)
            found.append(Block(opened[0]["language"], opened[1] + 1, content))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"the block that begins on line {opened[1]} does not end")
    return found


def outside_blocks(text: str) -> str:
    """The page without its fenced blocks, each of their lines empty, so that line numbers stay."""
    lines = text.splitlines()
    for block in blocks(text):
        for number in range(block.line - 2, block.line + block.text.count("\n")):
            lines[number] = ""
    return "\n".join(lines)


def steps(text: str) -> list[Step]:
    """The commands of a page's ```console blocks, in order."""
    return [step for block in blocks(text) if block.language == "console" for step in _steps_of(block)]


def _steps_of(block: Block) -> list[Step]:
    found: list[Step] = []
    lines = block.text.splitlines()
    place = 0
    while place < len(lines):
        if not lines[place].startswith(PROMPT):
            raise ValueError(
                f"line {block.line + place}: a console block begins with a command, `{PROMPT}...`"
            )
        first = place
        command = lines[place].removeprefix(PROMPT)
        place += 1
        while place < len(lines) and (_is_open(command) or lines[place].startswith(CONTINUATION)):
            command += "\n" + lines[place].removeprefix(CONTINUATION)
            place += 1
        begin = place
        while place < len(lines) and not lines[place].startswith(PROMPT):
            place += 1
        printed = "".join(line + "\n" for line in lines[begin:place])
        found.append(Step(block.line + first, command, printed))
    return found


def _is_open(command: str) -> bool:
    """Whether the shell would read on: after a backslash at the end, and within quotes."""
    if command.endswith("\\"):
        return True
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False
