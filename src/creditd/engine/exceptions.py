"""What one account has besides its plans: overrides and budgets; each change is a load transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from creditd.domain.accounts import Budget, Override
from creditd.domain.catalog_check import check_budget, check_override
from creditd.domain.errors import InvalidArgument, NotFound, Violation
from creditd.domain.near import did_you_mean
from creditd.domain.periods import MS_MAX
from creditd.domain.policy import CatalogIndex
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import BudgetStatus
from creditd.engine.counters import used_now
from creditd.engine.load import Loader
from creditd.engine.policies import Policies
from creditd.engine.subscriptions import next_revision


@dataclass(slots=True)
class ExceptionsControl:
    """Use cases on overrides and budgets."""

    policies: Policies
    catalogs: Catalogs
    loader: Loader

    async def put_override(self, account_id: str, override: Override) -> Override:
        """Create or replace the override of a feature or a credit.

        Raises:
            NotFound: the account, feature or credit does not exist.
            InvalidArgument: what it gives does not fit the feature, or it is over already.
        """
        async with self.loader.change(account_id) as (tx, now):
            index, _until = await self.catalogs.in_force(now)
            _must_know(index, "feature", override.feature, index.features)
            _must_know(index, "credit", override.credit, index.orders)
            faults = check_override(override, index.catalog)
            if override.expires_at is not None and override.expires_at <= now:
                faults.append(Violation("override.expires_at", "is not later than now"))
            if faults:
                raise InvalidArgument(violations=faults)
            if override not in tx.account.overrides:
                await tx.put_override(override)
                await tx.put_account(next_revision(tx.account))
            return override

    async def delete_override(self, account_id: str, *, feature: str, credit: str) -> None:
        """Remove an override; NotFound when there is none."""
        async with self.loader.change(account_id) as (tx, _now):
            if not any((item.feature, item.credit) == (feature, credit) for item in tx.account.overrides):
                raise NotFound("override", feature or credit)
            await tx.delete_override(feature, credit)
            await tx.put_account(next_revision(tx.account))

    async def put_budget(self, account_id: str, budget: Budget) -> BudgetStatus:
        """Create or replace a budget. Its counter goes by id and window, so that another cap keeps what was counted.

        Raises:
            NotFound: the account, credit or a feature does not exist.
            InvalidArgument: it caps nothing, or its window or features don't fit.
        """
        async with self.loader.change(account_id) as (tx, now):
            index, _until = await self.catalogs.in_force(now)
            _must_know(index, "credit", budget.rule.credit, index.orders)
            for feature in budget.rule.features:
                _must_know(index, "feature", feature, index.features)
            if faults := check_budget(budget.rule, index.catalog, "budget.rule"):
                raise InvalidArgument(violations=faults)
            if budget not in tx.account.budgets:
                await tx.put_budget(budget)
                await tx.put_account(next_revision(tx.account))
            policy = (await self.policies.resolve(tx.account, now)).own_budget(budget)
            if budget.rule.scope != "account" and not budget.scope_value:
                return BudgetStatus(budget)
            charge = policy.charge(budget.scope_value, now)
            if charge is None:
                return BudgetStatus(budget)
            used, ends = used_now(tx.state.counters, charge, now)
            return BudgetStatus(budget, used, 0 if ends >= MS_MAX else ends)

    async def delete_budget(self, account_id: str, budget_id: str) -> None:
        """Remove a budget; NotFound when there is none."""
        async with self.loader.change(account_id) as (tx, _now):
            known = [item.id for item in tx.account.budgets]
            if budget_id not in known:
                raise NotFound("budget", budget_id, hint=did_you_mean(budget_id, known).strip(" ;"))
            await tx.delete_budget(budget_id)
            await tx.put_account(next_revision(tx.account))


def _must_know(index: CatalogIndex, kind: str, key: str, known: Iterable[str]) -> None:
    names = list(known)
    if key and key not in names:
        near = did_you_mean(key, names)
        raise NotFound(kind, key, hint=f"catalog version {index.version} is in force{near}")
