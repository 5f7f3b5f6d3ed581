"""What the command line takes from the environment: the one place of the client commands that reads it.

`config.OTHERS` lists these variables, so that the settings of a server don't refuse them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ADDRESS: Final = "CREDITD_ADDRESS"
API_KEY: Final = "CREDITD_API_KEY"
CONTEXT_FILE: Final = "CREDITD_CONTEXT_FILE"


def variable(name: str) -> str:
    """The value of a variable; empty when it is not set."""
    return os.environ.get(name, "")


def context_file() -> Path:
    """Where the contexts are kept: CREDITD_CONTEXT_FILE, else `contexts.json` in the user's configuration."""
    chosen = variable(CONTEXT_FILE)
    if chosen:
        return Path(chosen)
    from platformdirs import user_config_path

    return user_config_path("creditd") / "contexts.json"
