"""The rules of form that every request keeps before the engine sees it.

Each rule takes a value and where it stands: `at` is the path of the message in the request ("" or ending in a
dot, as `items[3].`) and `name` the field. It notes every fault and returns the value, so that one pass over a
request both checks and decodes it. Paths are put together only for a fault: Check and Consume come through here.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2  # type: ignore[import-untyped]

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import Money
from creditd.domain.errors import InvalidArgument
from creditd.domain.periods import MS_MAX
from creditd.rpc.codec_values import Faults, read_money, timestamp_from_proto

T = TypeVar("T")

ID_BYTES_MAX: Final = 255
TEXT_BYTES_MAX: Final = 1024
ENTRIES_MAX: Final = 100
ITEMS_MAX: Final = 1000
PRIORITY_MAX: Final = 1_000_000
PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000

_PLAIN_CHARACTERS = ID_BYTES_MAX // 4
"""A text of so many characters has at most 255 bytes, whatever they are."""

_SECONDS_MAX = MS_MAX // 1000
_SHOWN_MAX = 60


def refuse(faults: Faults) -> None:
    """Ends the reading of a request.

    Raises:
        InvalidArgument: something was noted; with every violation.
    """
    if faults.violations:
        raise InvalidArgument(violations=faults.violations)


def identifier(value: str, at: str, name: str, faults: Faults) -> str:
    """An id or key that must be there: 1 to 255 bytes of printable text."""
    if 0 < len(value) <= _PLAIN_CHARACTERS and value.isprintable():
        return value
    if not value:
        faults.add(at + name, "is required; expected 1 to 255 bytes of printable text")
    return _slow_identifier(value, at + name, faults)


def optional_identifier(value: str, at: str, name: str, faults: Faults) -> str:
    """An id or key that may be empty: up to 255 bytes of printable text."""
    if len(value) <= _PLAIN_CHARACTERS and value.isprintable():
        return value
    return _slow_identifier(value, at + name, faults)


def identifiers(values: Iterable[str], at: str, name: str, faults: Faults) -> tuple[str, ...]:
    """A list of keys, at most 100."""
    given = tuple(values)
    if len(given) > ENTRIES_MAX:
        faults.add(at + name, f"has {len(given):,} items; expected at most {ENTRIES_MAX}")
        return given
    for index, value in enumerate(given):
        identifier(value, at, f"{name}[{index}]", faults)
    return given


def _slow_identifier(value: str, path: str, faults: Faults) -> str:
    size = len(value.encode())
    if size > ID_BYTES_MAX:
        faults.add(path, f"has {size:,} bytes; expected at most {ID_BYTES_MAX}")
    elif not value.isprintable():
        # str.isprintable() also refuses the spaces of other scripts, which are fine in a name.
        for place, character in enumerate(value):
            if _is_control(character):
                faults.add(
                    path, f"has U+{ord(character):04X} at character {place + 1}; expected printable text"
                )
                break
    return value


def _is_control(character: str) -> bool:
    """Control, format, private and unassigned characters, and what breaks lines."""
    category = unicodedata.category(character)
    return category[0] == "C" or category in {"Zl", "Zp"}


def text(value: str, at: str, name: str, faults: Faults, most: int = TEXT_BYTES_MAX) -> str:
    """A text for people: any characters but U+0000, which PostgreSQL can't keep."""
    if value and not (len(value) * 4 <= most and "\0" not in value):
        _slow_text(value, at + name, faults, most)
    return value


def _slow_text(value: str, path: str, faults: Faults, most: int) -> None:
    size = len(value.encode())
    if size > most:
        faults.add(path, f"has {size:,} bytes; expected at most {most}")
    if "\0" in value:
        faults.add(path, "has U+0000, which cannot be kept")


def texts(
    values: Mapping[str, str], at: str, name: str, faults: Faults, most: int = TEXT_BYTES_MAX
) -> dict[str, str]:
    """A map of at most 100 texts; its keys are like ids."""
    if not values:
        return {}
    entries = dict(values)
    if _fits(entries, at, name, faults):
        for key, value in entries.items():
            if not (0 < len(key) <= _PLAIN_CHARACTERS and key.isprintable()):
                identifier(key, at, _entry(name, key), faults)
            if not (len(value) * 4 <= most and "\0" not in value):
                _slow_text(value, at + _entry(name, key), faults, most)
    return entries


