"""How the fields of catalog messages look in a catalog file.

A file has the messages' own fields, with four differences that make it readable:

| message | file |
| --- | --- |
| `credits_micros: 250000` (every `*_micros` field) | `credits: 0.25`, in credits |
| `Money` | `0.01 USD` |
| `Period` | `month`, `3 months` or `{unit: month, count: 3}` |
| enum `BURN_ORDER_OLDEST_FIRST` | `oldest_first` |

Timestamps are ISO 8601 with a time zone; `google.protobuf.Value` is any YAML or JSON value.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from creditd.domain.amounts import INT64_MAX, MICROS_PER_CREDIT, NANOS_PER_UNIT
from creditd.domain.catalog_text import credits_text, decimal_text
from creditd.v1 import catalog_pb2 as pb

MICROS = "_micros"
MONEY: Final = "google.type.Money"
PERIOD: Final = pb.Period.DESCRIPTOR.full_name
TIMESTAMP: Final = "google.protobuf.Timestamp"
VALUE: Final = "google.protobuf.Value"

_NUMBER = re.compile(r"[-+]?\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_MONEY = re.compile(r"(\S+) +([A-Z]{3})")
_PERIOD = re.compile(r"(?:(\d{1,10}) +)?([a-z]+?)(s?)")


class TextError(ValueError):
    """A text that is not what the field holds; the message says what was expected."""


@cache
def fields_of(message: Descriptor) -> dict[str, FieldDescriptor]:
    """The fields of a message by their names in a file, in the message's order."""
    return {name_in_file(field): field for field in message.fields}


def name_in_file(field: FieldDescriptor) -> str:
    """`amount` for `amount_micros`."""
    return field.name.removesuffix(MICROS)


@cache
def enum_names(enum: EnumDescriptor) -> dict[str, int]:
    """The values of an enum by their names in a file, without UNSPECIFIED."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def value_field(field: FieldDescriptor) -> FieldDescriptor:
    """What a map maps to."""
    assert field.message_type is not None, field.full_name  # noqa: S101  # every map has an entry type
    return field.message_type.fields_by_name["value"]


def number(text: str) -> Fraction:
    """The exact value of a decimal.

    Raises:
        TextError: if it is no decimal.
    """
    try:
        if _NUMBER.fullmatch(text):
            return Fraction(Decimal(text.replace("_", "")))
    except InvalidOperation:  # pragma: no cover  # the pattern leaves nothing that Decimal refuses
        pass
    raise TextError(f"is {text!r}; expected a number")


def integer(text: str, high: int) -> int:
    """A whole number of at most `high` either way.

    Raises:
        TextError: if it is none.
    """
    try:
        value = number(text)
    except TextError:
        raise TextError(f"is {text!r}; expected a whole number") from None
    if value.denominator != 1:
        raise TextError(f"is {text}; expected a whole number")
    return _in_range(int(value), high, text)


def micros(text: str, *, price: bool) -> int:
    """Credits as micro-credits; `price`: they are for `per` units, which can be raised.

    Raises:
        TextError: if it is no number, or finer than a micro-credit.
    """
    value = number(text) * MICROS_PER_CREDIT
    if value.denominator == 1:
        return _in_range(int(value), INT64_MAX, text)
    problem = f"is {text}, finer than a micro-credit (0.000001)"
    if not price:
        raise TextError(f"{problem}; expected at most 6 decimals")
    factor = 1000
    while (value * factor).denominator != 1:
        factor *= 1000
    raised = credits_text(int(value * factor))
    raise TextError(f"{problem}; raise `per`: the same price is {raised} for {factor:,} times as many units")


def money(text: str) -> tuple[str, int]:
    """Currency and nanos of `0.01 USD`.

    Raises:
        TextError: if it is not of that form, or finer than a nano.
    """
    match = _MONEY.fullmatch(text)
    if match is None or not _NUMBER.fullmatch(match[1]):
        raise TextError(f"is {text!r}; expected an amount and a currency, as 0.01 USD")
    nanos = number(match[1]) * NANOS_PER_UNIT
    if nanos.denominator != 1:
        raise TextError(f"is {text}, finer than a nano of the currency; expected at most 9 decimals")
    return match[2], _in_range(int(nanos), INT64_MAX * NANOS_PER_UNIT, text)


def period(text: str) -> pb.Period:
    """`month` or `3 months`.

    Raises:
        TextError: if it is not of that form.
    """
    match = _PERIOD.fullmatch(text)
    units = enum_names(pb.Period.Unit.DESCRIPTOR)
    if match is None or match[2] not in units or bool(match[3]) != (match[1] not in {None, "1"}):
        raise TextError(f"is {text!r}; expected a period, as month or 3 months, of {', '.join(units)}")
    count = int(match[1] or 1)
    if not 1 <= count < 2**31:
        raise TextError(f"is {text!r}; expected a count of 1 or more")
    return pb.Period(unit=pb.Period.Unit.ValueType(units[match[2]]), count=count)


def timestamp(text: str) -> datetime:
    """An instant in ISO 8601.

    Raises:
        TextError: if it is none, or has no time zone.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise TextError(f"is {text!r}; expected an instant with a time zone, as 2026-01-31T00:00:00Z")
    return instant.astimezone(UTC)


def money_text(currency: str, nanos: int) -> str:
    """`0.01 USD`."""
    return f"{decimal_text(nanos, NANOS_PER_UNIT)} {currency}"


def _in_range(value: int, high: int, text: str) -> int:
    if not -high - 1 <= value <= high:
        raise TextError(f"is {text}, too large; expected at most {high}")
    return value
