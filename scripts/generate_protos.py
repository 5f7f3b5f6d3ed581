"""Generates src/creditd/v1 from protos/; `--check` fails when what is there is stale."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = Path("protos")
PACKAGE = Path("creditd/v1")
PATTERN = "*_pb2*.py*"


def generate(out: Path) -> None:
    """Generates messages, stubs and their types under `out`."""
    sources = sorted(path.relative_to(ROOT) for path in (ROOT / PROTOS / PACKAGE).glob("*.proto"))
    plugins = ("python", "grpc_python", "mypy", "mypy_grpc")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{PROTOS / 'third_party'}"]
    command += [f"--{plugin}_out={out}" for plugin in plugins]
    command += ["--mypy_opt=quiet", "--mypy_grpc_opt=quiet"]
    # protoc finds the plugins of mypy-protobuf beside this interpreter, activated or not.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    subprocess.run([*command, *map(str, sources)], cwd=ROOT, env={**os.environ, "PATH": path}, check=True)


def stale_files() -> list[str]:
    """Paths below the root that are missing, outdated or left over, in order."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = _generated(Path(scratch))
    present = _generated(ROOT / "src")
    names = sorted(fresh.keys() | present.keys())
    return [f"src/{PACKAGE}/{name}" for name in names if fresh.get(name) != present.get(name)]


def regenerate() -> None:
    """Generates into src/ and removes what no proto stands behind any more."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = _generated(Path(scratch))
    target = ROOT / "src" / PACKAGE
    present = _generated(ROOT / "src")
    for name, content in fresh.items():
        if present.get(name) != content:
            (target / name).write_bytes(content)
    for name in present.keys() - fresh.keys():
        (target / name).unlink()


def _generated(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / PACKAGE).glob(PATTERN))}


def main() -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is stale")
    if not parser.parse_args().check:
        regenerate()
        return 0
    stale = stale_files()
    for path in stale:
        print(f"stale: {path}", file=sys.stderr)
    if stale:
        print("run `make proto` and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
