"""The command line against a real `creditd dev`: one for the session, and an account of its own for each test."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from creditd.cli.main import app

ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Ran:
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one answer."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The items of a list."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Ran]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), **more}


def invoke(*arguments: object, stdin: str | None = None, **variables: str | None) -> Ran:
    """Runs a command in this process, with more variables."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], input=stdin, env=variables)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True)
class DevServer:
    address: str
    data_dir: Path

    @property
    def valkey(self) -> str:
        """The URL of its hot store."""
        found = re.findall(r"port=(\d+)", (self.data_dir / "valkey" / "server.log").read_text())
        return f"redis://127.0.0.1:{found[-1]}/0"


@pytest.fixture(scope="session")
def dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """`creditd dev --demo`, as people start it."""
    data_dir = tmp_path_factory.mktemp("cli") / "data"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "creditd",
            "dev",
            "--demo",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            str(data_dir),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = ""
    while "Entitlements/GetBalance" not in output:
        line = process.stdout.readline()
        assert line, f"it ended:\n{output}"
        output += line
    found = re.search(r"serves gRPC on (\S+)", output)
    assert found is not None, output
    yield DevServer(found[1], data_dir)
    process.send_signal(signal.SIGTERM)
    process.communicate()


@pytest.fixture
def contexts(tmp_path: Path) -> Path:
    """Where this test's contexts are kept."""
    return tmp_path / "config" / "contexts.json"


@pytest.fixture
def anywhere(contexts: Path) -> Cli:
    """Runs a command that needs no server; nothing is known but what the test says."""

    def run(*arguments: object, stdin: str | None = None, **variables: str | None) -> Ran:
        return invoke(*arguments, stdin=stdin, **{"CREDITD_CONTEXT_FILE": str(contexts), **variables})

    return run


@pytest.fixture
def cli(anywhere: Cli, dev_server: DevServer) -> Cli:
    """Runs a command against the server."""

    def run(*arguments: object, stdin: str | None = None, **variables: str | None) -> Ran:
        return anywhere(*arguments, stdin=stdin, **{"CREDITD_ADDRESS": dev_server.address, **variables})

    return run


def process(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "creditd", *map(str, arguments)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def account(cli: Cli) -> str:
    """A new account on plan pro (subscription `main`: 5,000 credits, 1,000 api_calls a day)."""
    name = f"account-{next(_numbers)}"
    assert cli("account", "put", name).code == 0
    assert cli("subscription", "put", name, "--plan", "pro", "--id", "main").code == 0
    return name
