"""`--help` everywhere: an example for each command and group, whole at 80 columns, and each of them runs as written."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.cli.conftest import ROOT, Cli, DevServer

from creditd.cli.main import app

NOT_RUN = {
    "creditd dev": "starts a server until it is stopped; tests/e2e does",
    "creditd serve": "needs stores; tests/e2e has them",
    "creditd migrate": "needs a database; tests/e2e has one",
    "creditd top": "a view that lives until it is stopped; it has tests of its own",
}


def commands(command: Any, path: str = "creditd") -> Iterator[tuple[str, Any]]:
    """Every command and group under its name, in the order of registration."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


ALL = dict(commands(typer.main.get_command(app)))


def example(command: Any) -> list[str]:
    """The lines of a command's example."""
    text = f"{command.help}\n{command.epilog or ''}"
    found = re.search(r"Example:\n((?:\s+\S.*\n?)+)", text)
    return [line.strip() for line in found[1].splitlines()] if found else []


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_group_has_an_example_of_itself(name: str) -> None:
    lines = example(ALL[name])

    assert lines, f"{name} has no example"
    assert re.search(rf"\b{name}\b", " ".join(lines)), lines
    # As wide as the help of an 80 column terminal leaves it: a wrapped command can't be copied.
    assert max(map(len, lines)) <= 76


@pytest.mark.parametrize("name", ALL)
def test_help_shows_the_example_whole_at_80_columns(anywhere: Cli, name: str) -> None:
    ran = anywhere(*name.split()[1:], "--help", COLUMNS="80", TERMINAL_WIDTH="80")

    assert ran.code == 0
    for line in example(ALL[name]):
        assert line in ran.out
    assert "\b" not in ran.out


@pytest.mark.parametrize("name", ALL)
def test_every_option_says_what_it_is(name: str) -> None:
    for parameter in ALL[name].params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


def test_the_exit_codes_are_in_the_help(anywhere: Cli) -> None:
    out = anywhere("--help").out

    for code in ("0", "1", "2", "3", "4", "130"):
        assert re.search(rf"^ +{code}  \w", out, re.MULTILINE)


def test_every_example_runs_as_written(
    cli: Cli, dev_server: DevServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    assert cli("account", "put", "acme").code == 0
    ran = set()

    for name, command in ALL.items():
        if name in NOT_RUN:
            continue
        text = "\n".join(example(command)).replace("\\\n", "")
        for line in text.splitlines():
            words = shlex.split(line.replace("127.0.0.1:50051", dev_server.address))
            assert words[0] == "creditd"
            result = cli(*words[1:])
            assert result.code == 0, f"{line}\n{result.out}{result.err}"
            assert result.out or result.err
            ran.add(name)

    assert ran == set(ALL) - set(NOT_RUN)
