"""How commands print: tables and facts for people, JSON for scripts, notes and errors on stderr.

On a terminal tables have colours and its width. In a pipe they are plain, as wide as they need to be, and
without trailing blanks. Text of others (names, labels, messages) never reaches the terminal with control characters.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import typer
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 10_000


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    DENIED = 1  # a denial, or another negative answer
    USAGE = 2  # the command line or a file is wrong
    REFUSED = 3  # the server refused the request
    UNAVAILABLE = 4  # no answer: try again, with the same idempotency key if there is one
    INTERRUPTED = 130  # by Ctrl-C
    CLOSED_PIPE = 141  # who read the output has gone


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, whether it holds numbers, and its style on a terminal."""

    title: str
    number: bool = False
    style: str = ""


def plain(text: str) -> str:
    """A text with everything that a terminal could act on spelled out."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def styled(text: str, style: str = "") -> Text:
    """A text in a style; what is in it counts as text, never as markup."""
    return Text(plain(text), style=style)


def table(
    columns: Sequence[Column | str], rows: Iterable[Sequence[str | Text]], *, header: bool = True
) -> Table:
    """Rows under headings. Numbers stand to the right; ids and the like fold rather than being cut."""
    made = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=header, header_style="bold bright_black"
    )
    for item in columns:
        column = item if isinstance(item, Column) else Column(item)
        made.add_column(column.title, style=column.style, overflow="fold", no_wrap=column.number)
        made.columns[-1].justify = "right" if column.number else "left"
    for row in rows:
        made.add_row(*(styled(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and values, one a line, indented under what they belong to."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="bright_black", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(f"  {name}", styled(value) if isinstance(value, str) else value)
    return made


class RowStream:
    """A table that is printed page by page: columns stay as wide as the widest page so far."""

    def __init__(self, columns: Sequence[Column | str]) -> None:
        self._columns = [item if isinstance(item, Column) else Column(item) for item in columns]
        self._widths = [cell_len(column.title) for column in self._columns]
        self._begun = False

    def add(self, rows: Sequence[Sequence[str | Text]]) -> None:
        """Print a page of rows, the first one under the headings."""
        if not rows:
            return
        cells = [[plain(cell) if isinstance(cell, str) else cell.plain for cell in row] for row in rows]
        for place, width in enumerate(self._widths):
            self._widths[place] = max(width, *(cell_len(row[place]) for row in cells))
        if sys.stdout.isatty():
            self._show(rows)
        else:
            titles = [] if self._begun else [[column.title for column in self._columns]]
            # Not by rich: a whole ledger in a pipe is many lines.
            write("".join(f"{self._line(row)}\n" for row in [*titles, *cells]))
        self._begun = True

    def _show(self, rows: Sequence[Sequence[str | Text]]) -> None:
        made = table(self._columns, rows, header=not self._begun)
        for column, width in zip(made.columns, self._widths, strict=True):
            column.min_width = width
        show(made)

    def _line(self, row: Sequence[str]) -> str:
        parts = []
        for column, width, cell in zip(self._columns, self._widths, row, strict=True):
            blanks = " " * (width - cell_len(cell))
            parts.append(f"{blanks}{cell}" if column.number else f"{cell}{blanks}")
        return "  ".join(parts).rstrip()


def show(*items: RenderableType) -> None:
    """Print to stdout, one item after the other; a str is text, never markup."""
    terminal = sys.stdout.isatty()
    console = _console(width=None if terminal else _PIPE_WIDTH)
    with console.capture() as captured:
        for item in items:
            if isinstance(item, str | Text):
                # The terminal wraps long lines itself: then they are copied as the one line that they are.
                console.print(styled(item) if isinstance(item, str) else item, soft_wrap=True)
            else:
                console.print(item)
    text = captured.get()
    write(text if terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines()))


def write(text: str) -> None:
    """Write to stdout; whoever read it may have gone, as in `| head`."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        raise typer.Exit(ExitCode.CLOSED_PIPE) from None


def abandon_stdout() -> None:
    """Send what is still buffered for a closed pipe nowhere, so that the interpreter's end doesn't complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, io.UnsupportedOperation):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def json_of(message: Message, indent: int | None = None) -> str:
    """A message as JSON with the API's own field names."""
    # False and zero are told too: a script asks for them by name.
    return MessageToJson(
        message,
        indent=indent,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
    )


def print_json(message: Message) -> None:
    """A command's one answer, over several lines."""
    write(json_of(message, indent=2) + "\n")


def print_json_line(message: Message) -> None:
    """One item of a list, on a line of its own (JSON Lines)."""
    write(json_of(message) + "\n")


def note(text: str) -> None:
    """Something beside the answer, to stderr."""
    _stderr().print(styled(text, "bright_black"), soft_wrap=True)


def warn(text: str) -> None:
    """Something that should be seen to, to stderr."""
    _stderr().print(Text.assemble(("warning: ", "bold yellow"), plain(text)), soft_wrap=True)


def complain(text: str, *details: str) -> None:
    """An error and what helps, to stderr."""
    console = _stderr()
    lines = text.split("\n")
    console.print(
        Text.assemble(("error: ", "bold red"), "\n".join(plain(line) for line in lines)), soft_wrap=True
    )
    for detail in details:
        console.print(styled(f"  {detail}"), soft_wrap=True)


def fail(message: str, code: ExitCode = ExitCode.USAGE) -> typer.Exit:
    """Print why a command cannot go on; raise what it returns."""
    complain(message)
    return typer.Exit(code)


@contextmanager
def waiting(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that something takes a while."""
    console = _stderr()
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(styled(text, "bright_black")):
        yield


def console_for_progress() -> Console:
    """Where progress is shown: stderr, so that an answer in a pipe stays clean."""
    return _stderr()


def _stderr() -> Console:
    return _console(stderr=True)


def _console(*, stderr: bool = False, width: int | None = None) -> Console:
    console = Console(stderr=stderr, highlight=False, width=width)
    # With NO_COLOR rich leaves bold and the like, which is not plain.
    return (
        Console(stderr=stderr, highlight=False, width=width, color_system=None)
        if console.no_color
        else console
    )
