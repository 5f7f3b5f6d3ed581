"""`Engine`: every use case of creditd, over one hot store and one ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from creditd.domain.accounts import Account, Budget, Override, TestClock
from creditd.domain.catalog import Catalog
from creditd.domain.entries import Entry
from creditd.domain.errors import AlreadyExists, CreditdError, FailedPrecondition, InvalidArgument, Violation
from creditd.domain.grants import Grant
from creditd.engine.accounts import AccountsControl
from creditd.engine.balances import BalanceReader
from creditd.engine.catalog_control import CatalogControl
from creditd.engine.catalogs import Catalogs
from creditd.engine.commit import Committer
from creditd.engine.control_types import (
    AppliedCatalog,
    BalanceView,
    BudgetStatus,
    CatalogVersion,
    EntitlementsView,
    EntryQuery,
    GrantBalance,
    GrantDraft,
    ResetResult,
    SubscriptionChange,
    SubscriptionResult,
    UsageReset,
    Verification,
)
from creditd.engine.decisions import Decisions
from creditd.engine.entitlements import EntitlementsReader
from creditd.engine.exceptions import ExceptionsControl
from creditd.engine.grants import GrantsControl
from creditd.engine.history import History
from creditd.engine.ids import id_source
from creditd.engine.load import Loader
from creditd.engine.lookup import KeyLookup
from creditd.engine.meters import DecisionMeter, DecisionMeters
from creditd.engine.offers import OffersControl
from creditd.engine.policies import Policies
from creditd.engine.refunds import Refunds
from creditd.engine.requests import Action, Refund, Ruling, Use
from creditd.engine.reservations import keyed
from creditd.engine.resets import ResetsControl
from creditd.engine.stats import EngineStats, Snapshot
from creditd.engine.subscriptions import SubscriptionsControl
from creditd.engine.verify import Verifier
from creditd.engine.watch import BalanceWatches
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger

BATCH_ABORTED: Final = "BATCH_ABORTED"
"""Reason of the items of an atomic batch that were not done because another one was denied."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Bounds of the engine: units per flight of the group commit, accounts whose policy is kept in memory."""

    flight_max: int = 512
    policy_accounts_max: int = 100_000