def quantities(values: Mapping[str, int], at: str, name: str, faults: Faults) -> dict[str, int]:
    """A map of at most 100 numbers from 0 to 9e15; its keys are like ids."""
    if not values:
        return {}
    entries = dict(values)
    if _fits(entries, at, name, faults):
        for key, value in entries.items():
            if not (0 < len(key) <= _PLAIN_CHARACTERS and key.isprintable()):
                identifier(key, at, _entry(name, key), faults)
            if not 0 <= value <= AMOUNT_MAX:
                faults.add(at + _entry(name, key), f"is {value:,}; expected 0 to 9e15")
    return entries


def _fits(entries: Mapping[str, object], at: str, name: str, faults: Faults) -> bool:
    if len(entries) <= ENTRIES_MAX:
        return True
    faults.add(at + name, f"has {len(entries):,} entries; expected at most {ENTRIES_MAX}")
    return False


def _entry(name: str, key: str) -> str:
    """The path of a map's entry, on one line whatever the key holds: usage["input_tokens"]."""
    shown = key if len(key) <= _SHOWN_MAX else key[:_SHOWN_MAX] + "..."
    return f"{name}[{json.dumps(shown)}]"


def between(value: int, low: int, high: int, at: str, name: str, faults: Faults) -> int:
    """A number from `low` to `high`."""
    if not low <= value <= high:
        most = "9e15" if high == AMOUNT_MAX else f"{high:,}"
        least = "-9e15" if low == -AMOUNT_MAX else f"{low:,}"
        faults.add(at + name, f"is {value:,}; expected {least} to {most}")
    return value


def enumerated(number: int, known: Mapping[int, T], at: str, name: str, faults: Faults) -> T | None:
    """The meaning of an enum's number; proto3 lets through numbers that the enum has not."""
    meaning = known.get(number)
    if meaning is None and number not in known:
        numbers = ", ".join(str(value) for value in known)
        faults.add(at + name, f"has the unknown value {number}; expected one of {numbers}")
    return meaning


def instant(message: Message, at: str, name: str, faults: Faults) -> int | None:
    """A Timestamp field in ms, None when unset: 1970 to 9999."""
    if not message.HasField(name):
        return None
    timestamp: Timestamp = getattr(message, name)
    if not 0 <= timestamp.nanos < 1_000_000_000:
        faults.add(at + name, f"has {timestamp.nanos:,} nanos; expected 0 to 999,999,999")
    elif not 0 <= timestamp.seconds <= _SECONDS_MAX:
        faults.add(at + name, "lies outside of the years 1970 to 9999")
    return timestamp_from_proto(timestamp)


def price(message: Message, at: str, name: str, faults: Faults) -> Money | None:
    """A Money field, None when unset: of a currency, not negative, at most 9e15 whole units."""
    if not message.HasField(name):
        return None
    given: money_pb2.Money = getattr(message, name)
    code: str = given.currency_code
    if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
        problem = "is no currency; expected three capital letters (ISO 4217), as USD"
        faults.add(f"{at}{name}.currency_code", problem)
    if not 0 <= given.units <= AMOUNT_MAX or given.nanos < 0:
        faults.add(at + name, "is not an amount from 0 to 9e15")
        return None
    return read_money(given, at + name, faults)


def items(count: int, name: str, faults: Faults) -> bool:
    """Whether a batch has 1 to 1000 items; the rest of a larger one is not looked at."""
    if 1 <= count <= ITEMS_MAX:
        return True
    faults.add(name, f"has {count:,} items; expected 1 to {ITEMS_MAX}")
    return False


def page_size(value: int, faults: Faults) -> int:
    """How many items a page has: 100 when not given, at most 1000."""
    if value < 0:
        faults.add("page_size", f"is {value:,}; expected 0 or more")
        return PAGE_SIZE_DEFAULT
    return min(value, PAGE_SIZE_MAX) or PAGE_SIZE_DEFAULT
