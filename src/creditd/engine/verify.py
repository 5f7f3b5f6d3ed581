"""Verification: an account's ledger against itself, and its hot state against its ledger."""

from __future__ import annotations

from dataclasses import dataclass

from creditd.domain.fold import BrokenLedger
from creditd.domain.state import AccountState, Segment, open_segment
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import Verification
from creditd.engine.load import Loader
from creditd.engine.policies import Policies
from creditd.hot.connection import HotUnavailable
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger

_LOOKS_MAX = 50
"""Looks at an account under traffic until hot state and ledger are seen at the same sequence."""


@dataclass(slots=True)
class Verifier:
    """Compares; repairs by loading anew from the ledger."""

    ledger: Ledger
    hot: HotStore
    policies: Policies
    catalogs: Catalogs
    loader: Loader

    async def verify(self, account_id: str, *, repair: bool) -> Verification:
        """Fold the whole ledger of an account and compare it with the hot state at the same sequence."""
        account = await self.policies.account(account_id)
        try:
            full = await self.ledger.read(account_id, from_start=True)
            quick = await self.ledger.read(account_id)
        except BrokenLedger as error:
            return Verification(False, await self.ledger.head_sequence(account_id), 0, (str(error),))
        differences: list[str] = []
        if quick.sequence == full.sequence and quick != full:
            differences.append(f"the checkpoint does not fold to the same state at sequence {full.sequence}")
        hot_sequence = 0
        try:
            for _ in range(_LOOKS_MAX):
                state = await self.hot.read(account_id)
                if state is None:
                    break
                hot_sequence = state.segment.sequence
                full = await self.ledger.read(account_id)
                if hot_sequence == full.sequence:
                    index, _until = await self.catalogs.in_force(state.segment.at)
                    expected = open_segment(
                        full,
                        now=state.segment.at,
                        policy_version=account.policy_version,
                        orders=index.orders,
                    )
                    differences += _compare(full, expected, state.segment)
                    break
            else:
                differences.append(f"hot state at sequence {hot_sequence}, ledger at {full.sequence}")
        except HotUnavailable:
            hot_sequence = 0
        if differences and repair:
            await self.hot.forget(account_id)
            await self.loader.load(account_id)
        return Verification(not differences, full.sequence, hot_sequence, tuple(differences))


def _compare(state: AccountState, expected: Segment, found: Segment) -> list[str]:
    differences: list[str] = []
    for key, credit in expected.credits.items():
        hot = found.credits.get(key)
        if hot is None:
            differences.append(f"credit {key}: not in the hot state")
            continue
        for name in ("available", "held", "granted", "debt"):
            here, there = getattr(credit.balances, name), getattr(hot.balances, name)
            if here != there:
                differences.append(f"credit {key}: {name} is {here} in the ledger, {there} in the hot state")
        left = {grant.id: grant.remaining for grant in hot.grants if grant.remaining}
        due = {grant.id: grant.remaining for grant in credit.grants}
        differences += [
            f"grant {grant}: {due.get(grant, 0)} left in the ledger, {left.get(grant, 0)} in the hot state"
            for grant in sorted(due.keys() | left.keys())
            if due.get(grant, 0) != left.get(grant, 0)
        ]
    differences += [
        f"hold {hold_id}: {expected.holds.get(hold_id)} in the ledger, {found.holds.get(hold_id)} in the hot state"
        for hold_id in sorted(expected.holds.keys() | found.holds.keys())
        if expected.holds.get(hold_id) != found.holds.get(hold_id)
    ]
    for key, counter in state.counters.items():
        hot_counter = found.counters.get(key)
        if (counter.end == 0 or counter.end > found.at) and (
            hot_counter is None or (hot_counter.start, hot_counter.used) != (counter.start, counter.used)
        ):
            differences.append(f"counter {key}: {counter} in the ledger, {hot_counter} in the hot state")
    return differences
