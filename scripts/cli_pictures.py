"""Pictures of the command line for the docs: runs the real commands on a real server, in a terminal in memory.

PICTURES says what is shown. Ids, dates and latencies are those of the run; everything else is the same each time.

Run: make pictures, or: python scripts/cli_pictures.py [NAME ...] [--port 50051]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.terminal_theme import TerminalTheme
from rich.text import Text
from terminal import Terminal

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
COLUMNS = 100
TRACE_ROWS = 20_000
LOAD_S, LOAD_RATE = 75, 250
CHAT = """\
demo chat --attributes model=gpt-4o \\
    --usage input_tokens=1000,output_tokens=500"""

REPLAY = """\
creditd replay trace.csv --account acme --feature chat --attributes model=gpt-4o \\
    --map input_tokens=ContextTokens,output_tokens=GeneratedTokens"""

EDITS = (
    ("{meter: output_tokens, credits: 1, per: 1000", "{meter: output_tokens, credits: 1.2, per: 1000"),
    ("- {credit: credits, amount: 5000}", "- {credit: credits, amount: 6000}"),
    ("limit: {max: 1000, per: day}", "limit: {max: 2500, per: day}"),
    ("default_value: 8192", "default_value: 16384"),
)
"""What catalog.yaml has otherwise than the catalog of the demo."""


def midway(screen: str) -> bool:
    """Whether a progress bar on the screen is about half full: `9,100/20,000`, or `45%`."""
    if found := re.search(r"\b([\d,]+)/([\d,]+)\b", screen):
        done, total = (int(number.replace(",", "")) for number in found.groups())
        return 0.4 * total < done < total
    return bool(re.search(r"\b[4-9]\d%", screen))


@dataclass(frozen=True)
class Picture:
    """One picture: commands as they are typed, one after the other.

    `moment` takes it while the last command runs, as soon as the screen is so; else it is taken at the end. With
    `lines` the picture is a whole screen of a command that fills it, without the prompt.
    """

    name: str
    commands: tuple[str, ...]
    moment: Callable[[str], bool] | None = None
    lines: int = 0
    seconds: int = 0


PICTURES = (
    Picture("check", (f"creditd check {CHAT} --explain", "creditd check wonka image")),
    Picture("consume", (f"creditd consume {CHAT} --idempotency-key request-1",)),
    Picture("balance", ("creditd balance demo",)),
    Picture("explain", ("creditd explain demo chat --attributes model=gpt-4o --quantity 7000000",)),
    Picture("account", ("creditd account get demo",)),
    Picture("ledger", ("creditd ledger list demo",)),
    Picture("catalog-diff", ("creditd catalog diff catalog.yaml",)),
    Picture(
        "replay-progress",
        (REPLAY,),
        moment=midway,
    ),
    Picture(
        "replay",
        (REPLAY,),
    ),
    Picture("top", ("creditd top",), lines=30, seconds=66),
)

# rich's own window, without the fonts that it would have the reader's browser fetch.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
THEME = TerminalTheme(
    (30, 33, 39),
    (209, 213, 219),
    [
        (58, 63, 75),
        (240, 113, 120),
        (126, 200, 120),
        (234, 190, 100),
        (105, 160, 240),
        (198, 140, 230),
        (86, 190, 205),
        (209, 213, 219),
    ],
    [
        (128, 136, 150),
        (250, 130, 136),
        (150, 220, 140),
        (245, 205, 120),
        (130, 180, 255),
        (215, 160, 245),
        (110, 210, 225),
        (245, 247, 250),
    ],
)


def main() -> int:
    """Takes the pictures that are named, or all; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures to take; all by default")
    parser.add_argument("--port", type=int, default=50051, help="the server's; it is seen in `top`")
    parser.add_argument("--output", type=Path, default=IMAGES, help="where the pictures go")
    options = parser.parse_args()
    unknown = set(options.names) - {picture.name for picture in PICTURES}
    if unknown:
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    wanted = [picture for picture in PICTURES if not options.names or picture.name in options.names]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        with server(folder, options.port) as environment:
            load(options.port, seconds=0)  # its accounts
            for picture in wanted:
                rows = rows_of(picture, folder, environment, options.port)
                if rows:
                    write(picture, rows, folder, options.output)
    return 0


