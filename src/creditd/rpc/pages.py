"""Page tokens: where the next page begins, bound to the request that the pages are of."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, TypeVar

from google.protobuf.message import Message

from creditd.rpc.codec_values import Faults
from creditd.rpc.validate import optional_identifier, page_size

T = TypeVar("T")

_DIGEST_BYTES: Final = 8
_TOKEN_MAX: Final = 1024
_POSITION_MAX: Final = 2**53
_FIELDS_OF_PAGING: Final = ("page_size", "page_token")


class Page:
    """The page that a request asks for: `size` items after `position` ("" is the first page).

    It asks for one item more than it shows, to know whether it is the last one.
    """

    __slots__ = ("_digest", "position", "size")

    def __init__(self, request: Message, faults: Faults) -> None:
        self.size = page_size(request.page_size, faults)  # type: ignore[attr-defined]
        self._digest = _digest(request)
        token: str = request.page_token  # type: ignore[attr-defined]
        self.position = self._read(token, faults) if token else ""

    @property
    def limit(self) -> int:
        """How many items to ask the engine for."""
        return self.size + 1

    def number(self, faults: Faults) -> int | None:
        """The position as a number, None on the first page."""
        if not self.position:
            return None
        if self.position.isdecimal() and self.position.isascii() and int(self.position) <= _POSITION_MAX:
            return int(self.position)
        _refuse(faults)
        return None

    def cut(self, found: Sequence[T], position: Callable[[T], str | int]) -> tuple[Sequence[T], str]:
        """The items to show of those found, and the token of the next page, "" on the last one."""
        if len(found) <= self.size:
            return found, ""
        shown = found[: self.size]
        token = self._digest + str(position(shown[-1])).encode()
        return shown, base64.urlsafe_b64encode(token).decode().rstrip("=")

    def _read(self, token: str, faults: Faults) -> str:
        try:
            if len(token) > _TOKEN_MAX:
                raise ValueError("too long")
            padded = token.encode("ascii") + b"=" * (-len(token) % 4)
            content = base64.b64decode(padded, altchars=b"-_", validate=True)
            position = content[_DIGEST_BYTES:].decode()
        except (ValueError, binascii.Error):
            _refuse(faults)
            return ""
        if content[:_DIGEST_BYTES] != self._digest or not position:
            _refuse(faults)
            return ""
        # Whoever makes up a token must not get more through than an id.
        return optional_identifier(position, "", "page_token", faults)


def _digest(request: Message) -> bytes:
    """What a token is bound to: the kind of the request, and all of its fields but those of paging."""
    question = type(request)()
    question.CopyFrom(request)
    for name in _FIELDS_OF_PAGING:
        question.ClearField(name)
    content = question.SerializeToString(deterministic=True)
    key = question.DESCRIPTOR.full_name.encode()[-64:]
    return blake2b(content, digest_size=_DIGEST_BYTES, key=key).digest()


def _refuse(faults: Faults) -> None:
    faults.add("page_token", "is no token of this request; expected next_page_token of its page before")
