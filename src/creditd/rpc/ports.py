"""What the servicers need of the engine, as `creditd.engine.engine.Engine` offers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from creditd.domain.accounts import Account, TestClock
from creditd.domain.catalog import Catalog
from creditd.domain.entries import Entry
from creditd.domain.errors import CreditdError
from creditd.domain.grants import Grant
from creditd.engine.control_types import (
    AppliedCatalog,
    BalanceView,
    CatalogVersion,
    EntryQuery,
    GrantBalance,
    GrantDraft,
    SubscriptionChange,
    SubscriptionResult,
    Verification,
)
from creditd.engine.requests import Ruling, Use


class Deciding(Protocol):
    """The data plane."""

    async def check(self, use: Use) -> Ruling:
        """May this be used now? Changes nothing."""

    async def consume(self, use: Use) -> Ruling:
        """Burn, or say why not."""

    async def batch_check(self, uses: Sequence[Use]) -> list[Ruling | CreditdError]:
        """Each answered on its own, in order."""

    async def batch_consume(self, uses: Sequence[Use], *, atomic: bool) -> list[Ruling | CreditdError]:
        """Each decided on its own or, when atomic, all or none."""

    async def get_balance(self, account: str, credit: str) -> BalanceView:
        """What the account has of one credit, or of all ("")."""


class Cataloguing(Protocol):
    """The catalog's control plane."""

    async def apply_catalog(
        self,
        catalog: Catalog,
        *,
        dry_run: bool,
        effective_at: int | None,
        expected_version: int | None,
        note: str,
    ) -> AppliedCatalog:
        """Make a catalog the next version."""

    async def get_catalog(self, version: int) -> CatalogVersion:
        """A version of the catalog; 0 = the one in force now."""

    async def list_catalogs(self, *, limit: int, before: int | None) -> list[CatalogVersion]:
        """Versions of the catalog, newest first."""


class Accounting(Protocol):
    """The accounts' control plane."""

    async def put_account(self, account: Account, *, etag: str) -> Account:
        """Create or update an account."""

    async def get_account(self, account: str, /) -> Account:
        """An account with its subscriptions."""

    async def list_accounts(self, *, limit: int, after: str, filter: str) -> list[Account]:  # noqa: A002
        """Accounts by id."""

    async def put_subscription(self, change: SubscriptionChange) -> SubscriptionResult:
        """Subscribe, or change a subscription."""

    async def create_grant(self, draft: GrantDraft, *, idempotency_key: str) -> Grant:
        """Give credits once."""

    async def void_grant(self, account: str, grant_id: str, /, *, reason: str) -> Grant:
        """Take what is left of a grant away."""

    async def list_grants(
        self, account: str, *, credit: str, include_inactive: bool, limit: int, after: str
    ) -> list[GrantBalance]:
        """Grants with what is left of them; `after` is the id of the last one of the page before."""


class Bookkeeping(Protocol):
    """The ledger, for reading."""

    async def list_entries(self, query: EntryQuery) -> list[Entry]:
        """Ledger entries, newest first."""

    async def verify_account(self, account: str, *, repair: bool) -> Verification:
        """Compare an account's hot state with its ledger."""


class Clocking(Protocol):
    """Test clocks."""

    async def create_test_clock(self, clock_id: str, /, now: int) -> TestClock:
        """Create a test clock."""

    async def advance_test_clock(self, clock_id: str, /, now: int) -> TestClock:
        """Move a test clock forwards."""

    async def delete_test_clock(self, clock_id: str, /) -> None:
        """Delete a test clock that no account is on."""


class EnginePort(Deciding, Cataloguing, Accounting, Bookkeeping, Clocking, Protocol):
    """All of it."""