def prepare(folder: Path) -> None:
    """The folder that the commands run in: a catalog that differs from the demo's, and a trace of some length."""
    catalog = (ROOT / "src/creditd/cli/demo/catalog.yaml").read_text()
    for old, new in EDITS:
        if old not in catalog:
            raise SystemExit(f"the catalog of the demo has no longer: {old}")
        catalog = catalog.replace(old, new, 1)
    (folder / "catalog.yaml").write_text(catalog)
    source = random.Random(7)  # noqa: S311
    with (folder / "trace.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
        for number in range(TRACE_ROWS):
            at = f"2024-03-04 {9 + number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}"
            rows.writerow((at, int(source.lognormvariate(7, 1)), int(source.lognormvariate(5, 1))))


@contextlib.contextmanager
def server(folder: Path, port: int) -> Iterator[dict[str, str]]:
    """`creditd dev --demo` while the body runs; yields the environment for the commands."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CREDITD_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
    if port != 50051:
        environment["CREDITD_ADDRESS"] = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        ["creditd", "dev", "--demo", "--listen", f"127.0.0.1:{port}", "--data-dir", str(folder / "data")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if "GetBalance" in line:
                break
        else:
            raise SystemExit(f"creditd dev did not start:\n{''.join(said)}")
        yield environment
    finally:
        process.terminate()
        process.wait()


def load(port: int, *, seconds: int) -> subprocess.Popen[bytes]:
    """Start scripts/demo_load.py; with 0 seconds it makes its accounts, and that is waited for."""
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "scripts/demo_load.py"), "--address", f"127.0.0.1:{port}"),
            *("--seconds", str(seconds), "--rate", str(LOAD_RATE)),
        ]
    )
    if not seconds and process.wait():
        raise SystemExit("scripts/demo_load.py failed")
    return process


def rows_of(picture: Picture, folder: Path, environment: dict[str, str], port: int) -> list[Text]:
    """What a picture shows; nothing when this creditd has no such command."""
    if not is_there(picture.commands[0], environment):
        print(f"{picture.name}: left out, there is no such command")
        return []
    if picture.lines:
        return screen_of(picture, folder, environment, port)
    return run(picture, folder, environment)


def write(picture: Picture, rows: list[Text], folder: Path, output: Path) -> None:
    """Write a picture, unless it shows what it must not."""
    text = "\n".join(row.plain for row in rows)
    if too_long := [row.plain for row in rows if len(row) > COLUMNS]:
        raise SystemExit(f"{picture.name}: wider than {COLUMNS} columns: {too_long[0]}")
    for place in (str(folder), str(ROOT), str(Path.home())):
        if len(place) > 1 and place in text:
            raise SystemExit(f"{picture.name}: shows a path of this machine: {place}")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    console.print(Group(*rows))
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"cli-{picture.name}.svg"
    title = picture.commands[-1] if picture.lines else "creditd"
    svg = console.export_svg(title=title, theme=THEME, code_format=SVG, unique_id=path.stem)
    path.write_text(svg, encoding="utf-8")
    print(f"{picture.name}: {path.name}")


def is_there(command: str, environment: dict[str, str]) -> bool:
    """Whether this creditd has the command."""
    words = [word for word in shlex.split(command)[1:3] if re.fullmatch(r"[a-z-]+", word)]
    for count in (1, len(words)):
        helped = subprocess.run(
            ["creditd", *words[:count], "--help"], env=environment, capture_output=True, check=False
        )
        if helped.returncode:
            return False
    return True


def run(picture: Picture, folder: Path, environment: dict[str, str]) -> list[Text]:
    """The commands with their prompts, and what they print below."""
    rows: list[Text] = []
    for command in picture.commands:
        rows += [Text(), *typed(command)] if rows else typed(command)
        with Terminal(
            shlex.split(command.replace("\\\n", " ")),
            columns=COLUMNS,
            lines=60,
            environment=environment,
            folder=folder,
        ) as terminal:
            if picture.moment is not None and command == picture.commands[-1]:
                terminal.wait_for(picture.moment, timeout_s=120)
                shown = terminal.rows()
                terminal.interrupt()
                terminal.finish(timeout_s=60)
            else:
                terminal.finish(timeout_s=120)
                shown = terminal.rows()
        rows += shown
    return rows


def typed(command: str) -> list[Text]:
    """A command behind its prompt."""
    first, *more = command.splitlines()
    return [
        Text.assemble(("$ ", "bold green"), (first, "bold")),
        *(Text(line, "bold") for line in more),
    ]


def screen_of(picture: Picture, folder: Path, environment: dict[str, str], port: int) -> list[Text]:
    """A command that fills the screen, after a while under load."""
    loading = load(port, seconds=LOAD_S)
    try:
        with Terminal(
            shlex.split(picture.commands[-1]),
            columns=COLUMNS,
            lines=picture.lines,
            environment=environment,
            folder=folder,
        ) as terminal:
            terminal.run_for(picture.seconds)
            rows = terminal.rows()
            terminal.type("q")
            terminal.finish()
    finally:
        loading.terminate()
        loading.wait()
    return rows


if __name__ == "__main__":
    if shutil.which("creditd", path=str(Path(sys.executable).parent)) is None:
        raise SystemExit("creditd is not installed beside this Python; `make pictures` sees to it")
    sys.exit(main())
