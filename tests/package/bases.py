"""What stands for the image's base where no registry can be asked: a minimal Debian with Python, made by debootstrap.

`python:X.Y-slim-SUITE` is that Debian release with Python below /usr/local, pip, and no compiler. Here Python is
Debian's own of the same version, reached by links in /usr/local/bin, with pip from Debian's wheel of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from pathlib import Path

# As in python:slim, and what becomes pip.
_PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-pip-whl"
_MIRROR = "http://deb.debian.org/debian"

# Debian keeps pip off its own Python and installs below /usr; python:slim does neither.
_PREPARE = """
set -e
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
python=$(readlink -f /usr/bin/python3)
for name in python python3 "${python##*/}"; do ln -s "$python" "/usr/local/bin/$name"; done
wheel=$(echo /usr/share/python-wheels/pip-*.whl)
"$python" "$wheel/pip" install --quiet --no-index --root-user-action ignore "$wheel"
rm "$wheel"
"""


def make_base(base: str, cache: Path) -> Path:
    """The root that stands for a base image: `cache` keeps it from run to run.

    Raises:
        ValueError: it is not a slim image of Python on a named Debian release.
        subprocess.CalledProcessError: debootstrap failed; its log has been printed.
    """
    found = re.fullmatch(r"python:(\d+\.\d+)-slim-([a-z]+)(@sha256:[0-9a-f]{64})?", base)
    if found is None:
        raise ValueError(f"{base} is not python:VERSION-slim-SUITE: a floating base is not reproducible")
    version, suite = found[1], found[2]
    recipe = zlib.crc32(f"{_PACKAGES}{_PREPARE}".encode())
    root = cache / f"{suite}-{version}-{recipe:08x}"
    if root.exists():
        return root
    making = cache / f"making-{root.name}"
    if making.exists():
        shutil.rmtree(making)  # one that was interrupted
    making.mkdir(parents=True)
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", suite, str(making), _MIRROR]
    subprocess.run(command, check=True)
    subprocess.run(["chroot", str(making), "sh", "-c", _PREPARE], check=True)
    says = ["chroot", str(making), "/usr/local/bin/python", "--version"]
    printed = subprocess.run(says, check=True, capture_output=True, text=True).stdout
    if not printed.startswith(f"Python {version}."):
        raise ValueError(f"Debian {suite} has {printed.strip()}, the image asks for {version}")
    making.rename(root)
    return root


def copy_of(root: Path, target: Path) -> Path:
    """A root like another one, to be changed; device nodes and owners are kept."""
    subprocess.run(["cp", "-a", str(root), str(target)], check=True)
    return target
