"""Pricing: from usage and attributes to micros, exactly, in constant time however many rates there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from creditd.domain.amounts import AMOUNT_MAX, INT64_MAX, Rounding, divide
from creditd.domain.catalog import Feature, MeterPrice, Money, Rate
from creditd.domain.errors import FailedPrecondition, OutOfRange

DEFAULT_METER = "units"
"""The default meter of a feature that names none."""


@dataclass(frozen=True, slots=True)
class Tiered:
    """A meter of a request with graduated prices: `quantity` more units of the counter `key`.

    The request's price holds while the period has counted at least `low` and at most `high` units before.
    """

    key: str
    quantity: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Priced:
    """What a request costs: `amount` micros by `rate`, and the provider's `cost` where the catalog knows it."""

    amount: int
    rate: Rate | None
    cost: Money | None
    tiers: tuple[Tiered, ...] = ()


@dataclass(slots=True)
class _Indexed:
    rate: Rate
    order: int
    prices: dict[str, MeterPrice]


@dataclass(slots=True)
class RateTable:
    """A feature's rates, indexed by the names and values that they match on.

    Rates that match on the same names share a dict from their values to the rates: a look-up costs one dict
    access per distinct set of names (a handful), whether there are ten models or ten thousand.
    """

    feature: Feature
    meter: str = field(init=False)
    _shapes: list[tuple[tuple[str, ...], dict[tuple[str, ...], list[_Indexed]]]] = field(init=False)

    def __post_init__(self) -> None:
        self.meter = self.feature.default_meter or DEFAULT_METER
        shapes: dict[tuple[str, ...], dict[tuple[str, ...], list[_Indexed]]] = {}
        for order, rate in enumerate(self.feature.rates):
            names = tuple(sorted(rate.match))
            values = tuple(rate.match[name] for name in names)
            prices = {price.meter: price for price in rate.prices}
            shapes.setdefault(names, {}).setdefault(values, []).append(_Indexed(rate, order, prices))
        # Most names first: the most specific match wins.
        self._shapes = sorted(shapes.items(), key=lambda item: (-len(item[0]), item[0]))

    def find(self, usage: Mapping[str, int], attributes: Mapping[str, str]) -> Rate | None:
        """The rate for a request: most names matched, then the highest `above` exceeded, then list order."""
        found = self._find(usage, attributes)
        return None if found is None else found.rate

    def _find(self, usage: Mapping[str, int], attributes: Mapping[str, str]) -> _Indexed | None:
        best: _Indexed | None = None
        best_key: tuple[int, int, int] | None = None
        for names, by_values in self._shapes:
            if best is not None and len(names) < len(best.rate.match):
                break
            try:
                values = tuple(attributes[name] for name in names)
            except KeyError:
                continue
            for indexed in by_values.get(values, ()):
                above = indexed.rate.above
                if any(usage.get(meter, 0) <= threshold for meter, threshold in above.items()):
                    continue
                key = (max(above.values(), default=-1), len(above), -indexed.order)
                if best_key is None or key > best_key:
                    best, best_key = indexed, key
        return best

    def price(
        self,
        usage: Mapping[str, int],
        attributes: Mapping[str, str],
        counted: Mapping[str, int] | None = None,
    ) -> Priced:
        """The price of a request. Meters with zero usage cost nothing and need no price.

        `counted` has what the period has counted so far of meters with graduated prices, by key; 0 when not there.

        Raises:
            FailedPrecondition: NO_RATE, no rate matches the attributes or it has no price for a meter used.
            OutOfRange: the price is beyond 9e15 micros.
        """
        indexed = self._find(usage, attributes)
        if indexed is None:
            raise self._no_rate("no rate matches the attributes", attributes)
        amount = 0
        tiers: list[Tiered] = []
        cost, per, currency = 0, 1, ""
        for meter, quantity in usage.items():
            if not quantity:
                continue
            price = indexed.prices.get(meter)
            if price is None:
                known = ", ".join(sorted(indexed.prices))
                raise self._no_rate(
                    f"the rate that matches has no price for meter {meter!r} (it prices {known})", attributes
                )
            if price.tiers:
                key = self._counter_of(indexed.rate, meter)
                due, tier = graduated(price, key, quantity, (counted or {}).get(key, 0))
                amount += due
                tiers.append(tier)
            else:
                amount += charge(price, quantity)
            if price.unit_cost is not None:
                currency = price.unit_cost.currency
                cost = cost * price.per + price.unit_cost.nanos * quantity * per
                per *= price.per
        amount = max(amount, indexed.rate.minimum_micros)
        if amount > AMOUNT_MAX:
            raise OutOfRange(
                f"the request would cost {amount} micros, beyond {AMOUNT_MAX}",
                reason="AMOUNT_OUT_OF_RANGE",
                metadata={"feature": self.feature.key},
            )
        return Priced(amount, indexed.rate, _money(currency, cost, per) if currency else None, tuple(tiers))

    def _counter_of(self, rate: Rate, meter: str) -> str:
        """The key of the counter behind a meter's tiers: it stays the same when prices change."""
        match = ",".join(f"{name}={value}" for name, value in sorted(rate.match.items()))
        above = ",".join(f"{name}>{number}" for name, number in sorted(rate.above.items()))
        return f"t:{self.feature.key}:{meter}:{match}:{above}"

    def affordable(
        self, attributes: Mapping[str, str], capacity: int, counted: Mapping[str, int] | None = None
    ) -> int:
        """How many units of the default meter cost at most `capacity` >= 0 micros; AMOUNT_MAX stands for no bound.

        0 when no rate prices the meter.
        """
        indexed = self._find({self.meter: 1}, attributes)
        price = None if indexed is None else indexed.prices.get(self.meter)
        if indexed is None or price is None or indexed.rate.minimum_micros > capacity:
            return 0
        if not price.tiers:
            units = min(units_for(price, capacity), AMOUNT_MAX)
            if self._find({self.meter: units}, attributes) is indexed:
                return units
        # Another rate applies to so much of the meter (`above`): look for the edge.
        low, high = 0, AMOUNT_MAX + 1
        while high - low > 1:
            middle = (low + high) // 2
            try:
                fits = self.price({self.meter: middle}, attributes, counted).amount <= capacity
            except (OutOfRange, FailedPrecondition):
                fits = False
            low, high = (middle, high) if fits else (low, middle)
        return low

    def _no_rate(self, why: str, attributes: Mapping[str, str]) -> FailedPrecondition:
        given = ", ".join(f"{name}={value}" for name, value in sorted(attributes.items())) or "none"
        return FailedPrecondition(
            f"feature {self.feature.key!r}: {why}; attributes given: {given}",
            reason="NO_RATE",
            metadata={"feature": self.feature.key},
        )


