"""Identifiers: 32 hex characters, ordered by time, so that they sit close together in an index."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgpack

NewId = Callable[[], str]


def id_source(wall_ms: Callable[[], int], random_bits: Callable[[int], int]) -> NewId:
    """A maker of ids: 48 bits of milliseconds, then 80 random bits."""

    def new_id() -> str:
        return f"{wall_ms() & 0xFFFFFFFFFFFF:012x}{random_bits(80):020x}"

    return new_id


def fingerprint(*parts: Any) -> str:
    """32 hex characters that tell two requests under one idempotency key apart; dicts compare without order."""
    plain = [sorted(part.items()) if isinstance(part, dict) else part for part in parts]
    return blake2b(msgpack.packb(plain), digest_size=16).hexdigest()
