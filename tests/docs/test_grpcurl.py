"""docs/grpcurl.md has a command for every RPC that a real server answers, and for no other."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, steps
from tests.docs.served import served_rpcs
from tests.e2e.conftest import Dev

PAGE = ROOT / "docs" / "grpcurl.md"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def on_the_page() -> set[str]:
    """The RPCs that the page's commands call; `list` and `describe` are calls of reflection."""
    found = set()
    for step in steps(PAGE.read_text()):
        if step.command.startswith("grpcurl "):
            found |= set(re.findall(r"(?<=\s)[\w.]+/\w+(?=\s|$)", step.command))
            if re.search(r"127\.0\.0\.1:50051 (list|describe)", step.command):
                found.add(REFLECTION)
    return found


async def test_every_served_rpc_has_a_command_and_no_other_rpc_has_one(server: Dev) -> None:
    served, declared_only = await served_rpcs(server.address)
    shown = on_the_page()
    missing = sorted(served - shown)
    assert not missing, (
        "docs/grpcurl.md has no command for "
        + "".join(
            f"\n  {path}: add, in its place in the story,\n"
            f"    $ grpcurl -plaintext -d '{{...}}' 127.0.0.1:50051 {path}\n    ?"
            for path in missing
        )
        + "\nthen `python -m tests.docs.record docs/grpcurl.md` writes what it prints"
    )
    assert sorted(shown & declared_only) == [], "the page calls what the server does not serve"
    assert sorted(shown - served) == [], "the page calls what the server does not know"


async def test_served_rpcs_are_told_from_those_that_are_only_declared(server: Dev) -> None:
    served, declared_only = await served_rpcs(server.address)
    assert {"creditd.v1.Entitlements/Consume", "grpc.health.v1.Health/Watch", REFLECTION} <= served
    assert {"creditd.v1.Entitlements/Session", "creditd.v1.Entitlements/AcquireLease"} <= declared_only
