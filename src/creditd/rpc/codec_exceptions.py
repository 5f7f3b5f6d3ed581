"""Overrides, budgets and resolved entitlements: wire <-> domain."""

from __future__ import annotations

from creditd.domain.accounts import Budget, Override
from creditd.domain.catalog import Entitlement
from creditd.engine.control_types import BudgetStatus, EntitlementsView
from creditd.rpc.checks import MAP_MAX, Checks
from creditd.rpc.codec import limit_to_proto
from creditd.rpc.codec_catalog import read_budget as read_rule
from creditd.rpc.codec_catalog import read_entitlement, read_overage, read_rate
from creditd.rpc.codec_catalog_write import (
    budget_to_proto as rule_to_proto,
)
from creditd.rpc.codec_catalog_write import (
    entitlement_to_proto,
    overage_to_proto,
    rate_to_proto,
)
from creditd.rpc.codec_values import timestamp_to_proto
from creditd.v1 import accounts_pb2 as pb
from creditd.v1 import catalog_pb2

RATES_MAX = 1_000


def read_override(request: pb.PutOverrideRequest, checks: Checks) -> Override:
    """The override to put, whole."""
    message = request.override
    checks.identifier("override.account", message.account)
    checks.text("override.note", message.note)
    if len(message.rates) > RATES_MAX:
        checks.add("override.rates", f"has {len(message.rates)} rates; at most {RATES_MAX} are allowed")
    entitlement = None
    if message.HasField("entitlement"):
        checks.identifier("override.entitlement.feature", message.entitlement.feature)
        # Rates alone need only the feature's name.
        if message.entitlement.WhichOneof("grant") is None and message.rates:
            entitlement = Entitlement(message.entitlement.feature)
        else:
            entitlement = read_entitlement(message.entitlement, "override.entitlement", checks)
    overage = None
    if message.HasField("overage"):
        checks.identifier("override.overage.credit", message.overage.credit)
        overage = read_overage(message.overage, "override.overage", checks)
    rates = tuple(
        read_rate(rate, f"override.rates[{index}]", checks)
        for index, rate in enumerate(message.rates[:RATES_MAX])
    )
    expires_at = checks.instant("override.expires_at", message, "expires_at")
    checks.done()
    return Override(entitlement, rates, overage, expires_at, message.note)


def override_to_proto(account: str, override: Override) -> pb.Override:
    """An override on the wire."""
    message = pb.Override(
        account=account, rates=[rate_to_proto(rate) for rate in override.rates], note=override.note
    )
    if override.entitlement is not None:
        message.entitlement.CopyFrom(entitlement_to_proto(override.entitlement))
    if override.overage is not None:
        message.overage.CopyFrom(overage_to_proto(override.overage))
    if override.expires_at is not None:
        message.expires_at.CopyFrom(timestamp_to_proto(override.expires_at))
    return message


def read_budget(request: pb.PutBudgetRequest, checks: Checks) -> Budget:
    """The budget to put, whole; its rule takes the budget's scope where it has none."""
    message = request.budget
    checks.identifier("budget.account", message.account)
    checks.identifier("budget.id", message.id)
    checks.identifier("budget.scope_value", message.scope_value, required=False)
    checks.identifier("budget.rule.credit", message.rule.credit)
    if len(message.rule.features) > MAP_MAX:
        checks.add(
            "budget.rule.features",
            f"has {len(message.rule.features)} features; at most {MAP_MAX} are allowed",
        )
    if message.scope and message.rule.scope and message.scope != message.rule.scope:
        checks.add(
            "budget.rule.scope", f"is {message.rule.scope!r}, and budget.scope {message.scope!r}; give one"
        )
    rule = catalog_pb2.BudgetRule()
    rule.CopyFrom(message.rule)
    rule.scope = message.rule.scope or message.scope
    scope = rule.scope or "account"
    if message.scope_value and scope == "account":
        checks.add("budget.scope_value", "is for budgets of a subject or metadata value; leave it empty")
    read = read_rule(rule, "budget.rule", checks)
    checks.done()
    return Budget(message.id, read, message.scope_value)


def budget_to_proto(account: str, status: BudgetStatus) -> pb.Budget:
    """A budget on the wire, with what its present window has burned."""
    budget = status.budget
    return pb.Budget(
        account=account,
        id=budget.id,
        scope=budget.rule.scope,
        scope_value=budget.scope_value,
        rule=rule_to_proto(budget.rule),
        used_micros=status.used,
        resets_at=timestamp_to_proto(status.resets_at) if status.resets_at else None,
    )


def entitlements_response(view: EntitlementsView) -> pb.GetEntitlementsResponse:
    """The answer to GetEntitlements."""
    return pb.GetEntitlementsResponse(
        catalog_version=view.catalog_version,
        entitlements=[
            pb.ResolvedEntitlement(
                entitlement=entitlement_to_proto(item.item),
                source=item.source,
                type=catalog_pb2.FeatureType.Value(f"FEATURE_TYPE_{item.feature.type}"),
                limit=None if item.limit is None else limit_to_proto(item.limit),
                rates=[rate_to_proto(rate) for rate in item.rates],
            )
            for item in view.entitlements
        ],
    )
