"""Generates the modules of creditd_client.v1 from the protos: `python generate.py PROTOS OUT`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path("creditd/v1")
TARGET = Path("creditd_client/v1")


def generate(protos: Path, out: Path) -> None:
    """Write the modules below `out`, and remove those that no proto stands behind any more."""
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(protos, Path(scratch))
        made = {path.name: _moved(path.read_text()) for path in (Path(scratch) / SOURCE).glob("*_pb2*.py*")}
    target = out / TARGET
    target.mkdir(parents=True, exist_ok=True)
    for path in target.glob("*_pb2*.py*"):
        path.unlink()
    for name, text in made.items():
        (target / name).write_text(text)


def _protoc(protos: Path, out: Path) -> None:
    sources = sorted(str(path.relative_to(protos)) for path in (protos / SOURCE).glob("*.proto"))
    plugins = [f"--{plugin}_out={out}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
    options = ["--mypy_opt=quiet", "--mypy_grpc_opt=quiet"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"-I{protos / 'third_party'}"]
    # protoc finds the plugins of mypy-protobuf beside this interpreter.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    subprocess.run([*command, *plugins, *options, *sources], env={**os.environ, "PATH": path}, check=True)


def _moved(text: str) -> str:
    """The module as part of creditd_client.v1: its imports, and the module that its classes say they are of.

    protoc names modules after the protos' folders, which would make this package collide with the service's own,
    `creditd`. The tools for that (protoletariat) change imports only, so that messages could not be pickled, and don't
    run with this protobuf. Names of protos (creditd/v1/grants.proto) and of messages (creditd.v1.Grant) stay.
    """
    text = re.sub(r"^from creditd\.v1 import", "from creditd_client.v1 import", text, flags=re.MULTILINE)
    return re.sub(
        r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')creditd\.v1\.", r"\1creditd_client.v1.", text
    )


if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]))
