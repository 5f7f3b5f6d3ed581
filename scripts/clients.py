"""The clients of every language: generates them, checks that what is committed is fresh, tests them.

`clients.py generate|check|test [LANGUAGE ...]`, all languages when none is given. Each folder of clients/ has a
Makefile with these three targets; here is the order, the server for the tests, and a summary that can't pass by
testing nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "clients"
TRANSPORTS = ("asgi", "grpcio")

# Set to False while clients are still being written: then languages without a folder are left out, with a warning.
ALL_REQUIRED = True


@dataclass(frozen=True, slots=True)
class Language:
    """A language, what its Makefile runs, and how its test runner tells what it did.

    Attributes:
        name: its folder in clients/.
        programs: what must be on the PATH.
        install: what to install when they are not.
        passed: finds each passed test, or the number of them as its group.
        skipped: the same for tests that were left out.
        closing: finds the runner's closing line.
    """

    name: str
    programs: tuple[str, ...]
    install: str
    passed: re.Pattern[str]
    skipped: re.Pattern[str]
    closing: re.Pattern[str]


def _language(name: str, programs: str, install: str, passed: str, skipped: str, closing: str) -> Language:
    found, left_out, last = (re.compile(each, re.MULTILINE) for each in (passed, skipped, closing))
    return Language(name, tuple(programs.split()), install, found, left_out, last)


LANGUAGES = {
    language.name: language
    for language in (
        _language("go", "go", "Go 1.26 or later", r"^--- PASS", r"^--- SKIP", r"^(?:ok|FAIL)\s+\S+.*$"),
        _language(
            "typescript",
            "node npm",
            "Node.js 20 or later",
            r"^\S pass (\d+)",
            r"^\S skipped (\d+)",
            r"^\S pass \d+$",
        ),
        _language(
            "java",
            "java mvn",
            "a JDK 17 or later, and Maven",
            # The line of the whole run has no class behind it.
            r"Tests run: (\d+), Failures: 0, Errors: 0, Skipped: \d+$",
            r"Tests run: \d+, Failures: \d+, Errors: \d+, Skipped: (\d+)$",
            r"Tests run: \d+, Failures: \d+, Errors: \d+, Skipped: \d+$",
        ),
        _language(
            "rust",
            "cargo",
            "Rust, by rustup",
            r"^test result: ok\. (\d+) passed",
            r"; (\d+) ignored",
            r"^test result: .*$",
        ),
        _language(
            "python", "python3", "Python 3.11 or later", r"(\d+) passed", r"(\d+) skipped", r"^=+ .* in .*=$"
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one language's tests against one transport."""

    language: str
    transport: str
    failure: str
    passed: int
    seconds: float
    closing: str


def outcome(language: Language, transport: str, code: int, output: str, seconds: float) -> Outcome:
    """Judge a test run by its exit status and by what its runner says that it ran."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", output)
    passed, skipped = _count(language.passed, text), _count(language.skipped, text)
    closing = language.closing.findall(text)
    failure = ""
    if code != 0:
        failure = f"exit status {code}"
    elif passed == 0:
        failure = "ran no test"
    elif skipped:
        failure = f"{skipped} skipped"
    return Outcome(language.name, transport, failure, passed, seconds, closing[-1].strip() if closing else "")


def _count(pattern: re.Pattern[str], text: str) -> int:
    return sum(int(found[1]) if pattern.groups else 1 for found in pattern.finditer(text))


def table(outcomes: Sequence[Outcome]) -> str:
    """One row for each language and transport."""
    rows = [("language", "transport", "result", "passed", "seconds", "its runner says")]
    rows += [
        (
            each.language,
            each.transport,
            each.failure or "ok",
            str(each.passed),
            f"{each.seconds:.1f}",
            each.closing,
        )
        for each in outcomes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def chosen(names: Sequence[str]) -> list[Language]:
    """The languages to work on; ends the program when one of them is unknown, not there, or lacks its toolchain."""
    unknown = sorted(set(names) - LANGUAGES.keys())
    if unknown:
        sys.exit(f"no client for {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
    languages = [LANGUAGES[name] for name in names or LANGUAGES]
    absent = [each.name for each in languages if not (CLIENTS / each.name / "Makefile").exists()]
    if absent and (ALL_REQUIRED or names):
        sys.exit("\n".join(f"clients/{name} is missing" for name in absent))
    for name in absent:
        print(f"clients/{name} is missing: left out", file=sys.stderr)
    languages = [each for each in languages if each.name not in absent]
    lacking = [
        f"clients/{each.name} needs {program}, which is not on the PATH: install {each.install}"
        for each in languages
        for program in each.programs
        if shutil.which(program) is None
    ]
    if lacking:
        sys.exit("\n".join([*lacking, "or name the languages to work on, as in LANGUAGES='go python'"]))
    return languages


def make(language: Language, target: str) -> None:
    """Run a target that must succeed."""
    print(f"\n== clients/{language.name}: {target}", flush=True)
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", CLIENTS / language.name, target], check=False
    )
    if done.returncode != 0:
        sys.exit(f"clients/{language.name}: make {target} failed")


def test(languages: Sequence[Language]) -> list[Outcome]:
    """Run the tests of each language against a server on each transport."""
    outcomes = []
    for transport in TRANSPORTS:
        with server(transport) as address:
            outcomes += [_test(language, transport, address) for language in languages]
    return outcomes


def _test(language: Language, transport: str, address: str) -> Outcome:
    print(f"\n== clients/{language.name} against {transport} on {address}", flush=True)
    started = time.monotonic()
    command = ["make", "--no-print-directory", "-C", str(CLIENTS / language.name), "test"]
    environment = {**os.environ, "CREDITD_ADDRESS": address}
    lines = []
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as running:
        for line in running.stdout or ():
            lines.append(line)
            print(line, end="", flush=True)
    return outcome(language, transport, running.returncode, "".join(lines), time.monotonic() - started)


@contextmanager
def server(transport: str) -> Iterator[str]:
    """A `creditd dev --demo` with new data; yields its address and stops it, with all that it started, at the end."""
    with tempfile.TemporaryDirectory(prefix="creditd-clients-") as data:
        command = [sys.executable, "-m", "creditd", "dev", "--demo", "--listen", "127.0.0.1:0"]
        command += ["--data-dir", data, "--transport", transport]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield _address(process)
            finally:
                process.terminate()
                # Read to its end: a full pipe would keep it from ending.
                process.communicate()
        if process.returncode != 0:
            sys.exit(f"creditd dev --transport {transport} ended with status {process.returncode}")


def _address(process: subprocess.Popen[str]) -> str:
    """The address that a starting server prints once the demo is in place."""
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        ready = re.search(r"serves gRPC on (\S+)", line)
        if ready is not None:
            return ready[1]
    sys.exit(f"creditd dev did not start:\n{''.join(lines)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=("generate", "check", "test"))
    parser.add_argument(
        "languages", nargs="*", metavar="LANGUAGE", help=f"of {', '.join(LANGUAGES)}; default all"
    )
    options = parser.parse_args(arguments)
    languages = chosen(options.languages)
    if options.task != "test":
        for language in languages:
            make(language, options.task)
        return 0
    outcomes = test(languages)
    print(f"\n== summary\n{table(outcomes)}")
    failed = [each for each in outcomes if each.failure]
    print(f"\nclients: {len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