def charge(price: MeterPrice, quantity: int) -> int:
    """What `quantity` >= 0 units cost: one exact product, one rounding."""
    if price.rounding is Rounding.UNIT_UP:
        return divide(quantity, price.per, Rounding.UP) * price.credits_micros
    return divide(quantity * price.credits_micros, price.per, price.rounding)


def graduated(price: MeterPrice, key: str, quantity: int, counted: int) -> tuple[int, Tiered]:
    """What `quantity` > 0 units after `counted` others of the period cost, and where that price holds.

    Each tier's part is multiplied exactly; the sum is rounded once.
    """
    product, below, left, low, high = 0, 0, quantity, counted, counted
    for tier in price.tiers:
        end = tier.up_to or INT64_MAX
        part = max(0, min(end, counted + quantity) - max(below, counted))
        product += part * tier.credits_micros
        if part == left == quantity:
            low, high = below, end - quantity
        left -= part
        below = end
    return divide(product, price.per, price.rounding), Tiered(key, quantity, low, min(high, AMOUNT_MAX))


def units_for(price: MeterPrice, capacity: int) -> int:
    """The most units that `capacity` >= 0 micros pay for, the inverse of `charge`; AMOUNT_MAX when they are free."""
    micros, per = price.credits_micros, price.per
    if micros == 0:
        return AMOUNT_MAX
    if price.rounding is Rounding.UNIT_UP:
        return capacity // micros * per
    if price.rounding is Rounding.DOWN:
        return ((capacity + 1) * per - 1) // micros
    if price.rounding is Rounding.HALF_UP:
        return ((2 * capacity + 1) * per - 1) // (2 * micros)
    return capacity * per // micros


def _money(currency: str, numerator: int, denominator: int) -> Money:
    nanos = divide(numerator, denominator, Rounding.HALF_UP)
    # Int64 nanos; a cost beyond is a typing error in the catalog, not worth failing a burn for.
    return Money(currency, min(nanos, INT64_MAX))
