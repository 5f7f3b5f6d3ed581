"""A tree of plain values as YAML or JSON text that reads back to the same tree.

YAML is written here rather than by a library for its looks (a price is one line) and its speed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

LINE_MAX = 110

_SAFE = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./@ -]*[A-Za-z0-9_./@-])?")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_UNPRINTABLE = re.compile("[\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff\ufffe\uffff]")


class Plain(str):
    """A text that needs no quotes in YAML although it does not begin with a letter: `3 months`."""

    __slots__ = ()


def to_yaml(tree: Any) -> str:
    """YAML text of dicts, lists, texts, booleans, None, ints, floats and Decimals."""
    return "\n".join(_block(tree, "")) + "\n"


def to_json(tree: Any) -> str:
    """JSON text of the same, one line for each short object."""
    return _json(tree, "") + "\n"


def _block(tree: Any, indent: str) -> Iterator[str]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _entry(f"{indent}{_key(key)}:", value, f"{indent}  ")
    elif isinstance(tree, list) and tree:
        for item in tree:
            yield from _item(item, indent)
    else:
        yield indent + _flow(tree)


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    """A key and its value, beside it if it is short."""
    short = _short(value, len(head) + 1)
    if short is not None:
        yield f"{head} {short}"
    else:
        yield head
        yield from _block(value, indent)


def _item(item: Any, indent: str) -> Iterator[str]:
    short = _short(item, len(indent) + 2)
    if short is not None:
        yield f"{indent}- {short}"
        return
    lines = _block(item, f"{indent}  ")
    yield f"{indent}- {next(lines).lstrip(' ')}"
    yield from lines


def _short(value: Any, column: int) -> str | None:
    """The value in one line, if it is a scalar or a collection of scalars that fits."""
    if isinstance(value, dict | list) and value:
        children = value.values() if isinstance(value, dict) else value
        if any(isinstance(child, dict | list) and child for child in children):
            return None
        text = _flow(value)
        return text if column + len(text) <= LINE_MAX else None
    return _flow(value)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str):
        return str(value) if isinstance(value, Plain) else _text(value)
    return _number(value)


def _number(value: bool | float | Decimal | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:f}" if isinstance(value, Decimal) else repr(value)


def _key(key: str) -> str:
    return _text(key)


def _text(text: str) -> str:
    if _SAFE.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _json(value: Any, indent: str) -> str:
    if isinstance(value, dict | list) and value:
        deeper = indent + " "
        if isinstance(value, dict):
            parts = [f"{_quoted(key)}: {_json(item, deeper)}" for key, item in value.items()]
            opening, closing = "{", "}"
        else:
            parts = [_json(item, deeper) for item in value]
            opening, closing = "[", "]"
        line = ", ".join(parts)
        if len(indent) + len(line) <= LINE_MAX and "\n" not in line:
            return f"{opening}{line}{closing}"
        separator = f",\n{deeper}"
        return f"{opening}\n{deeper}{separator.join(parts)}\n{indent}{closing}"
    if isinstance(value, str):
        return _quoted(value)
    return _flow(value)
