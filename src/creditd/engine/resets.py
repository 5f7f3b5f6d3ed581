"""Support's button: limits back to zero, recurring grants filled now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from creditd.domain.allowances import Books
from creditd.domain.entries import CounterChange, Effects, Entry, Kind
from creditd.domain.errors import NotFound
from creditd.domain.roll import refill
from creditd.domain.state import AccountState, GrantState
from creditd.domain.subscribing import reanchor
from creditd.engine.balances import credit_balances
from creditd.engine.books import earlier_entry, write
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import ResetResult, UsageReset
from creditd.engine.counters import limit_status
from creditd.engine.ids import NewId, fingerprint
from creditd.engine.load import Loader
from creditd.engine.policies import Policies
from creditd.engine.requests import LimitStatus
from creditd.engine.subscriptions import next_revision
from creditd.ledger.transaction import AccountTransaction


@dataclass(slots=True)
class ResetsControl:
    """The use case of resetting usage."""

    policies: Policies
    catalogs: Catalogs
    loader: Loader
    new_id: NewId

    async def reset(self, wanted: UsageReset) -> ResetResult:
        """Set limits to zero and fill recurring grants, once for each idempotency key.

        Raises:
            NotFound: the account, feature or credit does not exist.
            IdempotencyKeyReused: the key belongs to another request.
        """
        mark = fingerprint("reset", wanted.feature, wanted.credit, wanted.move_anchor)
        async with self.loader.change(wanted.account) as (tx, now):
            index, _until = await self.catalogs.in_force(now)
            hint = f"catalog version {index.version} is in force"
            if wanted.feature and wanted.feature not in index.features:
                raise NotFound("feature", wanted.feature, hint=hint)
            if wanted.credit and wanted.credit not in index.orders:
                raise NotFound("credit", wanted.credit, hint=hint)
            if await earlier_entry(tx, wanted.idempotency_key, mark) is None:
                await self._reset(tx, wanted, mark, now)
            segment = await self.loader.segment(tx, now)
            policy = await self.policies.resolve(tx.account, now)
            limits: list[LimitStatus] = []
            for key in sorted(index.features):
                feature = policy.feature(key)
                if feature is None or (wanted.feature and key != wanted.feature) or _is_only_credit(wanted):
                    continue
                limits += [limit_status(rule, tx.state.counters, now) for rule in feature.limits]
            credits = [wanted.credit] if wanted.credit else list(index.orders)
            return ResetResult(credit_balances(segment, credits, now), tuple(limits))

    async def _reset(self, tx: AccountTransaction, wanted: UsageReset, mark: str, now: int) -> None:
        await tx.append(self._entry(tx.state, wanted, mark, now))
        if not wanted.feature or wanted.credit:
            for held in list(tx.state.grants.values()):
                if not _is_filled(held) or (wanted.credit and held.grant.credit != wanted.credit):
                    continue
                await write(tx, refill(tx.state, tx.state.grants[held.grant.id], now, self.new_id))
        if wanted.move_anchor:
            books = Books(tx.state, self.new_id, now, tx.account.revision)
            reanchor(books, now, credit=wanted.credit)
            await write(tx, books.entries)
            for subscription in tx.account.subscriptions if not wanted.credit else ():
                await tx.put_subscription(replace(subscription, anchor=now))
        await tx.put_account(next_revision(tx.account))

    def _entry(self, state: AccountState, wanted: UsageReset, mark: str, now: int) -> Entry:
        """The entry that takes counters back; without any it still stands for the request."""
        prefix = f"l:{wanted.feature}:" if wanted.feature else "l:"
        changes = [
            CounterChange(key, counter.start, counter.end, -counter.used)
            for key, counter in state.counters.items()
            if key.startswith(prefix) and counter.used and not _is_only_credit(wanted)
        ]
        return Entry(
            id=self.new_id(),
            account=state.account,
            sequence=state.sequence + 1,
            kind=Kind.ADJUST,
            at=max(now, state.at),
            feature=wanted.feature,
            idempotency_key=wanted.idempotency_key or None,
            fingerprint=mark,
            note=f"reset: {wanted.reason}" if wanted.reason else "reset",
            effects=Effects(counters=tuple(changes)),
        )


def _is_filled(held: GrantState) -> bool:
    """Whether a grant recurs by being filled; so does one in its last period, which no filling follows."""
    recurrence = held.grant.recurrence
    return held.active and recurrence is not None and recurrence.lasts is None


def _is_only_credit(wanted: UsageReset) -> bool:
    return bool(wanted.credit) and not wanted.feature
