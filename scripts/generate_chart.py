"""Writes what the Helm chart says twice: the settings in values.schema.json, and the table of values in README.md.

The settings come from `creditd.config.Settings`, so that a typo in `config` is refused before anything is installed.
The table comes from values.yaml: the comment above a value is its description. `--check` fails when either is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from creditd.config import Settings, variable

CHART = Path(__file__).resolve().parent.parent / "helm" / "creditd"
VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"

# Set by the chart itself: the first two from Secrets, the last from `port`.
NOT_IN_CONFIG = {"postgres_dsn", "redis_url", "listen"}
# Written as one value in the table, and given as one by users.
WHOLE = {"resources", "migration.resources", "podSecurityContext", "securityContext"}

# What is before, between and after the lines that hold what is generated.
_CONFIG = re.compile(r'(.*^    "config": \{\n).*?(^    \},\n.*)', re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"(.*<!-- values -->\n).*?(<!-- /values -->.*)", re.DOTALL)
_ENTRY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_]+):(?P<inline> .*)?")


class Value(NamedTuple):
    """A value that a user may set: its path, its default, what it is."""

    path: str
    default: Any
    description: str


def values() -> Iterator[Value]:
    """Every value of values.yaml in order.

    Raises:
        ValueError: one has no description.
    """
    defaults = YAML(typ="safe").load(VALUES.read_text())
    described = dict(_descriptions(VALUES.read_text()))
    for path, default in _leaves(defaults):
        description = described.get(path, "")
        if not description:
            raise ValueError(f"{VALUES.name}: {path} has no comment above it")
        yield Value(path, default, description)


def _leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and value and path not in WHOLE:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _descriptions(text: str) -> Iterator[tuple[str, str]]:
    """The comment directly above each key, by the key's path."""
    comment: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        if found := _ENTRY.fullmatch(line):
            depth = len(found["indent"])
            parents = [(indent, key) for indent, key in parents if indent < depth]
            yield ".".join([*(key for _, key in parents), found["key"]]), " ".join(comment)
            parents.append((depth, found["key"]))
        comment = []


def table() -> str:
    """The values as a Markdown table."""
    rows = ["| value | default | what it is |", "| --- | --- | --- |"]
    for path, default, description in values():
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {description} |")
    return "\n".join(rows) + "\n"


def config_schema() -> dict[str, Any]:
    """The JSON schema of `config`: every setting that is not the chart's own, with its type and range."""
    return {
        "type": "object",
        "description": "the chart sets the stores' addresses (from Secrets) and CREDITD_LISTEN (from port)",
        "additionalProperties": False,
        "properties": {
            variable(name): _setting_schema(field)
            for name, field in Settings.model_fields.items()
            if name not in NOT_IN_CONFIG
        },
    }


def _setting_schema(field: FieldInfo) -> dict[str, Any]:
    kind: Any = field.annotation
    about = {"description": field.description}
    if kind is bool:
        return about | {"type": "boolean"}
    if kind in (int, float):
        least = next(bound.ge for bound in field.metadata if isinstance(bound, Ge))
        most = next(bound.le for bound in field.metadata if isinstance(bound, Le))
        bounds = {"minimum": least, "maximum": most}
        if kind is int:
            return about | {"type": "integer"} | bounds
        # Helm makes a text of a fraction given by --set; creditd itself checks the range of that.
        return about | {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$"} | bounds
    return about | {"enum": list(get_args(kind))}


def _config_lines() -> str:
    schema = config_schema()
    properties = schema.pop("properties")
    lines = [f"      {json.dumps(key)}: {json.dumps(value)},\n" for key, value in schema.items()]
    each = ",\n".join(f"        {json.dumps(key)}: {json.dumps(value)}" for key, value in properties.items())
    return "".join(lines) + f'      "properties": {{\n{each}\n      }}\n'


def fresh() -> dict[Path, str]:
    """Each generated file as it should be."""
    made = {SCHEMA: (_CONFIG, _config_lines()), README: (_TABLE, table())}
    texts = {}
    for path, (place, content) in made.items():
        around = place.fullmatch(path.read_text())
        if around is None:
            raise ValueError(f"{path.name}: the place for what is generated is not there")
        texts[path] = around[1] + content + around[2]
    return texts


def main() -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a file is stale")
    check = parser.parse_args().check
    stale = {path: text for path, text in fresh().items() if path.read_text() != text}
    if check:
        for path in stale:
            print(f"{path.relative_to(CHART.parent.parent)} is stale: run `make chart`", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
