"""What holds the docs to the truth is itself held to it: pages are taken apart, and every difference is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.not_run import reason_not_run
from tests.docs.pages import Step, steps
from tests.docs.printed import Ids, difference
from tests.docs.record import with_output
from tests.docs.shell import Ran, Shell, creditd, expected_code, run_page

ONE, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
NOW = "2026-01-31T12:00:00.123Z"


def console(*lines: str) -> str:
    return "\n".join(("# Page", "```console", *lines, "```", ""))


async def run(folder: Path, *lines: str) -> list[Ran]:
    shell = Shell(folder, "127.0.0.1:9", {"creditd": creditd()})
    return [each async for each in run_page(shell, steps(console(*lines)))]


def test_commands_are_read_with_their_lines_and_what_they_print() -> None:
    page = console(
        "$ one", "printed", "  more", "$ two '{", '  "a": 1}\' \\', "  three", "$ cat <<E", "> text", "> E"
    )
    assert steps(page) == [
        Step(3, "one", "printed\n  more\n"),
        Step(6, "two '{\n  \"a\": 1}' \\\n  three", ""),
        Step(9, "cat <<E\ntext\nE", ""),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [(console("no prompt"), "line 3: a console block begins"), ("```console\n$ a\n", "line 1 does not end")],
)
def test_a_block_that_would_be_skipped_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        steps(text)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\n", "a"),
        (f'"id": "{ONE}"', f'"id": "{OTHER}"'),
        (f'"at": "{NOW}"', '"at": "2031-12-01T00:00:00.9Z"'),
        (f'"at": "{NOW}"', '"at": "2031-12-01T00:00:00Z"'),
        ("took 1.5 s, 1,234 calls/s, p50 0.3 ms", "took 2.0 s, 99 calls/s, p50 12 ms"),
        ("first\n...\nlast", "first\n1\n2\nlast"),
        ("first\n...\nlast", "first\nlast"),
        ("...\n", "anything"),
    ],
)
def test_what_differs_from_run_to_run_is_let_through(shown: str, printed: str) -> None:
    assert difference(shown, printed, Ids()) == ""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ('"sequence": "3"', '"sequence": "4"'),
        (f'"id": "{ONE}"', '"id": "short"'),
        (f'"id": "{ONE}"', f'"id": "{ONE}0"'),
        ('"at": "2030-01-31T12:00:00Z"', '"at": "2030-01-31T12:00:01Z"'),
        (f'"at": "{NOW}"', '"at": "never"'),
        ("1,234 credits", "1,235 credits"),
        ("a\nb", "a\nb\nc"),
        ("a\n  b", "a\nb"),
        ("first\n...\nlast", "first\n1"),
        ("...\na\n...", "b\nc"),
    ],
)
def test_every_other_difference_is_found(shown: str, printed: str) -> None:
    assert difference(shown, printed, Ids()) != ""


def test_ids_are_the_same_on_the_page_where_they_are_the_same_in_the_run() -> None:
    ids = Ids()
    assert difference(ONE, OTHER, ids) == ""
    assert difference(ONE, OTHER, ids) == ""
    assert ids.in_run(f"creditd entry {ONE}") == f"creditd entry {OTHER}"
    assert difference(ONE, ONE, ids) != ""
    assert difference(OTHER, OTHER, ids) != ""


@pytest.mark.parametrize(
    ("printed", "code"),
    [("", 0), ("ERROR:\n  Code: NotFound\n", 69), ("{}\nERROR:\n  Code: DeadlineExceeded\n  ...\n", 68)],
)
def test_a_status_on_the_page_says_grpcurls_exit_code(printed: str, code: int) -> None:
    assert expected_code(Step(1, "grpcurl", printed)) == code


async def test_commands_share_variables_folder_and_exit_code(tmp_path: Path) -> None:
    ran = await run(
        tmp_path, *("$ cd examples", "$ word=a", '$ echo "$word"; ls catalog.yaml', "a", "catalog.yaml"),
        *("$ (exit 3)", "$ echo $?", "3"),
    )  # fmt: skip
    assert [each.fault for each in ran] == [""] * 5


async def test_a_failing_command_and_a_wrong_line_are_told(tmp_path: Path) -> None:
    ran = await run(tmp_path, "$ false", "$ echo a", "b", "$ no-such-command")
    assert [each.failed for each in ran] == [True, False, True]
    assert "the exit code is 1, not 0" in ran[0].fault
    assert "-b\n+a" in ran[1].fault
    assert "the exit code is 127, not 0" in ran[2].fault


def test_recording_writes_what_was_printed_and_leaves_the_rest() -> None:
    page = console("$ one", "?", "$ two", "kept", "$ three", "old", "lines")
    first, second, third = steps(page)
    ran = [Ran(first, "1\n", "differs"), Ran(second, "x\n", ""), Ran(third, "3\n", "differs")]
    assert with_output(page, ran) == console("$ one", "1", "$ two", "kept", "$ three", "3")


@pytest.mark.parametrize(
    "command",
    ["make run", "make test    # all", "docker build -t creditd .", "git clone https://x && cd creditd"],
)
def test_what_is_not_run_has_a_reason(command: str) -> None:
    assert reason_not_run(command)


@pytest.mark.parametrize(
    "command",
    ["creditd check demo chat", "grpcurl x", "make run && rm -r x", "creditd dev --demo; creditd check"],
)
def test_nothing_else_is_left_out(command: str) -> None:
    assert not reason_not_run(command)
