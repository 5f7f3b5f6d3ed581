"""Go programs that tests run, built once into the repository's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_CACHE = Path(__file__).parents[2] / ".cache" / "go-bin"


def go_program(package: str, version: str) -> Path:
    """Return a published Go program; the test is skipped where there is no Go."""
    go = _go()
    name = package.rpartition("/")[2]
    folder = _CACHE / f"{package.replace('/', '_')}@{version}"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [go, "install", f"{package}@{version}"]
        _build(command, {"GOBIN": str(folder), "GOFLAGS": "-mod=mod"})
    return folder / name


def go_module(folder: Path) -> Path:
    """Return the program of a Go module of this repository; built anew when its source has changed."""
    go = _go()
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.read_bytes())
    program = _CACHE / f"{folder.name}@{digest.hexdigest()[:16]}" / folder.name
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        command = [go, "-C", str(folder), "build", "-o", str(program), "."]
        _build(command, {"GOFLAGS": "-mod=readonly -buildvcs=false"})
    return program


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip("the Go toolchain is not on PATH")
    return go


def _build(command: list[str], variables: dict[str, str]) -> None:
    for attempt in (1, 2):  # the module proxy may fail to answer once
        built = subprocess.run(
            command, env=os.environ | variables, check=False, capture_output=True, text=True
        )
        if built.returncode == 0:
            return
        assert attempt == 1, built.stderr
