"""What lands once though it may be tried twice: operations without a key of their own, and those that were given up."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from creditd.domain.entries import once_key
from creditd.domain.errors import Unavailable
from creditd.engine.ids import NewId
from creditd.engine.requests import Ruling, Use

_ONCE: Final = once_key("")


def landing_once(use: Use, new_id: NewId) -> Use:
    """A use that lands once: a call to the hot store that was given up may be carried out after it was made again."""
    return use if use.idempotency_key else replace(use, idempotency_key=once_key(new_id()))


def told(key: str) -> str:
    """A key that others may come with; "" for one that only this operation has, which the hot store need not know."""
    return "" if key.startswith(_ONCE) else key


def certain(denial: Ruling, *, doubtful: bool) -> Ruling:
    """The denial, if it is for good: a call that was given up may yet reach the hot store, and find more there.

    Raises:
        Unavailable: there was such a call.
    """
    if doubtful:
        raise Unavailable(
            "the hot store went away during the decision; retry with the same idempotency key to learn the outcome"
        )
    return denial
