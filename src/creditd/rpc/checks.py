"""What every request must look like, checked before anything is asked of the engine; all faults, not the first."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.errors import InvalidArgument
from creditd.rpc.codec_values import Faults

ID_BYTES_MAX: Final = 255
TEXT_BYTES_MAX: Final = 1024
MAP_MAX: Final = 100
BATCH_MAX: Final = 1000
PAGE_MAX: Final = 1000
PAGE_DEFAULT: Final = 100
SECONDS_MAX: Final = 253_402_300_799
"""9999-12-31T23:59:59Z."""


class Checks(Faults):
    """Collects violations; `done` raises them."""

    def done(self) -> None:
        """Raise InvalidArgument when there were faults."""
        if self.violations:
            raise InvalidArgument(violations=self.violations)

    def identifier(self, path: str, value: str, *, required: bool = True) -> None:
        """1 to 255 bytes of printable text; may be empty when not required."""
        if not value:
            if required:
                self.add(path, "is empty; expected 1 to 255 bytes of printable text")
        elif len(value) > ID_BYTES_MAX or (not value.isascii() and len(value.encode()) > ID_BYTES_MAX):
            self.add(path, f"is {len(value.encode())} bytes long; at most {ID_BYTES_MAX} are allowed")
        elif not value.isprintable():
            self.add(path, "has characters that can't be printed")

    def text(self, path: str, value: str, bytes_max: int = TEXT_BYTES_MAX) -> None:
        """Free text within a length, without NUL."""
        if len(value) > bytes_max or (not value.isascii() and len(value.encode()) > bytes_max):
            self.add(path, f"is longer than {bytes_max} bytes")
        elif "\x00" in value:
            self.add(path, "has a NUL character")

    def texts(self, path: str, values: Mapping[str, str], bytes_max: int) -> None:
        """A map of at most 100 texts with identifiers as keys."""
        if self._too_many(path, values):
            return
        for key, value in values.items():
            self.identifier(f'{path}["{key[:64]}"]', key)
            self.text(f'{path}["{key[:64]}"]', value, bytes_max)

    def quantities(self, path: str, values: Mapping[str, int]) -> None:
        """A map of at most 100 quantities of 0 to 9e15."""
        if self._too_many(path, values):
            return
        for key, value in values.items():
            self.identifier(f'{path}["{key[:64]}"]', key)
            self.number(f'{path}["{key[:64]}"]', value)

    def _too_many(self, path: str, values: Mapping[str, Any]) -> bool:
        if len(values) > MAP_MAX:
            self.add(path, f"has {len(values)} entries; at most {MAP_MAX} are allowed")
        return len(values) > MAP_MAX

    def number(self, path: str, value: int, low: int = 0, high: int = AMOUNT_MAX) -> None:
        """An integer from `low` to `high`."""
        if not low <= value <= high:
            self.add(path, f"is {value}; expected {low} to {high}")

    def enum(self, path: str, value: int, known: Any) -> None:
        """A value that the enum has; 0 included."""
        if value not in known.values():
            self.add(path, f"is {value}; expected one of {', '.join(known.keys())}")

    def batch(self, count: int) -> None:
        """A batch of 1 to 1,000 items."""
        if not 1 <= count <= BATCH_MAX:
            self.add("items", f"has {count} items; expected 1 to {BATCH_MAX}")

    def instant(self, path: str, message: Any, field: str) -> int | None:
        """A timestamp field in ms, from 1970 to 9999; None when it is not set."""
        if not message.HasField(field):
            return None
        value: Timestamp = getattr(message, field)
        if not 0 <= value.seconds <= SECONDS_MAX or not 0 <= value.nanos < 1_000_000_000:
            self.add(path, "is out of range; expected an instant from 1970-01-01 to 9999-12-31")
            return None
        return value.seconds * 1000 + value.nanos // 1_000_000

    def duration(self, path: str, message: Any, field: str, low_ms: int, high_ms: int) -> int | None:
        """A duration field in ms, from `low_ms` to `high_ms`; None when it is not set."""
        if not message.HasField(field):
            return None
        value: Duration = getattr(message, field)
        ms = value.seconds * 1000 + value.nanos // 1_000_000
        if not low_ms <= ms <= high_ms:
            self.add(path, f"is {ms / 1000:g} s; expected {low_ms / 1000:g} s to {high_ms / 1000:g} s")
            return None
        return ms

    def page_size(self, value: int) -> int:
        """A page size: 0 leaves it to the server, too large is lowered."""
        if value < 0:
            self.add("page_size", "is negative; expected 0 (the server's choice) or more")
        return min(value, PAGE_MAX) or PAGE_DEFAULT

    def page_token(self, value: str) -> str:
        """The position in a page token; "" for the first page."""
        try:
            position = base64.urlsafe_b64decode(value.encode()).decode() if value else ""
        except (binascii.Error, ValueError):
            position = "\x00"
        if len(position.encode()) > ID_BYTES_MAX or (position and not position.isprintable()):
            self.add("page_token", "is not one that this server gave; begin without one")
            return ""
        return position

    def page_number(self, value: str) -> int | None:
        """The position in a page token, as a number."""
        position = self.page_token(value)
        if not position:
            return None
        if not (position.isascii() and position.isdigit() and len(position) < 19):
            self.add("page_token", "is not one that this server gave; begin without one")
            return None
        return int(position)


def page_token(position: object) -> str:
    """An opaque page token for a position."""
    return base64.urlsafe_b64encode(str(position).encode()).decode()
