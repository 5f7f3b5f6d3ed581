"""Micro-credit arithmetic: integers only, each rounding stated."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

MICROS_PER_CREDIT: Final = 1_000_000
NANOS_PER_UNIT: Final = 1_000_000_000

AMOUNT_MAX: Final = 9_000_000_000_000_000
"""Largest magnitude of a balance, counter or amount: below 2**53, so that Lua's doubles are exact."""

INT64_MAX: Final = 2**63 - 1


class Rounding(StrEnum):
    """How a price times a quantity becomes whole micros.

    UNIT_UP charges whole `per` units: 1,001 tokens at a price per 1,000 cost two.
    """

    UP = "UP"
    HALF_UP = "HALF_UP"
    DOWN = "DOWN"
    UNIT_UP = "UNIT_UP"


def divide(numerator: int, denominator: int, rounding: Rounding) -> int:
    """`numerator / denominator` as an integer; both are >= 0, the denominator > 0.

    UNIT_UP rounds up: the caller has divided into units already.
    """
    if rounding is Rounding.DOWN:
        return numerator // denominator
    if rounding is Rounding.HALF_UP:
        return (2 * numerator + denominator) // (2 * denominator)
    return -(-numerator // denominator)
