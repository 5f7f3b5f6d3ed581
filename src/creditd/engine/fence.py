"""Is a hot state the ledger's newest? Asked before what is answered from one alone.

What is decided to go ahead needs no question: the append is turned away when the state was not. A denial and a balance
append nothing, and the state that they come from may have been left behind: another replica has changed the account in
the ledger and could not tell the hot store, which was full, or out of that replica's reach alone.
"""

from __future__ import annotations

from creditd.domain.accounts import Epoch
from creditd.domain.errors import Unavailable
from creditd.engine.load import LoadCause, Loader
from creditd.engine.lookup import Lookup
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger


class Fence:
    """Compares epochs with the ledger's, those of many accounts at a time."""

    def __init__(self, ledger: Ledger, hot: HotStore, loader: Loader) -> None:
        self._hot = hot
        self._loader = loader
        self._lookup: Lookup[str, Epoch] = Lookup(ledger.epochs)

    async def holds(self, account: str, epoch: Epoch) -> bool:
        """Whether a hot state of the epoch is the newest; when it is not, the account has been loaded anew.

        With the ledger away nobody knows of a newer one, and the hot state is believed.

        Raises:
            HotUnavailable: the hot store did not take the new state.
        """
        try:
            (newest,) = await self._lookup.find_all([account])
        except Unavailable:
            return True
        if newest == epoch:
            return True
        # One that the ledger has never heard of may have the higher number: a load would not replace it.
        await self._hot.outdate(account, epoch)
        await self._loader.load(account, LoadCause.FENCED)
        return False
