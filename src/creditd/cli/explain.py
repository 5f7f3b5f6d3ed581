"""`creditd explain`: why an account may, or may not, use a feature; for whoever answers its customer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc
import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from creditd.cli.client import TIMEOUT_SECONDS, Account, Address, AsJson, Context, ExitCode, connected
from creditd.cli.output import Column, facts, plain, print_json, show, styled, table
from creditd.cli.tables import expiry_text, status_text
from creditd.cli.use import (
    Attributes,
    Feature,
    Quantity,
    Subject,
    Usage,
    affordable_text,
    state_facts,
    use_fields,
    value_text,
    verdict,
)
from creditd.cli.values import credits_text, instant_text, of_credit
from creditd.v1 import accounts_pb2, catalog_pb2, grants_pb2
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.catalog_pb2_grpc import CatalogsStub
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

_DECIDES = "bold yellow"


def explain(
    account: Account,
    feature: Feature,
    *,
    quantity: Quantity = None,
    usage: Usage = None,
    attributes: Attributes = None,
    subject: Subject = "",
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Why may the account do this, or why not?

    Changes nothing. Exit code 1 when it may not. The answer of `check`, the
    steps that led to it, what the account has, and what would change the
    answer. With --json it is the answer of `check --explain --json`.

    Example:
      creditd explain demo chat --attributes model=gpt-4o --quantity 500
    """
    request = pb.CheckRequest(
        account=account,
        feature=feature,
        explain=True,
        **use_fields(quantity, usage, attributes, subject),
    )
    with connected(address, context, as_json=as_json) as channel:
        answer = EntitlementsStub(channel).Check(request, timeout=TIMEOUT_SECONDS)
        if as_json:
            print_json(answer)
        else:
            show(*_told(request, answer, _look(channel, request, answer)))
    raise typer.Exit(ExitCode.OK if answer.allowed else ExitCode.DENIED)


@dataclass(frozen=True, slots=True)
class _Around:
    """What else a person wants to see beside the answer."""

    account: accounts_pb2.Account
    grants: Sequence[grants_pb2.GrantBalance]
    plans: Sequence[str]


def _look(channel: grpc.Channel, request: pb.CheckRequest, answer: pb.CheckResponse) -> _Around:
    """The account, its grants of the credit, and the plans that include the feature."""
    account = AccountsStub(channel).GetAccount(
        accounts_pb2.GetAccountRequest(id=request.account), timeout=TIMEOUT_SECONDS
    )
    grants: Sequence[grants_pb2.GrantBalance] = ()
    # Without an explanation the answer was clear before any grant was looked at.
    if answer.credit and answer.explanation:
        balance = EntitlementsStub(channel).GetBalance(
            pb.GetBalanceRequest(account=request.account, credit=answer.credit), timeout=TIMEOUT_SECONDS
        )
        grants = balance.grants
    plans: list[str] = []
    if answer.reason == pb.REASON_NOT_ENTITLED:
        catalog = CatalogsStub(channel).GetCatalog(catalog_pb2.GetCatalogRequest(), timeout=TIMEOUT_SECONDS)
        plans = [
            plan.key
            for plan in catalog.catalog.plans
            if any(item.feature == request.feature for item in plan.entitlements)
        ]
    return _Around(account, grants, plans)


def _told(request: pb.CheckRequest, answer: pb.CheckResponse, around: _Around) -> Iterator[RenderableType]:
    yield verdict(answer)
    paid = [step for step in answer.explanation if step.kind == "grant" and step.amount_micros]
    if answer.allowed and paid:
        by = ", ".join(f"{credits_text(step.amount_micros)} from {step.key}" for step in paid)
        yield styled(f"  would take {by}")
    yield ""
    yield facts(_asked(request, answer))
    if answer.explanation:
        yield ""
        yield steps(answer)
    if around.grants:
        yield ""
        yield _grants(request.feature, answer, around.grants)
    if around.account.subscriptions:
        yield ""
        yield _subscriptions(around.account.subscriptions)
    fix = list(_fixes(request, answer, around))
    if fix:
        yield ""
        yield Text.assemble(("what would help", "bold"))
        yield from (styled(f"  {line}") for line in fix)


def _asked(request: pb.CheckRequest, answer: pb.CheckResponse) -> list[tuple[str, str | Text]]:
    """What was asked, what it costs, and what is there."""
    use = [f"{meter}={units:,}" for meter, units in sorted(request.usage.items())]
    if request.HasField("quantity"):
        use.append(f"{request.quantity:,} units")
    use += [f"{name}={value}" for name, value in sorted(request.attributes.items())]
    rows: list[tuple[str, str | Text]] = [
        ("account", request.account),
        ("feature", f"{request.feature}  {'  '.join(use) or '1 unit'}"),
    ]
    if request.subject:
        rows.append(("subject", request.subject))
    if answer.credit:
        rows.append(("costs", of_credit(answer.cost_micros, answer.credit)))
    if answer.HasField("value"):
        rows.append(("value", value_text(answer)))
    rows += state_facts(answer)
    # On a denial before the decision nothing was worked out.
    if answer.explanation and (answer.credit or answer.HasField("limit")):
        rows.append(("affordable", affordable_text(answer)))
    rows.append(("catalog", f"version {answer.catalog_version}"))
    return rows


