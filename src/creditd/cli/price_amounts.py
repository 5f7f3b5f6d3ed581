"""Prices in USD per unit -> whole micro-credits and nano-USD for `per` units, exact wherever they fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from creditd.domain.amounts import AMOUNT_MAX, MICROS_PER_CREDIT, NANOS_PER_UNIT
from creditd.domain.catalog import MeterPrice, Money


@dataclass(frozen=True, slots=True)
class Amount:
    """`credits_micros` for `per` units, which cost the provider's customer `cost_nanos` of a USD.

    `rounded` names what had to be rounded up, and is empty for an exact amount.
    """

    credits_micros: int
    per: int
    cost_nanos: int
    rounded: str = ""

    def price(self, meter: str) -> MeterPrice:
        """The amount as the price of a meter."""
        return MeterPrice(meter, self.credits_micros, self.per, unit_cost=Money("USD", self.cost_nanos))


def usd(value: Any) -> Fraction | None:
    """The number of a price map exactly as it was written; None when it is no amount of money.

    A float counts as the shortest decimal that reads as it, which is what its JSON said.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return Fraction(number) if number.is_finite() and number >= 0 else None


class Exchange:
    """Turns USD into credits of `credit_value` USD each, times `markup`."""

    def __init__(self, credit_value: Fraction, markup: Fraction) -> None:
        if credit_value <= 0:
            raise ValueError(f"credit_value is {credit_value}; expected more than 0 USD for a credit")
        if markup < 0:
            raise ValueError(f"markup is {markup}; expected 0 or more, 1 sells at cost")
        self._micros_per_usd = markup / credit_value * MICROS_PER_CREDIT
        self._known: dict[Fraction, Amount | None] = {}

    def amount(self, price: Fraction) -> Amount | None:
        """The amount for `price` USD a unit; None when one unit costs more than an amount can be."""
        if price not in self._known:
            self._known[price] = _amount(price * self._micros_per_usd, price * NANOS_PER_UNIT)
        return self._known[price]


def _amount(micros: Fraction, nanos: Fraction) -> Amount | None:
    """Both are for one unit. The smallest power of ten that makes both whole, else the smallest number."""
    if micros > AMOUNT_MAX:
        return None
    common = math.lcm(micros.denominator, nanos.denominator)
    for per in (_power_of_ten(common), common):
        if per is not None and _fits(micros, per):
            return Amount(int(micros * per), per, int(nanos * per))
    # The credits are what customers pay: they stay exact even where the provider's cost can't.
    start = micros.denominator if _fits(micros, micros.denominator) else 1
    per = _largest(micros, start)
    parts = (("credits_micros", micros * per), ("unit_cost", nanos * per))
    rounded = " and ".join(name for name, part in parts if part.denominator != 1)
    return Amount(math.ceil(micros * per), per, math.ceil(nanos * per), rounded)


def _fits(micros: Fraction, per: int) -> bool:
    return per <= AMOUNT_MAX and micros * per <= AMOUNT_MAX


def _power_of_ten(divisor: int) -> int | None:
    """The smallest power of ten within range that `divisor` divides."""
    per = 1
    while per % divisor:
        per *= 10
        if per > AMOUNT_MAX:
            return None
    return per


def _largest(micros: Fraction, start: int) -> int:
    """The largest `start` times a power of ten within range: the larger, the less rounding matters."""
    per = start
    while _fits(micros, per * 10):
        per *= 10
    return per
