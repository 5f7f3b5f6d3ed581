"""Compares what a command printed with what the page shows.

All must be the same, to the character, but for what no two runs share:

- ids of 32 hex digits, and UUIDs: any other one will do, as long as one id of the page is one id of the run;
- instants with a fraction of a second; those on a whole second, as on a test clock, are compared as they are;
- what was measured: numbers before `ms`, `s`, `calls/s` or `a second`;
- a line of the page that is only `...` stands for any number of lines.
"""

from __future__ import annotations

import difflib
import re

_VOLATILE = re.compile(
    r"(?P<id>\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)"
    r"|(?P<instant>\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z)"
    r"|(?P<measured>\b\d[\d,]*(?:\.\d+)?(?= (?:ms|s|calls/s|a second)\b))"
)
_ANY_OF = {
    "id": r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    "measured": r"\d[\d,]*(?:\.\d+)?",
}
_ELLIPSIS = "..."


class Ids:
    """Which id of the run stands for which id of the page, for a whole page."""

    def __init__(self) -> None:
        self._run_of: dict[str, str] = {}

    def pair(self, page: str, run: str) -> str:
        """Note that the run has `run` where the page has `page`; what contradicts an earlier note, or ""."""
        known = self._run_of.setdefault(page, run)
        if known != run:
            return f"the page's id {page} was {known} before and is {run} here"
        if list(self._run_of.values()).count(run) > 1:
            others = [each for each, value in self._run_of.items() if value == run]
            return f"one id of the run, {run}, is shown as {len(others)} on the page: {', '.join(others)}"
        return ""

    def in_run(self, command: str) -> str:
        """The command with the run's ids in place of the page's."""
        return re.sub(_ANY_OF["id"], lambda found: self._run_of.get(found[0], found[0]), command)


def difference(shown: str, printed: str, ids: Ids) -> str:
    """What is wrong with the page's output, beside what a run printed; "" when nothing is."""
    shown, printed = _tidy(shown), _tidy(printed)
    pattern, kinds = _pattern(shown)
    found = re.fullmatch(pattern, printed)
    if found is None:
        lines = difflib.unified_diff(
            shown.splitlines(), printed.splitlines(), "the page", "the run", lineterm="", n=3
        )
        return "\n".join(lines)
    faults = [
        ids.pair(page, run) for (kind, page), run in zip(kinds, found.groups(), strict=True) if kind == "id"
    ]
    return "\n".join(fault for fault in faults if fault)


def _pattern(shown: str) -> tuple[str, list[tuple[str, str]]]:
    """A regular expression for a run's output, and the kind and text behind each of its groups."""
    pattern, kinds = "", []
    for line in shown.splitlines(keepends=True):
        if line.strip() == _ELLIPSIS:
            pattern += r"(?:[^\n]*\n)*?"
            continue
        end = 0
        for found in _VOLATILE.finditer(line):
            kind = found.lastgroup or ""
            pattern += f"{re.escape(line[end : found.start()])}({_ANY_OF[kind]})"
            kinds.append((kind, found[0]))
            end = found.end()
        pattern += re.escape(line[end:])
    return pattern, kinds


def _tidy(text: str) -> str:
    """The text without spaces at the ends of lines and empty lines at its ends."""
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    return "".join(line + "\n" for line in lines)