def steps(answer: pb.CheckResponse) -> Table:
    """The steps of the decision in order; the one that settled it stands out."""
    denial = next((step for step in answer.explanation if step.kind == "denial"), None)
    rows = []
    for number, step in enumerate(answer.explanation, 1):
        counts = step.kind in {"limit", "budget"} and denial is not None and step.key == denial.key
        pays = denial is None and step.kind in {"grant", "overage"} and step.amount_micros
        settles = step is denial or counts or pays
        style = _DECIDES if settles else ""
        amount = ""
        if step is denial and answer.reason == pb.REASON_LIMIT_EXCEEDED:
            # Where a limit denied, units are missing and not credits.
            amount = f"{step.amount_micros:,} units"
        elif step.amount_micros:
            amount = credits_text(step.amount_micros)
        rows.append(
            (
                styled(str(number), style or "bright_black"),
                styled(step.kind, style),
                styled(step.key, style),
                styled(step.detail, style),
                styled(amount, style),
            )
        )
    columns = (Column("", number=True), "step", "of", "result", Column("amount", number=True))
    return table(columns, rows)


def _grants(feature: str, answer: pb.CheckResponse, grants: Sequence[grants_pb2.GrantBalance]) -> Table:
    """The active grants in burn order, and what each would pay, or whether it may."""
    pays = {
        step.key: step.amount_micros
        for step in answer.explanation
        if step.kind == "grant" and step.amount_micros
    }
    rows = []
    for held in grants:
        grant = held.grant
        if grant.features and feature not in grant.features:
            part = styled(f"no: only for {', '.join(grant.features)}", "red")
        elif grant.id in pays:
            part = styled(credits_text(pays[grant.id]), _DECIDES)
        else:
            part = styled("" if answer.allowed else "yes")
        amounts = (credits_text(held.remaining_micros), credits_text(grant.amount_micros))
        rows.append((grant.id, *amounts, expiry_text(grant), part))
    columns = (
        Column("grant", style="cyan"),
        Column("remaining", number=True),
        Column("of", number=True),
        "expires",
        "would pay" if answer.allowed else f"may pay for {plain(feature)}",
    )
    return table(columns, rows)


def _subscriptions(subscriptions: Sequence[accounts_pb2.Subscription]) -> Table:
    rows = [
        (
            item.id,
            f"{item.plan}, version {item.plan_version}",
            status_text(item.status),
            f"ends {instant_text(item.cancel_at)}" if item.HasField("cancel_at") else "",
        )
        for item in subscriptions
    ]
    return table((Column("subscription", style="cyan"), "plan", "status", ""), rows)


def _fixes(request: pb.CheckRequest, answer: pb.CheckResponse, around: _Around) -> Iterator[str]:
    """Commands and facts that would change a denial."""
    account = shlex.quote(request.account)
    match answer.reason:
        case pb.REASON_ACCOUNT_SUSPENDED:
            yield f"creditd account resume {account}"
        case pb.REASON_NOT_ENTITLED if around.plans:
            yield f"a plan with it: {', '.join(plain(plan) for plan in around.plans)}"
            yield f"creditd subscription put {account} --plan {shlex.quote(around.plans[0])}"
        case pb.REASON_NOT_ENTITLED:
            yield f"no plan of the catalog in force includes {request.feature}"
        case pb.REASON_SUBSCRIPTION_INACTIVE:
            for item in around.account.subscriptions:
                if item.status in {
                    accounts_pb2.Subscription.STATUS_PAUSED,
                    accounts_pb2.Subscription.STATUS_CANCELED,
                }:
                    yield f"creditd subscription resume {account} {shlex.quote(item.id)}"
        case pb.REASON_INSUFFICIENT_CREDITS | pb.REASON_FLOOR_REACHED | pb.REASON_OVERAGE_CAP_REACHED:
            short = sum(step.amount_micros for step in answer.explanation if step.kind == "denial")
            amount = credits_text(short or answer.cost_micros).replace(",", "")
            yield f"creditd grant create {account} --credit {shlex.quote(answer.credit)} --amount {amount}"
        case pb.REASON_BUDGET_EXCEEDED:
            yield "wait until the budget's window ends, raise its cap by Accounts.PutBudget, or ask for less at a time"
        case pb.REASON_LIMIT_EXCEEDED if answer.limit.HasField("resets_at"):
            yield f"wait until the window ends, {instant_text(answer.limit.resets_at)}, or raise the plan's limit"
        case pb.REASON_LIMIT_EXCEEDED:
            yield "count something down with a negative --quantity, or raise the plan's limit"
        case _:
            pass
