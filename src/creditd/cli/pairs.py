"""Options of the form `name=value,name=value`, and amounts as people read them."""

from __future__ import annotations

from collections.abc import Iterable

import typer

MICROS = 1_000_000


def pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """The pairs in an option that may be given several times."""
    found: dict[str, str] = {}
    for value in values:
        for part in filter(None, value.split(",")):
            name, separator, text = part.partition("=")
            if not separator or not name:
                raise typer.BadParameter(f"{part!r} is not of the form name=value", param_hint=option)
            found[name] = text
    return found


def quantities(values: Iterable[str], option: str) -> dict[str, int]:
    """The pairs in an option, with whole numbers as values."""
    found: dict[str, int] = {}
    for name, text in pairs(values, option).items():
        try:
            found[name] = int(text)
        except ValueError:
            raise typer.BadParameter(f"{name}={text!r} is not a whole number", param_hint=option) from None
    return found


def credits_text(micros: int) -> str:
    """Micro-credits as decimal credits, grouped, without trailing zeros."""
    whole, rest = divmod(abs(micros), MICROS)
    text = f"{whole:,}" + (f".{rest:06d}".rstrip("0") if rest else "")
    return f"-{text}" if micros < 0 else text
