"""Named steps of a Consume at which the fault suite kills, stops or delays a process; in service they do nothing.

No setting and no variable arms them: only code that imports this module and calls `arm`, which tests/faults does in
servers of its own and nothing in the package may do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BEFORE_SCRIPT: Final = "before_script"
"""Prepared and priced; the hot store has not been asked."""
AFTER_SCRIPT: Final = "after_script"
"""Decided, and in the outbox; the committer has not been told."""
AFTER_COMMIT: Final = "after_commit"
"""In the ledger; nobody has been told."""
BEFORE_ANSWER: Final = "before_answer"
"""The outcome is known; the caller has not been answered."""
BEFORE_CLEAR: Final = "before_clear"
"""In the ledger, and still in the outbox."""

ALL: Final = (BEFORE_SCRIPT, AFTER_SCRIPT, AFTER_COMMIT, BEFORE_ANSWER, BEFORE_CLEAR)


def _nothing(_name: str) -> None:
    pass


_on_reach: Callable[[str], None] = _nothing


def reach(name: str) -> None:
    """Say that a step has been reached."""
    _on_reach(name)


def arm(on_reach: Callable[[str], None] | None) -> None:
    """Call `on_reach` with the name of each step that is reached from now on; None takes it back."""
    global _on_reach  # noqa: PLW0603 - the one switch, of tests only
    _on_reach = _nothing if on_reach is None else on_reach
