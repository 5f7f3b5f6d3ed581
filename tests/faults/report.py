"""The results: JSON for each run, and the table in docs/reliability.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.faults.faults import ALL, NO_FAULT
from tests.faults.rounds import Result
from tests.faults.stack import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


def save(path: Path, seed: int, results: list[Result]) -> None:
    """Write the results of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"seed": seed, "rounds": [asdict(result) for result in results]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def load(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The rounds of some runs."""
    return [found for path in paths for found in json.loads(path.read_text())["rounds"]]


def table(rounds: list[dict[str, Any]]) -> str:
    """The table of the page, from the rounds of runs."""
    by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for found in rounds:
        for name in found["faults"] or [NO_FAULT]:
            by_name[name].append(found)
    sequences = [found for found in rounds if len(found["faults"]) > 1]
    lines = [
        "| fault | runs | operations | acknowledged | recovered in s (median, most) | wrong answers |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in [NO_FAULT, *(fault.name for fault in ALL)]:
        if by_name[name]:
            lines.append(_line(name, name, by_name[name]))
    lines.append(_line("**random sequences of 2 to 4**", "", sequences))
    lines.append(_line("**all**", "", rounds))
    return "\n".join(lines)


def _line(shown: str, name: str, rounds: list[dict[str, Any]]) -> str:
    times = [
        seconds
        for found in rounds
        for fault, measured in found["recovered"].items()
        if not name or fault == name
        for seconds in measured
    ]
    recovered = f"{median(times):.1f}, {max(times):.1f}" if times else ""
    operations = sum(found["operations"] for found in rounds)
    acknowledged = sum(found["acknowledged"] for found in rounds)
    wrong = sum(len(found["wrong"]) for found in rounds)
    return f"| {shown} | {len(rounds)} | {operations:,} | {acknowledged:,} | {recovered} | {wrong} |"


def write_page(text: str) -> None:
    """Put the table into the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
