"""The project's wheel and sdist, built once by its locked tools, and environments with nothing of this checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parents[2]
UV = uv.find_uv_bin()

# How this machine reaches its package index; all else of the environment stays outside.
_NETWORK = re.compile(
    r"PATH|HOME|LANG|(PIP|UV)_(.*INDEX.*|CERT|TRUSTED_HOST|NATIVE_TLS|SYSTEM_CERTS)|SSL_CERT_(FILE|DIR)"
    r"|REQUESTS_CA_BUNDLE|(HTTPS?|NO|ALL)_PROXY",
    re.IGNORECASE,
)
CLEAN = {name: value for name, value in os.environ.items() if _NETWORK.fullmatch(name)} | {"COLUMNS": "200"}


def run(*command: str | Path, **more: object) -> str:
    """Run a tool that must succeed, without any setting of creditd, pip or Python; what it printed."""
    options: dict[str, object] = {
        "env": CLEAN,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        **more,
    }
    finished = subprocess.run(list(map(str, command)), text=True, check=False, **options)
    assert finished.returncode == 0, f"{' '.join(map(str, command))}\n{finished.stdout}"
    return str(finished.stdout)


@dataclass(frozen=True)
class Dist:
    """What is built to be published."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Installed:
    """A virtual environment with creditd in it, and nothing of this checkout on its path."""

    home: Path

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    @property
    def creditd(self) -> str:
        return str(self.home / "bin" / "creditd")


def build(source: Path, out: Path, *what: str) -> None:
    """Build with hatchling as it is locked, without looking at any index."""
    run(
        UV,
        "build",
        "--quiet",
        "--offline",
        "--no-build-isolation",
        "--python",
        sys.executable,
        *what,
        "-o",
        out,
        source,
    )


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Dist:
    """The wheel and the sdist, each built from the sources."""
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, out, "--sdist", "--wheel")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Dist(wheel, sdist)


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of uv's for this session alone; tests that ask the index use it, and are skipped where there is none."""
    cache = tmp_path_factory.mktemp("uv-cache")
    asked = subprocess.run(
        [UV, "pip", "compile", "--quiet", "--cache-dir", str(cache), "-"],
        input="packaging",
        env=CLEAN,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        assert "CI" not in os.environ, asked.stderr
        pytest.skip("no package index can be reached")
    return cache


def locked(dist: Dist, cache: Path, extra: str = "") -> str:
    """Requirements with hashes: what the lock file has of what the wheel asks for."""
    return run(
        *(
            UV,
            "pip",
            "compile",
            "--quiet",
            "--cache-dir",
            cache,
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
        ),
        *("--python", sys.executable, "--constraints", ROOT / "requirements.lock"),
        *("--no-emit-package", "creditd", "-"),
        input=f"creditd{extra} @ {dist.wheel.as_uri()}",
        stderr=None,
    )


def new_environment(home: Path, cache: Path) -> Installed:
    """An empty virtual environment, without pip."""
    run(UV, "venv", "--quiet", "--cache-dir", cache, "--python", sys.executable, home)
    return Installed(home)


def uv_install(into: Installed, cache: Path, *what: str | Path) -> None:
    """Install by uv, from the session's own cache or the index."""
    run(UV, "pip", "install", "--quiet", "--cache-dir", cache, "--python", into.python, *what)


@pytest.fixture(scope="session")
def installed(dist: Dist, index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """`pip install creditd-*.whl` in an environment as users make it: by venv and pip alone."""
    made = Installed(tmp_path_factory.mktemp("installed"))
    run(sys._base_executable, "-m", "venv", made.home)
    wanted = made.home / "requirements.txt"
    wanted.write_text(locked(dist, index))
    pip = (made.python, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "--quiet")
    run(*pip, "--only-binary", ":all:", "--require-hashes", "--requirement", wanted)
    # Without an index: whatever the wheel asks for is there by now.
    run(*pip, "--no-index", dist.wheel)
    yield made
    shutil.rmtree(made.home)


def environment(**more: str) -> dict[str, str]:
    """The environment of a process of an installation."""
    return {**CLEAN, **more}
