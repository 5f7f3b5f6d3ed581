"""docs/api.md and docs/configuration.md are what the protos and the settings say now, and what a server does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT
from tests.docs.served import served_rpcs
from tests.e2e.conftest import Dev

from creditd.config import Settings, variable

API = (ROOT / "docs" / "api.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "generate_docs.py"), "--check"]
    return subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)


def test_generated_pages_are_fresh() -> None:
    checked = check(ROOT)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_stale_page_is_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("scripts", "protos"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "configuration.md").write_text(CONFIGURATION)
    (tmp_path / "docs" / "api.md").write_text(API.replace("Whether the usage was allowed", "Whether"))
    checked = check(tmp_path)
    assert checked.returncode == 1
    assert checked.stderr == "stale: docs/api.md\nrun `make docs` and commit the result\n"


def ours(paths: set[str]) -> set[str]:
    """Those of the paths that are of this API, as Service.Method."""
    prefix = "creditd.v1."
    return {path.removeprefix(prefix).replace("/", ".") for path in paths if path.startswith(prefix)}


async def test_the_reference_marks_what_a_server_does_not_serve(server: Dev) -> None:
    served, declared_only = await served_rpcs(server.address)
    sections = re.split(r"^### (\w+\.\w+)$", API, flags=re.MULTILINE)
    rpcs = {name: text for name, text in zip(sections[1::2], sections[2::2], strict=True) if " → " in text}
    marked = {name for name, text in rpcs.items() if "**Not served yet**" in text}
    assert rpcs.keys() - marked == ours(served)
    assert marked == ours(declared_only)
    assert len(re.findall(r"\*not yet\*$", API, re.MULTILINE)) == len(marked)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_row(name: str) -> None:
    row = re.search(rf"^\| `{variable(name)}` \|(.*)\|$", CONFIGURATION, re.MULTILINE)
    assert row is not None
    assert ("**Secret**" in row[1]) == (name in {"postgres_dsn", "redis_url"})
