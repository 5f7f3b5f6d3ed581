"""Each account's policy: read once, kept in the process, and read again when the hot store says it is old."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from creditd.domain.accounts import Account, subscription_at
from creditd.domain.catalog import Plan
from creditd.domain.errors import NotFound
from creditd.domain.policy import Policy, policy_ends
from creditd.engine.catalogs import Catalogs
from creditd.ledger.store import Ledger


@dataclass(slots=True)
class _Known:
    account: Account
    policy: Policy | None = None
    revision: int = -1


class Policies:
    """At most `accounts_max` accounts are kept; the oldest read goes first."""

    def __init__(
        self, ledger: Ledger, catalogs: Catalogs, *, accounts_max: int, wall_ms: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._catalogs = catalogs
        self._accounts_max = accounts_max
        self._wall_ms = wall_ms
        self._known: dict[str, _Known] = {}

    @property
    def size(self) -> int:
        """How many accounts are kept."""
        return len(self._known)

    async def account(self, account_id: str) -> Account:
        """The account; NotFound when there is none."""
        known = self._known.get(account_id)
        if known is not None:
            return known.account
        account = await self._ledger.get_account(account_id)
        if account is None:
            raise NotFound("account", account_id, hint="create it with Accounts.PutAccount")
        self.remember(account)
        return account

    def remember(self, account: Account) -> None:
        """Keep what was just read; an older one never replaces a newer one."""
        known = self._known.get(account.id)
        if known is not None and known.account.revision >= account.revision:
            return
        if len(self._known) >= self._accounts_max:
            self._known.pop(next(iter(self._known)))
        self._known[account.id] = _Known(account)

    def forget(self, account_id: str) -> None:
        """Read the account anew next time."""
        self._known.pop(account_id, None)

    async def now(self, account: Account) -> int:
        """The account's time in ms: the wall clock, or its test clock's."""
        if not account.test_clock:
            return self._wall_ms()
        clock = await self._ledger.get_clock(account.test_clock)
        if clock is None:
            raise NotFound("test clock", account.test_clock)
        return clock.now

    async def resolve(self, account: Account, now: int) -> Policy:
        """The account's policy at `now`."""
        known = self._known.get(account.id)
        if known is not None and known.account is account and known.policy is not None:
            policy = known.policy
            if known.revision == self._catalogs.revision and policy.valid_from <= now < policy.valid_until:
                return policy
        # Before the first wait: the catalogs may be read anew while this waits, and then it is behind them.
        revision = self._catalogs.revision
        index, until = await self._catalogs.in_force(now)
        plans = await plans_of(account, self._catalogs, now)
        policy = Policy(account, index, plans, now, min(until, policy_ends(account, now)))
        if known is not None and known.account is account:
            known.policy, known.revision = policy, revision
        return policy


async def plans_of(account: Account, catalogs: Catalogs, now: int) -> dict[tuple[str, int], Plan]:
    """The plan versions that the account's subscriptions are to at `now`."""
    plans = {}
    for item in account.subscriptions:
        present = subscription_at(item, now)
        plan = await catalogs.plan(present.plan, present.plan_version)
        if plan is not None:
            plans[(present.plan, present.plan_version)] = plan
    return plans
