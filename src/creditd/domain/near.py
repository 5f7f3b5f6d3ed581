"""The nearest known name to one that is not known, for error messages."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A hint to append to a message: `; did you mean 'x'?`, or the few known names, or nothing."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    if known and len(known) <= 5:
        return f"; known: {', '.join(sorted(known))}"
    return ""
