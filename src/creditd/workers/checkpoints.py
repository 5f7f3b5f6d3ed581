"""Checkpoints for busy accounts: a load reads the last one and the entries after it, so the tail must stay short."""

from __future__ import annotations

from creditd.domain.entries import Entry
from creditd.engine.engine import Engine


class Checkpointer:
    """Counts what each account has landed and folds those that have landed `every` entries since the last time."""

    def __init__(self, engine: Engine, *, every: int) -> None:
        self._engine = engine
        self._every = every
        self._landed: dict[str, int] = {}
        engine.committer.on_landed = self.count

    def count(self, entry: Entry) -> None:
        """Note an entry that has landed."""
        self._landed[entry.account] = self._landed.get(entry.account, 0) + 1

    async def sweep(self) -> int:
        """Write the checkpoints that are due; returns how many."""
        due = [account for account, landed in self._landed.items() if landed >= self._every]
        for account in due:
            await self._engine.ledger.checkpoint(account)
            del self._landed[account]
        # Quiet accounts write theirs when they are loaded.
        if len(self._landed) > 100_000:
            self._landed.clear()
        return len(due)
