"""Amounts, instants and pairs: as people type them, and as they read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from creditd.cli import catalog_fields as form
from creditd.domain.amounts import INT64_MAX

MICROS: Final = 1_000_000

_DURATION: Final = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def pairs(values: Iterable[str], option: str) -> dict[str, str]:
    r"""The pairs in an option that may be given several times; `\,` is a comma in a value."""
    found: dict[str, str] = {}
    for value in values:
        for part in filter(None, re.split(r"(?<!\\),", value)):
            name, separator, text = part.replace("\\,", ",").partition("=")
            if not separator or not name:
                raise typer.BadParameter(f"{part!r} is not of the form name=value", param_hint=option)
            found[name] = text
    return found


def quantities(values: Iterable[str], option: str) -> dict[str, int]:
    """The pairs in an option, with whole numbers as values."""
    found: dict[str, int] = {}
    for name, text in pairs(values, option).items():
        try:
            found[name] = form.integer(text, INT64_MAX)
        except form.TextError as error:
            raise typer.BadParameter(f"{name} {error}", param_hint=option) from None
    return found


def words(values: Iterable[str]) -> list[str]:
    """The words of an option that may be given several times, or once with commas."""
    return [word for value in values for word in value.split(",") if word]


def whole_number(text: str) -> int:
    """A whole number that fits the API; for the parser of an option."""
    try:
        return form.integer(text, INT64_MAX)
    except form.TextError as error:
        raise typer.BadParameter(str(error)) from None


def micros_of(text: str) -> int:
    """Credits as micro-credits, exactly; for the parser of an option."""
    try:
        return form.micros(text, price=False)
    except form.TextError as error:
        raise typer.BadParameter(f"{error}, in credits as 500 or 12.5") from None


def credits_text(micros: int) -> str:
    """Micro-credits as decimal credits, grouped, without trailing zeros."""
    whole, rest = divmod(abs(micros), MICROS)
    text = f"{whole:,}" + (f".{rest:06d}".rstrip("0") if rest else "")
    return f"-{text}" if micros < 0 else text


def signed_credits(micros: int) -> str:
    """A change of a balance: `+500`, `-0.75`, and 0 without a sign."""
    return f"+{credits_text(micros)}" if micros > 0 else credits_text(micros)


def of_credit(micros: int, credit: str) -> str:
    """An amount with its credit type: `5,999.25 credits`."""
    return f"{credits_text(micros)} {credit}".rstrip()


def instant_text(instant: Timestamp) -> str:
    """An instant to the second, in UTC, as options take it: `2026-01-31T10:00:00Z`."""
    return f"{instant.ToDatetime().isoformat(timespec='seconds')}Z"


def now() -> datetime:
    """The present, which relative instants are counted from."""
    return datetime.now(UTC)


def later(text: str) -> datetime:
    """An instant, or a time from now such as `30d`; for the parser of an option."""
    return instant_of(text, now(), 1)


def earlier(text: str) -> datetime:
    """An instant, or a time before now such as `2h`; for the parser of an option."""
    return instant_of(text, now(), -1)


def instant_of(text: str, at: datetime, sign: int) -> datetime:
    """An instant in ISO 8601, a day (its beginning in UTC), or a time after (`sign` 1) or before (-1) `at`.

    Raises:
        BadParameter: it is none of these.
    """
    found = _DURATION.fullmatch(text)
    try:
        if found:
            # Whole seconds, as instants are printed: what was printed can be given again and is the same.
            return at.replace(microsecond=0) + sign * timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return form.timestamp(text)
    except (form.TextError, ValueError, OverflowError):
        raise typer.BadParameter(
            f"is {text!r}; expected an instant with a time zone, as 2026-01-31T00:00:00Z, a day, as 2026-01-31, "
            "or a time from now, as 30d, 12h, 15m"
        ) from None
