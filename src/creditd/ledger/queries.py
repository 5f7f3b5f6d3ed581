"""Loads the named queries of `sql/*.sql`.

A query begins with a line `-- name: purpose` and ends where the next one begins. `{entry}` stands for the
columns of an entry, in the order of `rows.COLUMNS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Final

from creditd.ledger.rows import COLUMNS

_NAME: Final = re.compile(r"^-- (\w+): .+$", re.MULTILINE)
_ENTRY: Final = ", ".join(COLUMNS)


def load(file: str) -> Mapping[str, str]:
    """The queries of one file, by name."""
    text = resources.files("creditd.ledger").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {
        name: query.strip().replace("{entry}", _ENTRY)
        for name, query in zip(parts[1::2], parts[2::2], strict=True)
    }