class Engine:
    """Decides, burns and keeps the books. One per process; owns its stores from `start` to `close`."""

    def __init__(
        self,
        ledger: Ledger,
        hot: HotStore,
        *,
        settings: EngineSettings,
        wall_ms: Callable[[], int],
        random_bits: Callable[[int], int],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.ledger = ledger
        self.hot = hot
        self._wall_ms = wall_ms
        new_id = id_source(wall_ms, random_bits)
        self.catalogs = Catalogs(ledger)
        self.policies = Policies(
            ledger, self.catalogs, accounts_max=settings.policy_accounts_max, wall_ms=wall_ms
        )
        self.committer = Committer(ledger.append, hot, flight_max=settings.flight_max, clock=clock)
        self.loader = Loader(ledger, hot, self.policies, self.catalogs, new_id)
        self.decisions = Decisions(
            ledger,
            hot,
            self.policies,
            self.catalogs,
            self.loader,
            self.committer,
            KeyLookup(ledger.find_pairs),
            new_id,
        )
        self.catalog_control = CatalogControl(ledger, hot, self.catalogs, wall_ms)
        history = History(ledger, self.policies, self.catalogs, new_id)
        self._accounts = AccountsControl(ledger, self.policies, self.catalogs, self.loader, new_id)
        self._offers = OffersControl(self.catalogs, self.loader, new_id)
        self._resets = ResetsControl(self.policies, self.catalogs, self.loader, new_id)
        self._subscriptions = SubscriptionsControl(self.catalogs, self.loader, new_id)
        self._exceptions = ExceptionsControl(self.policies, self.catalogs, self.loader)
        self._entitlements = EntitlementsReader(self.policies, self.loader, history)
        self._grants = GrantsControl(self.catalogs, self.loader, new_id)
        self._balances = BalanceReader(
            ledger, hot, self.policies, self.catalogs, self.loader, self.decisions.fence, history
        )
        self.watches = BalanceWatches(hot, self._balances.get)
        self._refunds = Refunds(self.loader, new_id)
        self._verifier = Verifier(ledger, hot, self.policies, self.catalogs, self.loader)
        self._meters = DecisionMeters(clock)
        self._stats = EngineStats(
            ledger,
            hot,
            decisions=self._meters,
            committer=self.committer,
            loader=self.loader,
            policies=self.policies,
            instance_id=f"{random_bits(64):016x}",
            wall_ms=wall_ms,
            clock=clock,
        )

    async def start(self) -> None:
        """Learn the catalog and begin to commit."""
        await self.catalogs.refresh()
        self.committer.start()

    async def close(self) -> None:
        """Land what is decided, then close the stores."""
        await self._stats.close()
        await self.watches.close()
        await self.loader.close()
        await self.committer.close()
        await self.hot.close()
        await self.ledger.close()

    async def check(self, use: Use) -> Ruling:
        """May this be used now? Changes nothing."""
        ruling = await self.decisions.check(use)
        self._meters.check.decided(use.account, ruling)
        return ruling

    async def consume(self, use: Use) -> Ruling:
        """Burn, or say why not."""
        ruling = await self.decisions.consume(use)
        self._meters.consume.decided(use.account, ruling)
        return ruling

    async def batch_check(self, uses: Sequence[Use]) -> list[Ruling | CreditdError]:
        """Each answered on its own, in order."""
        return await asyncio.gather(
            *(_settled(self._meters.batch_check, use, self.decisions.check(use)) for use in uses)
        )

    async def batch_consume(self, uses: Sequence[Use], *, atomic: bool) -> list[Ruling | CreditdError]:
        """Each decided on its own or, when atomic, all of one account or none.

        Raises:
            InvalidArgument: an atomic batch names several accounts, or one idempotency key twice.
        """
        if not atomic:
            return await asyncio.gather(
                *(_settled(self._meters.batch_consume, use, self.decisions.consume(use)) for use in uses)
            )
        _must_be_one_operation(uses)
        rulings = await self.decisions.consume_all(uses)
        for ruling in rulings:
            self._meters.batch_consume.decided(uses[0].account, ruling)
        if all(ruling.allowed for ruling in rulings):
            return list(rulings)
        denied = rulings[-1]
        place = denied.index
        not_done = FailedPrecondition(
            f"nothing of the batch was done: items[{place}] was denied ({denied.reason})",
            reason=BATCH_ABORTED,
        )
        return [denied if index == place else not_done for index in range(len(uses))]

    async def reserve(self, use: Use) -> Ruling:
        """Hold, or say why not; `use` has a reservation to open."""
        ruling = await self.decisions.consume(use)
        self._meters.reserve.decided(use.account, ruling)
        return ruling

    async def on_reservation(self, use: Use) -> Ruling:
        """Extend, commit or release the reservation that `use` names by its id.

        Raises:
            NotFound: there is no such reservation.
            FailedPrecondition: it has ended in another way.
        """
        ruling = await self.decisions.consume(keyed(use))
        if use.reservation is not None and use.reservation.action is Action.COMMIT:
            self._meters.commit.decided(use.account, ruling)
        return ruling

    async def refund(self, request: Refund) -> Ruling:
        """Give back all or a part of what an entry burned."""
        return await self._refunds.refund(request)

    async def stats(self, *, hottest_max: int) -> Snapshot:
        """What this process has done since its start, and how it and its stores are."""
        return await self._stats.snapshot(hottest_max=hottest_max)

    async def get_balance(self, account: str, credit: str, *, at: int | None = None) -> BalanceView:
        """What the account has of one credit, or of all; or had `at` an instant of the past (ms)."""
        if at is not None:
            return await self._balances.get_at(account, credit, at)
        return await self._balances.get(account, credit)

    def watch_balance(self, account: str, credit: str) -> AsyncGenerator[BalanceView, None]:
        """The balances now and after each change; see `BalanceWatches.watch`."""
        return self.watches.watch(account, credit)

    async def apply_catalog(
        self,
        catalog: Catalog,
        *,
        dry_run: bool,
        effective_at: int | None,
        expected_version: int | None,
        note: str,
    ) -> AppliedCatalog:
        """Make a catalog the next version; see `CatalogControl.apply`."""
        return await self.catalog_control.apply(
            catalog,
            dry_run=dry_run,
            effective_at=effective_at,
            expected_version=expected_version,
            note=note,
        )

    async def get_catalog(self, version: int) -> CatalogVersion:
        """A version of the catalog; 0 = the one in force now."""
        return await self.catalog_control.get(version)

    async def list_catalogs(self, *, limit: int, before: int | None) -> list[CatalogVersion]:
        """Versions of the catalog, newest first."""
        return await self.catalog_control.listed(limit=limit, before=before)

    async def put_account(self, account: Account, *, etag: str) -> Account:
        """Create or update an account."""
        await self.catalogs.refresh()
        return await self._accounts.present(await self._accounts.put(account, etag=etag))

    async def get_account(self, account: str) -> Account:
        """An account with its subscriptions."""
        return await self._accounts.present(await self._accounts.get(account))

    async def list_accounts(self, *, limit: int, after: str, filter: str) -> list[Account]:
        """Accounts by id; `filter` is a prefix of the id."""
        found = await self.ledger.list_accounts(limit=limit, after_id=after, prefix=filter)
        return [await self._accounts.present(account) for account in found]

    async def put_subscription(self, change: SubscriptionChange) -> SubscriptionResult:
        """Subscribe, or change a subscription."""
        await self.catalogs.refresh()
        return await self._subscriptions.put(change)

    async def archive_account(self, account: str) -> Account:
        """Take an account out of use; its ledger stays."""
        return await self._accounts.present(await self._accounts.archive(account))

    async def purchase_bundle(
        self, account: str, bundle: str, *, quantity: int, metadata: dict[str, str], idempotency_key: str
    ) -> Grant:
        """Grant the credits of a bundle that was bought."""
        await self.catalogs.refresh()
        return await self._offers.purchase(
            account, bundle, quantity=quantity, metadata=metadata, key=idempotency_key
        )

    async def redeem_promotion(
        self, account: str, promotion: str, *, code: str, idempotency_key: str
    ) -> Grant:
        """Grant the credits of a promotion, once for each account."""
        await self.catalogs.refresh()
        return await self._offers.redeem(account, promotion, code=code, key=idempotency_key)

    async def reset_usage(self, wanted: UsageReset) -> ResetResult:
        """Set limits back to zero and fill recurring grants now."""
        await self.catalogs.refresh()
        return await self._resets.reset(wanted)

    async def put_override(self, account: str, override: Override) -> Override:
        """Create or replace what the account gets instead of its plans."""
        await self.catalogs.refresh()
        return await self._exceptions.put_override(account, override)

    async def delete_override(self, account: str, *, feature: str, credit: str) -> None:
        """Remove the override of a feature or a credit."""
        await self._exceptions.delete_override(account, feature=feature, credit=credit)

    async def put_budget(self, account: str, budget: Budget) -> BudgetStatus:
        """Create or replace a budget; what its window has counted stays."""
        await self.catalogs.refresh()
        return await self._exceptions.put_budget(account, budget)

    async def delete_budget(self, account: str, budget_id: str) -> None:
        """Remove a budget."""
        await self._exceptions.delete_budget(account, budget_id)

    async def get_entitlements(self, account: str, *, at: int | None = None) -> EntitlementsView:
        """Everything that the account gets, resolved; or got `at` an instant of the past (ms)."""
        if at is not None:
            return await self._entitlements.get_at(account, at)
        await self.decisions.catch_up(account)
        return await self._entitlements.get(account)

    async def create_grant(self, draft: GrantDraft, *, idempotency_key: str) -> Grant:
        """Give credits once."""
        await self.catalogs.refresh()
        return await self._grants.create(draft, idempotency_key=idempotency_key)

    async def void_grant(self, account: str, grant_id: str, *, reason: str) -> Grant:
        """Take what is left of a grant away."""
        return await self._grants.void(account, grant_id, reason=reason)

    async def list_grants(
        self, account: str, *, credit: str, include_inactive: bool, limit: int, after: str
    ) -> list[GrantBalance]:
        """Grants with what is left of them."""
        return await self._balances.grants(
            account, credit=credit, include_inactive=include_inactive, limit=limit, after=after
        )

    async def list_entries(self, query: EntryQuery) -> list[Entry]:
        """Ledger entries, newest first."""
        await self.policies.account(query.account)
        return await self.ledger.list_entries(
            query.account,
            limit=query.limit,
            before_sequence=query.before,
            since=query.since,
            until=query.until,
            kinds=query.kinds,
            feature=query.feature,
            subject=query.subject,
            credit=query.credit,
        )

    async def verify_account(self, account: str, *, repair: bool) -> Verification:
        """Compare an account's hot state with its ledger."""
        return await self._verifier.verify(account, repair=repair)

    async def create_test_clock(self, clock_id: str, now: int | None) -> TestClock:
        """Create a test clock, at the real time when no instant is given; the same again is the same clock."""
        clock = TestClock(clock_id, self._wall_ms() if now is None else now)
        try:
            await self.ledger.create_clock(clock)
        except AlreadyExists:
            if await self.ledger.get_clock(clock_id) != clock:
                raise
        return clock

    async def advance_test_clock(self, clock_id: str, now: int) -> TestClock:
        """Move a test clock forwards."""
        return await self.ledger.advance_clock(clock_id, now)

    async def delete_test_clock(self, clock_id: str) -> None:
        """Delete a test clock that no account is on."""
        await self.ledger.delete_clock(clock_id)


async def _settled(meter: DecisionMeter, use: Use, deciding: Awaitable[Ruling]) -> Ruling | CreditdError:
    try:
        ruling = await deciding
    except CreditdError as error:
        return error
    meter.decided(use.account, ruling)
    return ruling


def _must_be_one_operation(uses: Sequence[Use]) -> None:
    violations = [
        Violation(f"items[{place}].account", f"an atomic batch is of one account, {uses[0].account!r}")
        for place, use in enumerate(uses)
        if use.account != uses[0].account
    ]
    seen: set[str] = set()
    for place, use in enumerate(uses):
        if use.idempotency_key in seen:
            violations.append(Violation(f"items[{place}].idempotency_key", "is that of another item"))
        if use.idempotency_key:
            seen.add(use.idempotency_key)
    if violations:
        raise InvalidArgument(violations=violations)
