"""`creditd grant`: giving credits, by Accounts.CreateGrant, ListGrants and VoidGrant."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from creditd.cli import completion
from creditd.cli.catalog_fields import TextError, money
from creditd.cli.client import TIMEOUT_SECONDS, Account, Address, AsJson, Context, connected
from creditd.cli.listing import Limit, pages, show_pages
from creditd.cli.output import Column, facts, print_json, show, styled
from creditd.cli.tables import category_text, expiry_text, features_text
from creditd.cli.values import credits_text, instant_text, later, micros_of, now, of_credit, pairs, words
from creditd.domain.amounts import NANOS_PER_UNIT
from creditd.v1 import accounts_pb2 as pb
from creditd.v1 import grants_pb2
from creditd.v1.accounts_pb2_grpc import AccountsStub

app = typer.Typer(
    name="grant",
    help="""Give credits, list what was given, take what is left away.

Example:
  creditd grant create acme --credit credits --amount 500 --expires 30d
""",
    no_args_is_help=True,
)


class Category(StrEnum):
    """Where credits come from; decides the default priority."""

    PROMOTION = "promotion"
    TRIAL = "trial"
    PLAN = "plan"
    PURCHASE = "purchase"
    ADJUSTMENT = "adjustment"
    ROLLOVER = "rollover"
    REFUND = "refund"


Credit = Annotated[
    str, typer.Option(metavar="KEY", help="Credit type.", autocompletion=completion.credit_keys)
]
Amount = Annotated[int, typer.Option(parser=micros_of, metavar="CREDITS", help="How much, as 500 or 12.5.")]
Expires = Annotated[
    datetime | None,
    typer.Option(parser=later, metavar="WHEN", help="When the rest is gone: 30d, or an instant. Else never."),
]
Effective = Annotated[
    datetime | None,
    typer.Option(
        parser=later, metavar="WHEN", help="From when it can be drawn: 2d, or an instant. Else now."
    ),
]
Priority = Annotated[
    int,
    typer.Option(min=0, max=1_000_000, metavar="NUMBER", help="Lower burns first; 0: that of the category."),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY,..", help="Features that it pays for; else all.", autocompletion=completion.features
    ),
]
CategoryOption = Annotated[Category, typer.Option(help="Where the credits come from.")]
Price = Annotated[
    str, typer.Option(metavar="MONEY", help='What the customer paid for all of it, as "49 EUR".')
]
Source = Annotated[str, typer.Option(metavar="TEXT", help="What made it, as ticket/4711.")]
Notes = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE,..", help="Your own notes.")]
GrantId = Annotated[
    str, typer.Option("--id", metavar="ID", help="Id of the grant; made up when there is no --key either.")
]
Key = Annotated[
    str,
    typer.Option(
        "--key", "--idempotency-key", metavar="KEY", help="Grants once per key; the server makes the id."
    ),
]


@app.command("create")
def create(
    account: Account,
    *,
    credit: Credit,
    amount: Amount,
    expires: Expires = None,
    effective: Effective = None,
    priority: Priority = 0,
    features: Features = None,
    category: CategoryOption = Category.ADJUSTMENT,
    price: Price = "",
    source: Source = "",
    metadata: Notes = None,
    grant_id: GrantId = "",
    key: Key = "",
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    r"""Give credits to an account, once for each --id or --key.

    The id is printed, also when it was made up: the same command with it never
    grants a second time. A relative time is counted from now and differs from
    try to try; repeat the instant that was printed instead.

    Example:
      creditd grant create acme --credit credits --amount 500 --expires 30d \
        --category promotion --id welcome
    """
    # 48 random bits: unique within an account, and short enough to be read out.
    chosen_id = grant_id if grant_id or key else f"grant-{secrets.token_hex(6)}"
    grant = grants_pb2.Grant(
        id=chosen_id,
        account=account,
        credit=credit,
        amount_micros=amount,
        priority=priority,
        category=grants_pb2.Grant.Category.Value(f"CATEGORY_{category.name}"),
        source=source,
        metadata=pairs(metadata or (), "--metadata"),
        features=words(features or ()),
    )
    again = ["--key", key] if key else ["--id", chosen_id]
    if expires is not None:
        grant.expires_at.FromDatetime(expires)
        again += ["--expires", grant.expires_at.ToJsonString()]
    if effective is not None:
        grant.effective_at.FromDatetime(effective)
        again += ["--effective", grant.effective_at.ToJsonString()]
    if price:
        _set_price(grant, price)
    request = pb.CreateGrantRequest(grant=grant, idempotency_key=key)
    named = {"idempotency_key": "--key", "id": "--id"}
    with connected(address, context, as_json=as_json, named=named, retry=again) as channel:
        made = AccountsStub(channel).CreateGrant(request, timeout=TIMEOUT_SECONDS)
    if as_json:
        print_json(made)
    else:
        _show(
            made,
            Text.assemble(("granted", "bold green"), f"  {of_credit(made.amount_micros, made.credit)}"),
            key,
        )


@app.command("void")
def void(
    account: Account,
    grant: Annotated[
        str, typer.Argument(metavar="GRANT", help="Grant id.", autocompletion=completion.grants)
    ],
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the ledger.")] = "",
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Take away what is left of a grant, now; what was burned stays burned. Again it changes nothing.

    Example:
      creditd grant void acme welcome --reason "given by mistake"
    """
    request = pb.VoidGrantRequest(account=account, id=grant, reason=reason)
    with connected(address, context, as_json=as_json, named={"id": "GRANT"}) as channel:
        made = AccountsStub(channel).VoidGrant(request, timeout=TIMEOUT_SECONDS)
    if as_json:
        print_json(made)
        return
    # Expired or used up before: there was nothing left to take.
    done = "voided" if made.HasField("voided_at") else "nothing was left of it"
    _show(made, styled(done, "bold red" if made.HasField("voided_at") else "bold"))


