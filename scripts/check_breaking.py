"""Fails when protos/ would break callers of the last commit's API, as `buf breaking` sees it.

The working tree is compared with HEAD or, when HEAD's protos are the working tree's, with HEAD~1. So the
command says the same before a commit as after it.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = "protos"
CONFIG = "buf.yaml"


def check(root: Path = ROOT) -> int:
    """Compares the protos below `root` with an earlier commit's; returns buf's exit status, 0 without one."""
    with tempfile.TemporaryDirectory() as scratch:
        for revision in ("HEAD", "HEAD~1"):
            base = Path(scratch, revision)
            if not _export(root, revision, base):
                break
            if _contents(base) != _contents(root):
                return _compare(root, base, revision)
    print("no earlier protos to compare with: nothing can break")
    return 0


def _export(root: Path, revision: str, base: Path) -> bool:
    """Writes the protos and buf.yaml of `revision` to `base`; False when it has no protos."""
    git = ("git", "-C", str(root))
    # Asked first, so that a directory that is no repository fails here, with git's own words.
    shallow = subprocess.run(
        [*git, "rev-parse", "--is-shallow-repository"], check=True, stdout=subprocess.PIPE
    )
    known = subprocess.run(
        [*git, "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}"],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if known.returncode != 0:
        if shallow.stdout.strip() == b"true":
            sys.exit(f"{revision} is not in this shallow clone; fetch at least two commits")
        return False
    tree = subprocess.run(
        [*git, "ls-tree", "--name-only", revision, PROTOS, CONFIG], check=True, stdout=subprocess.PIPE
    )
    names = tree.stdout.decode().split()
    if PROTOS not in names:
        return False
    archive = subprocess.run([*git, "archive", revision, *names], check=True, stdout=subprocess.PIPE)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(base, filter="data")
    if CONFIG not in names:
        shutil.copy(root / CONFIG, base)
    return True


def _contents(root: Path) -> dict[str, bytes]:
    paths = sorted((root / PROTOS).rglob("*.proto"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def _compare(root: Path, base: Path, revision: str) -> int:
    buf = Path(sys.executable).parent / "buf"
    done = subprocess.run([buf, "breaking", "--against", base], cwd=root, check=False)
    if done.returncode == 0:
        print(f"protos break nothing that {revision} has")
    return done.returncode


if __name__ == "__main__":
    sys.exit(check())
