"""The past of an account: its state and what decided for it at an instant, as the ledger has them."""

from __future__ import annotations

from dataclasses import dataclass

from creditd.domain.accounts import Account
from creditd.domain.errors import InvalidArgument, NotFound, Violation
from creditd.domain.fold import fold_all
from creditd.domain.policy import Policy
from creditd.domain.roll import due
from creditd.domain.state import AccountState
from creditd.engine.catalogs import Catalogs
from creditd.engine.ids import NewId
from creditd.engine.policies import Policies, plans_of
from creditd.ledger.store import Ledger


@dataclass(slots=True)
class History:
    """Reads the past; nothing is changed, and the hot store is not asked.

    Costs a fold of the account's entries up to the instant: for support and reports, not for every request.
    """

    ledger: Ledger
    policies: Policies
    catalogs: Catalogs
    new_id: NewId

    async def account(self, account_id: str, at: int) -> Account:
        """The account as it was at `at` (ms).

        Raises:
            NotFound: there is no such account, or it was not there yet.
            InvalidArgument: `at` lies in the future.
        """
        present = await self.policies.account(account_id)
        if at > await self.policies.now(present):
            raise InvalidArgument(violations=(Violation("at", "lies in the future; leave it out for now"),))
        account = await self.ledger.account_at(account_id, at)
        if account is None:
            raise NotFound("account", account_id, hint="it was created later than the instant asked for")
        return account

    async def state(self, account_id: str, at: int) -> AccountState:
        """The folded entries up to and including `at`, with what time had done by then and nobody had touched yet."""
        state = await self.ledger.read_until(account_id, at)
        return fold_all(state, due(state, at, self.new_id))

    async def policy(self, account: Account, at: int) -> Policy:
        """What decided for the account at `at`."""
        index, until = await self.catalogs.in_force(at)
        return Policy(account, index, await plans_of(account, self.catalogs, at), at, until)
