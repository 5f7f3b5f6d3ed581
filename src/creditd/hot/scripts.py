"""The Lua scripts, read once, with their digests."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Final

_INCLUDE: Final = "-- @include kernel.lua\n"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the digest by which a server that has seen it knows it."""

    name: str
    text: str
    digest: str


def _read(name: str) -> Script:
    folder = files("creditd.hot") / "lua"
    text = (folder / f"{name}.lua").read_text()
    if _INCLUDE in text:
        text = text.replace(_INCLUDE, (folder / "kernel.lua").read_text())
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


CHECK: Final = _read("check")
DECIDE: Final = _read("decide")
PUT: Final = _read("put")
DROP: Final = _read("drop")
GIVE_BACK: Final = _read("give_back")
REVISE: Final = _read("revise")
ALL: Final = (CHECK, DECIDE, PUT, DROP, GIVE_BACK, REVISE)
