"""Every Lua script gives its interface in a header, and uses no key that the caller did not declare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "src" / "creditd" / "hot" / "lua"
SCRIPTS = sorted(path for path in FOLDER.glob("*.lua") if path.name != "kernel.lua")
ALL = sorted(FOLDER.glob("*.lua"))

# The command of a call and its first argument, up to the comma or bracket after it.
_CALL = re.compile(r"redis\.p?call\(\s*([^,)]+?)\s*(?:,\s*([^,)]+?)\s*)?[,)]")
_DECLARED = re.compile(r"KEYS\[\w+\]")
_NAME = re.compile(r"'[A-Z]+'")


def header_of(text: str) -> list[str]:
    """The lines of a script's first comment, after its `#!lua` line."""
    lines = []
    for line in text.splitlines()[1:]:
        if not line.startswith("--"):
            break
        lines.append(line)
    return lines


def foreign_keys(text: str) -> list[str]:
    """The calls whose key is not simply one of KEYS: a cluster could not place them."""
    code = "\n".join(line.split("--", maxsplit=1)[0] for line in text.splitlines())
    found = list(_CALL.finditer(code))
    assert len(found) == len(re.findall(r"redis\s*\.\s*p?call", code)), "a call that this test can't read"
    return [
        call.group(0)
        for call in found
        if not _NAME.fullmatch(call.group(1)) or not _DECLARED.fullmatch(call.group(2) or "")
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_header_gives_keys_arguments_and_reply(path: Path) -> None:
    text = path.read_text()
    assert re.fullmatch(r"#!lua( flags=[a-z,-]+)?", text.splitlines()[0]), (
        "the flags belong on the first line"
    )
    header = "\n".join(header_of(text))
    for part in ("KEYS", "ARGV", "Reply"):
        assert re.search(rf"^-- {part}\s+\S", header, re.MULTILINE), f"no {part} in the header"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_no_script_makes_up_a_key(path: Path) -> None:
    assert foreign_keys(path.read_text()) == []


def test_the_scripts_are_where_this_test_looks() -> None:
    assert {"check", "decide", "put", "drop", "give_back", "revise"} <= {path.stem for path in SCRIPTS}


@pytest.mark.parametrize(
    "line",
    [
        "redis.call('GET', KEYS[1] .. ':x')",
        "redis.call('GET', 'creditd:' .. ARGV[1])",
        "redis.call('DEL', key)",
        "redis.pcall(command, KEYS[1])",
        "redis.call('FLUSHALL')",
    ],
)
def test_a_made_up_key_is_found(line: str) -> None:
    assert len(foreign_keys(line)) == 1


def test_a_declared_key_is_fine() -> None:
    assert (
        foreign_keys("redis.call('SET', KEYS[next_key], value, 'PX', ARGV[4])\n-- redis.call('GET', x)") == []
    )
