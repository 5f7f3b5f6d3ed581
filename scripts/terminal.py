"""A terminal in memory, with a command in it: what a person would see, for tests and for the pictures in the docs."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyte
from rich.style import Style
from rich.text import Text

# The names that pyte gives to the sixteen colours, beside those of rich.
_COLOURS = {"brown": "yellow"} | {
    f"bright{name}": f"bright_{'yellow' if name == 'brown' else name}"
    for name in ("black", "red", "green", "brown", "blue", "magenta", "cyan", "white")
}


class Terminal:
    """A command that runs in a terminal of `columns` x `lines`; `written` is all that it has written."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.written = b""
        self._stream = pyte.ByteStream(self.screen)
        self._master, self._slave = pty.openpty()
        self._set_size(columns, lines)
        colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=folder,
            env={**(os.environ if environment is None else environment), **colours},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def attributes(self) -> list[Any]:
        """How the terminal is set: echo, line by line, and so on."""
        return termios.tcgetattr(self._slave)

    @property
    def text(self) -> str:
        """What is on the screen, without trailing blanks."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def resize(self, columns: int, lines: int) -> None:
        """Another size; the command is told, as by a window that is dragged."""
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def wait_for(self, seen: Callable[[str], object], *, timeout_s: float = 30.0) -> str:
        """Read on until the screen's text is as wanted; returns it."""
        end = time.monotonic() + timeout_s
        while not seen(self.text):
            if time.monotonic() > end or not self._read(0.2):
                raise TimeoutError(f"not seen; the screen is:\n{self.text}")
        return self.text

    def run_for(self, seconds: float) -> None:
        """Read on for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self._read(left):
                raise TimeoutError(f"it has ended; the screen is:\n{self.text}")

    def finish(self, *, timeout_s: float = 30.0) -> int:
        """Read on until the command ends; returns its exit code."""
        end = time.monotonic() + timeout_s
        while self.process.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(f"still running; the screen is:\n{self.text}")
            self._read(0.05)
        while select.select([self._master], [], [], 0)[0]:
            self._read(0)
        return self.process.returncode

    def rows(self) -> list[Text]:
        """The lines of the screen with their styles, without the blank ones at the end."""
        rows = [self._row(line) for line in range(self.screen.lines)]
        while rows and not rows[-1].plain.strip():
            rows.pop()
        return rows

    def _row(self, line: int) -> Text:
        cells = [self.screen.buffer[line][column] for column in range(self.screen.columns)]
        row = Text(no_wrap=True)
        begin = 0
        for end in range(1, len(cells) + 1):
            if end == len(cells) or _parted(cells[end - 1], cells[end]):
                row.append("".join(cell.data for cell in cells[begin:end]), _style(cells[begin]))
                begin = end
        row.rstrip()
        return row

    def _read(self, timeout_s: float) -> bool:
        """Take what has been written meanwhile; False when the command has ended and there is no more."""
        if not select.select([self._master], [], [], timeout_s)[0]:
            return self.process.poll() is None
        data = os.read(self._master, 65_536)
        self.written += data
        self._stream.feed(data)
        return True

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def _parted(left: Any, right: Any) -> bool:
    """Whether two cells are pieces of their own: in a picture each piece is placed by itself.

    Words and the pieces of lines are, so that all stands in columns also where a font is a little narrower.
    """
    new_word = left.data == " " and right.data != " "
    return (
        new_word
        or any("\u2500" <= cell.data <= "\u259f" for cell in (left, right))
        or _style(left) != _style(right)
    )


def _style(cell: Any) -> Style:
    return Style(
        color=_colour(cell.fg),
        bgcolor=_colour(cell.bg),
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        reverse=cell.reverse,
    )


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    return f"#{name}" if len(name) == 6 and set(name) <= set("0123456789abcdef") else _COLOURS.get(name, name)
