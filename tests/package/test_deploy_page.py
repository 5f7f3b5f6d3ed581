"""The commands of docs/deploy.md, section Package, run as they are written: paths and addresses are the test's own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.package.conftest import ROOT, UV, Dist, environment
from tests.package.serving import Server, decides, run

PAGE = (ROOT / "docs" / "deploy.md").read_text()
PACKAGE = PAGE.partition("\n## Package\n")[2].partition("\n## ")[0]


def blocks(section: str) -> list[list[str]]:
    """The commands of each block, without what they print."""
    found = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [
        [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")] for block in found
    ]


async def test_the_package_is_installed_and_serves_as_the_page_says(
    dist: Dist, index: Path, dsn: str, valkey: str, tmp_path: Path
) -> None:
    plain, health, locked, dev = blocks(PACKAGE)
    (tmp_path / "dist").mkdir()
    shutil.copy(dist.wheel, tmp_path / "dist")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").symlink_to(UV)
    home = str(tmp_path / "opt")
    settings = environment(UV_CACHE_DIR=str(index), CREDITD_LISTEN="127.0.0.1:0")
    settings["PATH"] = f"{tmp_path / 'bin'}:{settings['PATH']}"
    given = {"/opt/creditd": home, "postgresql://creditd:secret@db.internal/creditd": dsn}
    given["redis://cache.internal:6379/0"] = valkey

    def written(commands: list[str]) -> list[str]:
        script = "\n".join(["set -e", *commands])
        for there, here in given.items():
            script = script.replace(there, here)
        return ["bash", "-c", script]

    async def serves(until: list[str]) -> None:
        assert until[-1] == "/opt/creditd/bin/creditd serve"
        until = [*until[:-1], f"exec {until[-1]}"]
        async with Server(written(until), settings, tmp_path) as server:
            asked = {**settings, "CREDITD_ADDRESS": server.address}
            assert await run(written(health), asked, tmp_path) == (0, "SERVING\n")
            await decides(server.address)
            assert await server.stop() == 0, server.log

    await serves(plain)
    shutil.rmtree(home)
    code, printed = await run(written(locked), settings, tmp_path)
    assert code == 0, printed
    await serves(plain[2:])
    shutil.rmtree(home)
    code, printed = await run(written([plain[0], dev[0]]), settings, tmp_path)
    assert code == 0, printed
    assert dev[1].endswith("creditd dev --demo")
    at = [f"exec {dev[1]} --listen 127.0.0.1:0 --data-dir {tmp_path / 'data'}"]
    async with Server(written(at), environment(), tmp_path, ready="creditd serves gRPC on ") as server:
        await decides(server.address, demo=True)
        assert await server.stop() == 0, server.log


def test_the_page_names_the_version_that_is_built(dist: Dist) -> None:
    named = set(re.findall(r"creditd-[\d.]+-py3-none-any\.whl", PAGE))
    assert named == {dist.wheel.name}
    version = dist.wheel.name.split("-")[1]
    assert set(re.findall(r"\bcreditd:(\d[\w.]*)", PAGE)) == {version}
    assert set(re.findall(r"VERSION=(\S+)", PAGE)) == {version}