@app.command("list")
def list_command(
    account: Account,
    *,
    credit: Annotated[
        str,
        typer.Option(metavar="KEY", help="Only this credit type.", autocompletion=completion.credit_keys),
    ] = "",
    inactive: Annotated[
        bool, typer.Option("--all", help="Also used up, expired, voided and future ones.")
    ] = False,
    limit: Limit = 100,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """List grants and what is left of each, active ones in burn order. With --json one a line.

    Example:
      creditd grant list demo --all
    """
    columns: list[Column | str] = [
        Column("grant", style="cyan"),
        Column("remaining", number=True),
        Column("of", number=True),
        "credit",
        Column("prio", number=True),
        "category",
        "expires",
        "state" if inactive else "pays for",
    ]
    at = now()

    def row(held: grants_pb2.GrantBalance) -> Sequence[str | Text]:
        grant = held.grant
        return (
            grant.id,
            credits_text(held.remaining_micros),
            credits_text(grant.amount_micros),
            grant.credit,
            str(grant.priority),
            category_text(grant.category),
            expiry_text(grant),
            _state(held, at) if inactive else features_text(grant),
        )

    request = pb.ListGrantsRequest(account=account, credit=credit, include_inactive=inactive)
    with connected(address, context, as_json=as_json, named={"credit": "--credit"}) as channel:
        found = pages(AccountsStub(channel).ListGrants, request, "grants", limit)
        what = "grants" if inactive else "active grants; --all shows others"
        show_pages(found, columns, row, as_json=as_json, empty=f"account {account} has no {what}")


def _state(held: grants_pb2.GrantBalance, at: datetime) -> Text:
    """What became of a grant, by the real time: an account on a test clock may see it otherwise."""
    grant = held.grant
    if grant.HasField("voided_at"):
        return styled(f"voided {instant_text(grant.voided_at)}", "red")
    if grant.HasField("expires_at") and grant.expires_at.ToDatetime(at.tzinfo) <= at:
        return styled("expired", "red")
    if grant.effective_at.ToDatetime(at.tzinfo) > at:
        return styled(f"from {instant_text(grant.effective_at)}", "yellow")
    return styled("active", "green") if held.remaining_micros else styled("used up", "bright_black")


def _set_price(grant: grants_pb2.Grant, text: str) -> None:
    try:
        currency, nanos = money(text)
    except TextError as error:
        raise typer.BadParameter(str(error), param_hint="--price") from None
    units, rest = divmod(abs(nanos), NANOS_PER_UNIT)
    sign = -1 if nanos < 0 else 1
    grant.price.currency_code, grant.price.units, grant.price.nanos = currency, sign * units, sign * rest


def _show(grant: grants_pb2.Grant, head: Text, key: str = "") -> None:
    rows: list[tuple[str, str | Text]] = [("grant", styled(grant.id, "cyan")), ("account", grant.account)]
    if key:
        rows.append(("key", key))
    rows.append(("amount", of_credit(grant.amount_micros, grant.credit)))
    rows.append(("category", f"{category_text(grant.category)}, priority {grant.priority}"))
    rows.append(("effective", instant_text(grant.effective_at)))
    rows.append(("expires", expiry_text(grant)))
    if grant.features:
        rows.append(("pays for", ", ".join(grant.features)))
    if grant.HasField("voided_at"):
        rows.append(("voided", instant_text(grant.voided_at)))
    show(head, facts(rows))
