"""A price in USD as an exact MeterPrice: the smallest round `per` at which all numbers are whole."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

from google.type import money_pb2  # type: ignore[import-untyped]

from creditd.domain.amounts import AMOUNT_MAX, INT64_MAX, MICROS_PER_CREDIT, NANOS_PER_UNIT
from creditd.v1 import catalog_pb2 as pb

CURRENCY = "USD"
_ROUND_UNITS = tuple(1000**power for power in range(7))
_ROUNDED_PER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Conversion:
    """How USD become credits: `usd / credit_value * markup`."""

    credit_value: Fraction
    markup: Fraction

    def __post_init__(self) -> None:
        if self.credit_value <= 0:
            raise ValueError("the value of a credit must be more than 0")
        if self.markup < 0:
            raise ValueError("the markup must not be negative")

    def _micros(self, usd: Fraction) -> Fraction:
        return usd / self.credit_value * self.markup * MICROS_PER_CREDIT

    def fits(self, usd: Fraction) -> bool:
        """Whether one unit that costs `usd` is no more credits than an amount can hold."""
        return _fits(self._micros(usd), 1)

    def price(self, meter: str, usd: Fraction) -> tuple[pb.MeterPrice, str]:
        """The price of one unit that costs `usd`, which fits, and what was rounded: nothing if empty."""
        per, rounded = _per(self._micros(usd), usd * NANOS_PER_UNIT)
        # Rounding of the price is up, so that the sum never falls short of what was asked for.
        micros = ceil(self._micros(usd) * per)
        return pb.MeterPrice(
            meter=meter, credits_micros=micros, per=per, unit_cost=money_of(usd * per)
        ), rounded


def money_of(usd: Fraction) -> money_pb2.Money:
    """An amount of USD, to the nearest nano."""
    units, nanos = divmod(round(usd * NANOS_PER_UNIT), NANOS_PER_UNIT)
    return money_pb2.Money(currency_code=CURRENCY, units=units, nanos=nanos)


def _per(micros: Fraction, nanos: Fraction) -> tuple[int, str]:
    """How many units to price at once, and what is rounded then."""
    common = lcm(micros.denominator, nanos.denominator)
    for per in (*_ROUND_UNITS, common):
        if per % common == 0 and _fits(micros, per):
            return per, ""
    for per in (*_ROUND_UNITS, micros.denominator):
        if per % micros.denominator == 0 and _fits(micros, per):
            return per, "the unit cost, to the nano"
    per = _ROUNDED_PER
    while not _fits(micros, per):
        per //= 10
    return per, f"the price, up to the micro-credit per {per:,}"


def _fits(micros: Fraction, per: int) -> bool:
    return per <= INT64_MAX and ceil(micros * per) <= AMOUNT_MAX
