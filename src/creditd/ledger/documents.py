"""Catalogs, plans, overrides and budgets as JSON documents.

What has its default is left out, so the defaults of `domain.catalog` are part of the stored format: a field's
default is never changed, and a new field gets one that means what its absence meant.
"""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter

from creditd.domain.accounts import Account, Budget, Override
from creditd.domain.catalog import Catalog, Plan

_CATALOG: Final = TypeAdapter(Catalog)
_PLAN: Final = TypeAdapter(Plan)
_ACCOUNT: Final = TypeAdapter(Account)
_OVERRIDE: Final = TypeAdapter(Override)
_OVERRIDES: Final = TypeAdapter(tuple[Override, ...])
_BUDGET: Final = TypeAdapter(Budget)
_BUDGETS: Final = TypeAdapter(tuple[Budget, ...])


def encode_catalog(catalog: Catalog) -> str:
    """A catalog as JSON."""
    return _CATALOG.dump_json(catalog, exclude_defaults=True).decode()


def decode_catalog(text: str) -> Catalog:
    """The reverse of `encode_catalog`."""
    return _CATALOG.validate_json(text)


def encode_plan(plan: Plan) -> str:
    """A plan as JSON."""
    return _PLAN.dump_json(plan, exclude_defaults=True).decode()


def decode_plan(text: str) -> Plan:
    """The reverse of `encode_plan`."""
    return _PLAN.validate_json(text)


def encode_override(override: Override) -> str:
    """An override as JSON."""
    return _OVERRIDE.dump_json(override, exclude_defaults=True).decode()


def decode_overrides(text: str) -> tuple[Override, ...]:
    """The overrides in a JSON array of them."""
    return _OVERRIDES.validate_json(text)


def encode_budget(budget: Budget) -> str:
    """A budget as JSON."""
    return _BUDGET.dump_json(budget, exclude_defaults=True).decode()


def decode_budgets(text: str) -> tuple[Budget, ...]:
    """The budgets in a JSON array of them."""
    return _BUDGETS.validate_json(text)


def encode_account(account: Account) -> str:
    """An account with all that decides for it, as JSON."""
    return _ACCOUNT.dump_json(account, exclude_defaults=True).decode()


def decode_account(text: str) -> Account:
    """The reverse of `encode_account`."""
    return _ACCOUNT.validate_json(text)
