"""The catalog: what is sold, at which rates, in which plans. Plain frozen data, as product people apply it.

The fields mirror `creditd.v1.Catalog`; see the protos for their meaning. Optional numbers use 0 and optional
texts use "" for "not given", as on the wire. Mappings are plain dicts that nobody changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from creditd.domain.amounts import Rounding

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of the same."""


class FeatureType(StrEnum):
    """What a feature decides: yes/no, a value, a count, or credits burned by rate."""

    BOOLEAN = "BOOLEAN"
    CONFIG = "CONFIG"
    LIMIT = "LIMIT"
    CREDIT = "CREDIT"


class BurnOrder(StrEnum):
    """Which grants of equal priority pay first."""

    SOONEST_EXPIRY_FIRST = "SOONEST_EXPIRY_FIRST"
    OLDEST_FIRST = "OLDEST_FIRST"
    NEWEST_FIRST = "NEWEST_FIRST"
    PLAN_FIRST = "PLAN_FIRST"


class Unit(StrEnum):
    """Calendar unit of a period."""

    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"


class Window(StrEnum):
    """How a limit's or budget's window is placed in time."""

    ANCHORED = "ANCHORED"
    CALENDAR = "CALENDAR"
    FIRST_USE = "FIRST_USE"
    SLIDING = "SLIDING"


@dataclass(frozen=True, slots=True)
class Period:
    """`count` calendar units, count >= 1."""

    unit: Unit
    count: int = 1


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of a currency (ISO 4217 code) in whole nano-units: 1.50 USD is 1_500_000_000 nanos."""

    currency: str
    nanos: int


@dataclass(frozen=True, slots=True)
class CreditType:
    """A kind of credit. `value` is the value of one credit, for margins."""

    key: str
    name: str = ""
    burn_order: BurnOrder = BurnOrder.SOONEST_EXPIRY_FIRST
    value: Money | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """Graduated price for the units up to `up_to` in a period; 0 = all the rest."""

    up_to: int
    credits_micros: int


@dataclass(frozen=True, slots=True)
class MeterPrice:
    """`credits_micros` for `per` units of `meter`. `unit_cost` is the provider's cost of the same `per` units."""

    meter: str
    credits_micros: int
    per: int = 1
    rounding: Rounding = Rounding.UP
    unit_cost: Money | None = None
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """Prices for the requests whose attributes contain `match` and whose usage exceeds `above`."""

    prices: tuple[MeterPrice, ...]
    match: dict[str, str] = field(default_factory=dict)
    minimum_micros: int = 0
    above: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that an account may use."""

    key: str
    type: FeatureType
    name: str = ""
    credit: str = ""
    default_meter: str = ""
    rates: tuple[Rate, ...] = ()
    external_rate: bool = False
    default_value: Json = None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `max` units, in each window of `per`; without `per` a gauge that can go down again."""

    max: int = 0
    per: Period | None = None
    unlimited: bool = False
    soft: bool = False
    per_seat: bool = False
    window: Window = Window.ANCHORED
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a plan grants of a feature: exactly one of `enabled`, `value`, `limit` is set."""

    feature: str
    enabled: bool | None = None
    value: Json = None
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Rollover:
    """What of an unused recurring amount is kept: at most `max_micros` and `max_percent`, for `max_periods`."""

    max_micros: int = 0
    max_percent: int = 0
    max_periods: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Credits that come with a plan: once, or `every` period."""

    credit: str
    amount_micros: int
    every: Period | None = None
    rollover: Rollover | None = None
    per_seat: bool = False
    priority: int = 0
    expires_after: Period | None = None


@dataclass(frozen=True, slots=True)
class Overage:
    """Burning beyond the grants: whether, up to which cap per period, at which price, keeping which floor."""

    credit: str
    allowed: bool = False
    cap_micros: int = 0
    price_per_credit: Money | None = None
    carry_debt: bool = False
    floor_micros: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """How a plan starts for a new subscriber."""

    length: Period
    allowances: tuple[Allowance, ...] = ()
    require_activation: bool = False


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A cap on burning per account, subject or metadata value."""

    credit: str
    cap_micros: int = 0
    per: Period | None = None
    scope: str = "account"
    soft: bool = False
    max_per_draw_micros: int = 0
    window: Window = Window.ANCHORED
    time_zone: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a subscriber gets. `version` counts the changes of this plan; subscribers keep theirs."""

    key: str
    name: str = ""
    allowances: tuple[Allowance, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()
    overages: tuple[Overage, ...] = ()
    trial: Trial | None = None
    rank: int = 0
    external_id: str = ""
    version: int = 0
    budgets: tuple[BudgetRule, ...] = ()


@dataclass(frozen=True, slots=True)
class AddOn:
    """What can be added to a subscription, any number of times."""

    key: str
    name: str = ""
    allowances: tuple[Allowance, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Credits for sale."""

    key: str
    credit: str
    amount_micros: int
    name: str = ""
    price: Money | None = None
    expires_after: Period | None = None
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class Promotion:
    """Credits given away: on signup or for a code."""

    key: str
    credit: str
    amount_micros: int
    expires_after: Period | None = None
    on_signup: bool = False
    code: str = ""
    max_redemptions: int = 0
    priority: int = 0
    starts_at: int | None = None
    ends_at: int | None = None


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When to raise an event about a balance or limit."""

    key: str
    credit: str = ""
    below_percent: int = 0
    below_micros: int = 0
    feature: str = ""
    above_percent_of_limit: int = 0


@dataclass(frozen=True, slots=True)
class Catalog:
    """The whole catalog. It is applied, versioned and compared as one document."""

    credits: tuple[CreditType, ...] = ()
    features: tuple[Feature, ...] = ()
    plans: tuple[Plan, ...] = ()
    add_ons: tuple[AddOn, ...] = ()
    bundles: tuple[Bundle, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    alerts: tuple[AlertRule, ...] = ()
