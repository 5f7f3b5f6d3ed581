"""Runs the fault suite: `make test-faults SEED=n ROUNDS=n`, or `python -m tests.faults --help`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import faults, report
from tests.faults.load import sell
from tests.faults.rounds import Planned, Result, alone, one_round
from tests.faults.stack import ROOT, stack

ROUNDS_PER_STACK = 40
"""Then the stores are made anew, so that their disk stays small."""
RESULTS = ROOT / ".cache" / "faults"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20, help="random sequences of faults")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first one; the ones before are left out"
    )
    parser.add_argument("--alone", action="store_true", help="before them each fault alone, and none")
    parser.add_argument(
        "--fault", action="append", default=[], help="only faults whose name has this in it, alone"
    )
    parser.add_argument("--seconds", type=float, help="begin no other round after so long")
    parser.add_argument(
        "--page", nargs="+", type=Path, help="only write docs/reliability.md from these results"
    )
    return parser.parse_args()


def _plans(arguments: argparse.Namespace) -> list[tuple[int, list[Planned] | None]]:
    """The rounds: their numbers, and the faults of those that are not random."""
    chosen = [fault for fault in faults.ALL if any(word in fault.name for word in arguments.fault)]
    if arguments.alone:
        chosen = list(faults.ALL)
    plans: list[tuple[int, list[Planned] | None]] = [
        (-1 - place, alone(fault))
        for place, fault in enumerate([None, *chosen] if arguments.alone else chosen)
    ]
    if arguments.fault:
        return plans
    return plans + [(number, None) for number in range(arguments.first, arguments.first + arguments.rounds)]


async def _run(arguments: argparse.Namespace) -> list[Result]:
    results: list[Result] = []
    began = time.monotonic()
    plans = _plans(arguments)
    for first in range(0, len(plans), ROUNDS_PER_STACK):
        folder = Path(tempfile.mkdtemp(prefix="creditd-faults-"))
        try:
            async with stack(folder / "stack") as running:
                await sell(running)
                for number, plan in plans[first : first + ROUNDS_PER_STACK]:
                    if arguments.seconds and time.monotonic() - began > arguments.seconds:
                        return results
                    if plan and plan[0].fault.name == faults.DISK_FULL and not running.own_disk:
                        print(f"{faults.DISK_FULL}: left out, no small disk can be mounted here", flush=True)
                        continue
                    result = await one_round(running, arguments.seed, number, plan)
                    results.append(result)
                    _tell(arguments.seed, result)
                    if result.wrong:
                        _keep_logs(folder, RESULTS / f"logs-{arguments.seed}" / f"round{number}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return results


def _keep_logs(folder: Path, kept: Path) -> None:
    """Keep what the servers have said so far."""
    kept.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("stack/*.log"):
        shutil.copy(log, kept)


def _tell(seed: int, result: Result) -> None:
    names = " + ".join(result.faults) or faults.NO_FAULT
    print(
        f"seed {seed} round {result.number}: {result.operations} operations, {result.acknowledged} acknowledged, "
        f"{len(result.wrong)} wrong, {result.seconds:.1f} s: {names}",
        flush=True,
    )
    for wrong in result.wrong[:20]:
        print(f"  WRONG {wrong}", flush=True)


def main() -> int:
    """Run; 1 when anything was wrong."""
    arguments = _arguments()
    if arguments.page:
        report.write_page(report.table(report.load(arguments.page)))
        return 0
    results: list[Result] = []
    print(f"seed {arguments.seed}", flush=True)
    results = asyncio.run(_run(arguments))
    path = RESULTS / f"seed-{arguments.seed}.json"
    report.save(path, arguments.seed, results)
    wrong = [result for result in results if result.wrong]
    operations = sum(result.operations for result in results)
    print(f"{len(results)} rounds, {operations} operations, {len(wrong)} rounds with wrong answers; {path}")
    for result in wrong:
        again = f"make test-faults SEED={arguments.seed} FIRST={result.number} ROUNDS=1"
        print(f"again: {again}" if result.number >= 0 else f"again: --fault {result.faults[0]!r}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
