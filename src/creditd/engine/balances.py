"""Balances: from the hot state when it is there, from the ledger when it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from creditd.domain.accounts import Account, Epoch
from creditd.domain.catalog import BurnOrder
from creditd.domain.errors import NotFound, Unavailable
from creditd.domain.grants import Grant, burn_key
from creditd.domain.state import Balances, GrantState, Segment, open_segment
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import BalanceView, CreditBalance, GrantBalance
from creditd.engine.fence import Fence
from creditd.engine.history import History
from creditd.engine.load import LoadCause, Loader
from creditd.engine.policies import Policies
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger

_LOADS_MAX = 5
_GRANTS_KEPT = 10_000


@dataclass(slots=True)
class BalanceReader:
    """Reads what accounts have."""

    ledger: Ledger
    hot: HotStore
    policies: Policies
    catalogs: Catalogs
    loader: Loader
    fence: Fence
    history: History
    _grants: dict[str, tuple[Epoch, dict[str, Grant]]] = field(default_factory=dict)

    async def get(self, account_id: str, credit: str) -> BalanceView:
        """The balances of one credit, or of all when `credit` is empty; NotFound for an unknown one."""
        account = await self.policies.account(account_id)
        now = await self.policies.now(account)
        index, _until = await self.catalogs.in_force(now)
        if credit and credit not in index.orders:
            raise NotFound("credit", credit, hint=f"catalog version {index.version} is in force")
        segment, epoch = await self._segment(account, now)
        wanted = [credit] if credit else list(index.orders)
        grants = await self._definitions(
            account_id, [item.id for held in segment.credits.values() for item in held.grants], epoch
        )
        return BalanceView(
            balances=credit_balances(segment, wanted, now),
            grants=tuple(
                GrantBalance(grants[item.id], item.remaining)
                for key in wanted
                if key in segment.credits
                for item in segment.credits[key].grants
                if item.remaining and item.id in grants
            ),
            sequence=segment.sequence,
        )

    async def get_at(self, account_id: str, credit: str, at: int) -> BalanceView:
        """The balances at an instant of the past, from the ledger."""
        account = await self.history.account(account_id, at)
        index, _until = await self.catalogs.in_force(at)
        if credit and credit not in index.orders:
            raise NotFound("credit", credit, hint=f"catalog version {index.version} was in force then")
        state = await self.history.state(account_id, at)
        segment = open_segment(state, now=at, policy_version=account.policy_version, orders=index.orders)
        wanted = [credit] if credit else list(index.orders)
        return BalanceView(
            balances=credit_balances(segment, wanted, at),
            grants=tuple(
                GrantBalance(state.grants[item.id].grant, item.remaining)
                for key in wanted
                for item in segment.credits[key].grants
            ),
            sequence=state.sequence,
        )

    async def grants(
        self, account_id: str, *, credit: str, include_inactive: bool, limit: int, after: str
    ) -> list[GrantBalance]:
        """Grants after the one with the id `after`: active ones in burn order, then the others as they were made."""
        account = await self.policies.account(account_id)
        now = await self.policies.now(account)
        index, _until = await self.catalogs.in_force(now)
        state, _segment = await self.loader.peek(account, now)
        stored = {grant.id: grant for grant in await self.ledger.list_grants(account_id)}
        # What time has brought forth or changed since the last entry is in the state only.
        known = {**stored, **{grant_id: held.grant for grant_id, held in state.grants.items()}}
        definitions = [grant for grant in known.values() if not credit or grant.credit == credit]
        active = [
            held for grant in definitions if (held := state.grants.get(grant.id)) is not None and held.active
        ]
        active.sort(key=lambda held: _listed_by(held, index.orders))
        listed = [GrantBalance(held.grant, held.remaining) for held in active]
        if include_inactive:
            seen = {held.grant.id for held in active}
            listed += [GrantBalance(grant, 0) for grant in definitions if grant.id not in seen]
        if after:
            ids = [item.grant.id for item in listed]
            listed = listed[ids.index(after) + 1 :] if after in ids else []
        return listed[:limit]

    async def _segment(self, account: Account, now: int) -> tuple[Segment, Epoch | None]:
        """The present segment and its epoch; None when the hot store is away."""
        try:
            for _ in range(_LOADS_MAX):
                state = await self.hot.read(account.id)
                if state is not None and max(now, state.segment.at) < state.segment.end:
                    if await self.fence.holds(account.id, state.epoch):
                        return state.segment, state.epoch
                    continue
                cause = LoadCause.COLD if state is None else LoadCause.ROLLED
                await self.loader.load(account.id, cause)
        except HotUnavailable:
            _state, segment = await self.loader.peek(account, now)
            return segment, None
        raise Unavailable("the account changes faster than it can be read; try again", reason="CONTENTION")

    async def _definitions(self, account_id: str, ids: list[str], epoch: Epoch | None) -> Mapping[str, Grant]:
        """Definitions of grants; kept while the account is hot: whatever changes them loads it under a new epoch."""
        known = self._grants.get(account_id)
        if known is not None and known[0] == epoch and all(grant_id in known[1] for grant_id in ids):
            return known[1]
        found = {grant.id: grant for grant in await self.ledger.list_grants(account_id)}
        if epoch is not None:
            if len(self._grants) >= _GRANTS_KEPT:
                self._grants.pop(next(iter(self._grants)))
            self._grants[account_id] = (epoch, found)
        return found


def _listed_by(held: GrantState, orders: Mapping[str, BurnOrder]) -> tuple[object, ...]:
    """By credit, then in burn order; credits that the catalog has no more are not burned."""
    order = orders.get(held.grant.credit)
    return (held.grant.credit, *(() if order is None else burn_key(held.grant, order, held.filled_at)))


def credit_balances(segment: Segment, credits: Iterable[str], now: int) -> tuple[CreditBalance, ...]:
    """The balances of some credits in a segment, with the overage of the window that contains `now`."""
    balances: list[CreditBalance] = []
    for key in credits:
        held = segment.credits.get(key)
        counter = segment.counters.get(f"o:{key}")
        used = counter.used if counter is not None and counter.start <= now < counter.end else 0
        balances.append(CreditBalance(key, Balances() if held is None else held.balances, used))
    return tuple(balances)
