"""`make pictures`: the script runs the commands that are there now, and shows nothing of the machine."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.e2e.conftest import ROOT


async def test_pictures_are_taken_of_what_the_commands_print(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "scripts/cli_pictures.py"), "check", "balance"),
        *("--port", str(port), "--output", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    pictures = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    texts = {
        name: "".join(ET.fromstring(picture).itertext()).replace("\xa0", " ")
        for name, picture in pictures.items()
    }

    assert process.returncode == 0, output.decode()
    assert set(pictures) == {"cli-check.svg", "cli-balance.svg"}
    assert "$ creditd check demo chat" in texts["cli-check.svg"]
    assert "demo-welcome" in texts["cli-balance.svg"]
    assert "@font-face" not in "".join(pictures.values())


def test_the_committed_pictures_are_whole() -> None:
    pictures = sorted((ROOT / "docs/images").glob("cli-*.svg"))

    assert pictures
    for path in pictures:
        ET.parse(path)
