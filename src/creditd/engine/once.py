"""Operations that come without an idempotency key: they land once all the same, under a key that nobody else has."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from creditd.domain.entries import once_key
from creditd.engine.ids import NewId
from creditd.engine.requests import Use

_ONCE: Final = once_key("")


def landing_once(use: Use, new_id: NewId) -> Use:
    """A use that lands once: a call to the hot store that was given up may be carried out after it was made again."""
    return use if use.idempotency_key else replace(use, idempotency_key=once_key(new_id()))


def told(key: str) -> str:
    """A key that others may come with; "" for one that only this operation has, which the hot store need not know."""
    return "" if key.startswith(_ONCE) else key
