"""A LiteLLM price map as one CREDIT feature: rates by model, service tier, resolution and context size.

`price_fields` has the table of fields and meters. The rates follow from it:

- Requests say their `model` (the map's key) and, where they have one, their `service_tier`, `resolution` and
  `search_context_size` as attributes. Prices without a service tier hold for requests of a tier that the map
  has no price for; searches of no given size are priced as of medium size.
- The most specific rate wins and stands alone, so each has every meter of the model. Where a request is of a
  tier and above a threshold too, and the map has no price for both, the higher of the two prices counts.
- `tiered_pricing` whose ranges are of context sizes, from 0 on and without gaps, becomes thresholds too.
- Quantities are disjoint in creditd, and a threshold is compared with the request's `input_tokens` alone: a
  provider that counts cached tokens as context changes to the higher price earlier than these rates do.
- A model without a price for `reasoning_tokens`, say, has none: count them as output tokens there.

Prices are exact: `usd / credit_value * markup`, with `per` raised until all numbers are whole. The few that
cannot be exact in 64 bits are rounded up and listed, as is everything in the map that rates cannot say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from creditd.cli import price_fields as table
from creditd.cli.price_units import Conversion
from creditd.v1 import catalog_pb2 as pb

_SKIPPED = {"sample_spec"}
"""Entries of the map that document its format."""

_NAME_BYTES_MAX = 255

_Prices = dict[str, Fraction]
"""USD for one unit, by meter."""


@dataclass(frozen=True, slots=True)
class Unexpressed:
    """A field of the map that is not, or not exactly, in the rates."""

    model: str
    field: str
    value: Any
    why: str


@dataclass(frozen=True, slots=True)
class Imported:
    """The feature, and an account of everything in the map.

    `used` are the (model, field) that the rates contain, `unexpressed` those that they don't, `approximated`
    the prices that were rounded, `unpriced` the models without any rate.
    """

    feature: pb.Feature
    unexpressed: tuple[Unexpressed, ...]
    approximated: tuple[Unexpressed, ...]
    unpriced: tuple[str, ...]
    used: frozenset[tuple[str, str]]
    models: int


def load_price_map(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a price map with its decimals as they are written.

    Raises:
        ValueError: if the file is no JSON object of objects.
    """
    loaded = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    if not isinstance(loaded, dict) or not all(isinstance(entry, dict) for entry in loaded.values()):
        raise ValueError("expected a JSON object with an object for each model")
    return loaded


def import_prices(
    price_map: Mapping[str, Mapping[str, Any]],
    *,
    credit: str,
    feature: str,
    credit_value: Fraction,
    markup: Fraction,
) -> Imported:
    """Converts a price map to rates of `feature`, in `credit` of which one is worth `credit_value` USD.

    Raises:
        ValueError: if the credit's value or the markup makes no sense.
    """
    conversion = Conversion(credit_value, markup)
    models = [_Model(name, entry, conversion) for name, entry in price_map.items() if name not in _SKIPPED]
    rates: list[pb.Rate] = []
    approximated: dict[tuple[str, str, Fraction], str] = {}
    unpriced = []
    for model in models:
        of_model = list(_rates(model, conversion, approximated))
        rates += of_model
        if not of_model:
            unpriced.append(model.name)
    meters = {price.meter for rate in rates for price in rate.prices}
    message = pb.Feature(
        key=feature,
        type=pb.FEATURE_TYPE_CREDIT,
        credit=credit,
        default_meter="output_tokens" if "output_tokens" in meters else "",
        rates=rates,
    )
    return Imported(
        feature=message,
        unexpressed=tuple(entry for model in models for entry in model.unexpressed),
        approximated=tuple(
            Unexpressed(model_name, meter, float(usd), why)
            for (model_name, meter, usd), why in approximated.items()
        ),
        unpriced=tuple(unpriced),
        used=frozenset((model.name, name) for model in models for name in model.used),
        models=len(models),
    )


@dataclass
class _Model:
    """The prices of one model, sorted by what they hold for.

    `prices` has them by service tier and threshold ("" and 0 where there is none), `variants` by attribute
    and value.
    """

    name: str
    entry: Mapping[str, Any]
    conversion: Conversion
    prices: dict[tuple[str, int], _Prices] = field(default_factory=dict)
    variants: dict[str, dict[str, _Prices]] = field(default_factory=dict)
    sources: dict[tuple[str, int, str, str], str] = field(default_factory=dict)
    unexpressed: list[Unexpressed] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        nameable = self.name and self.name.isprintable() and len(self.name.encode()) <= _NAME_BYTES_MAX
        for name, value in self.entry.items():
            if not nameable:
                if table.is_cost_like(name):
                    self.refuse(name, value, "belongs to a model whose name no attribute can have")
            elif name == table.SEARCH_FIELD and isinstance(value, dict):
                self._search(value)
            elif name == table.GUARDRAIL_FIELD and isinstance(value, dict):
                for unit, price in value.items():
                    self._put(name, price, table.PriceField(f"guardrail_{_snake(unit)}"))
            elif (meaning := table.price_field(name)) is not None:
                self._put(name, value, meaning)
            elif name != table.TIERED_FIELD:
                self._other(name, value)
        # Last, so that it is compared with the fields that say the same.
        if nameable and table.TIERED_FIELD in self.entry:
            self._tiered(self.entry[table.TIERED_FIELD])

    def refuse(self, name: str, value: Any, why: str) -> None:
        self.unexpressed.append(Unexpressed(self.name, name, value, why))

    def _put(self, name: str, value: Any, meaning: table.PriceField) -> None:
        """Takes one price, unless it is none or contradicts another field."""
        usd = _fraction(value)
        if usd is None or usd < 0:
            self.refuse(name, value, "is no price; expected a number of 0 or more")
            return
        usd /= meaning.units
        if not self.conversion.fits(usd):
            self.refuse(name, value, "is more credits for one unit than an amount can hold")
            return
        if meaning.resolution and (meaning.service_tier or meaning.above):
            self.refuse(name, value, "is by resolution and by tier or size at once")
            return
        if meaning.resolution:
            variants = self.variants.setdefault("resolution", {})
            prices = variants.setdefault(meaning.resolution, {})
        else:
            prices = self.prices.setdefault((meaning.service_tier, meaning.above), {})
        source = (meaning.service_tier, meaning.above, meaning.resolution, meaning.meter)
        if prices.setdefault(meaning.meter, usd) != usd:
            self.refuse(name, value, f"contradicts {self.sources[source]}, which is taken")
            return
        self.sources.setdefault(source, name)
        self.used.add(name)

    def _search(self, by_size: Mapping[str, Any]) -> None:
        sizes = {name.removeprefix(f"{table.SEARCH_SIZE}_"): _fraction(usd) for name, usd in by_size.items()}
        known = {
            size: usd
            for size, usd in sizes.items()
            if usd is not None and usd >= 0 and self.conversion.fits(usd)
        }
        if not known or len(known) < len(sizes):
            self.refuse(table.SEARCH_FIELD, by_size, "is no set of prices by size")
            return
        # Every size is listed: whatever is not said to be of a size is taken as the default one.
        default = known.get(table.DEFAULT_SEARCH_SIZE, max(known.values()))
        self.prices.setdefault(("", 0), {})[table.SEARCH_METER] = default
        if len(set(known.values())) > 1:
            self.variants[table.SEARCH_SIZE] = {
                size: {table.SEARCH_METER: usd} for size, usd in known.items() if usd != default
            }
        self.used.add(table.SEARCH_FIELD)

    def _tiered(self, tiers: Any) -> None:
        name = table.TIERED_FIELD
        steps = _context_tiers(tiers)
        if steps is None:
            self.refuse(name, tiers, "has ranges that are not of context sizes from 0 on without gaps")
            return
        for above, prices in steps:
            for part, value in prices.items():
                meaning = table.price_field(part)
                at = f"{name}[above {above}].{part}"
                if meaning is None or meaning.service_tier or meaning.above or meaning.resolution:
                    self.refuse(at, value, "is not known to this importer")
                else:
                    self._put(at, value, table.PriceField(meaning.meter, meaning.units, above=above))
        if any(part.startswith(f"{name}[") for part in self.used):
            self.used.add(name)
        elif not any(entry.field.startswith(f"{name}[") for entry in self.unexpressed):
            self.refuse(name, tiers, "has no prices")

    def _other(self, name: str, value: Any) -> None:
        """What rates cannot say; fields that are not about prices are passed over."""
        if table.is_cost_like(name):
            self.refuse(name, value, table.why_not(name))
        elif name == "search_free_requests":
            self.refuse(name, value, "is a free quota; grant it as a limit or allowance")
        elif name == "provider_specific_entry" and isinstance(value, dict):
            for part, setting in value.items():
                if not isinstance(setting, str):
                    self.refuse(f"{name}.{part}", setting, "may change prices where it applies")


def _rates(
    model: _Model, conversion: Conversion, approximated: dict[tuple[str, str, Fraction], str]
) -> Iterator[pb.Rate]:
    """The rates of a model: without those that say what the less specific ones say already."""
    tiers = ["", *sorted({tier for tier, _ in model.prices if tier})]
    variants: list[list[tuple[str, str]]] = [
        [(attribute, ""), *((attribute, value) for value in values)]
        for attribute, values in model.variants.items()
    ]
    plans: dict[tuple[str, tuple[str, ...]], list[tuple[int, _Prices]]] = {}
    for tier, chosen in product(tiers, product(*variants)):
        plans[tier, tuple(value for _, value in chosen)] = _steps(model, tier, chosen)
    dull_tiers = {
        tier for tier in tiers if tier and all(s == plans["", c] for (t, c), s in plans.items() if t == tier)
    }
    for (tier, values), steps in plans.items():
        if tier in dull_tiers:
            continue
        match = {"model": model.name}
        if tier:
            match["service_tier"] = tier
        match |= {name: value for name, value in zip(model.variants, values, strict=True) if value}
        for above, prices in steps:
            if prices:
                rate = pb.Rate(match=match, above={"input_tokens": above} if above else {})
                rate.prices.extend(_converted(model, prices, conversion, approximated))
                yield rate


def _converted(
    model: _Model, prices: _Prices, conversion: Conversion, approximated: dict[tuple[str, str, Fraction], str]
) -> Iterator[pb.MeterPrice]:
    for meter in sorted(prices, key=lambda name: (table.METER_ORDER.get(name, len(table.METER_ORDER)), name)):
        price, rounded = conversion.price(meter, prices[meter])
        if rounded:
            approximated[model.name, meter, prices[meter]] = rounded
        yield price


def _steps(model: _Model, tier: str, chosen: tuple[tuple[str, str], ...]) -> list[tuple[int, _Prices]]:
    """The prices of one tier and variant by ascending threshold, those left out that change nothing."""
    thresholds = sorted({above for _, above in model.prices} | {0})
    overriding: _Prices = {}
    for attribute, value in chosen:
        overriding |= model.variants[attribute].get(value, {})
    steps: list[tuple[int, _Prices]] = []
    for above in thresholds:
        prices = _prices_at(model, tier, above) | overriding
        if not steps or prices != steps[-1][1]:
            steps.append((above, prices))
    return steps


def _prices_at(model: _Model, tier: str, above: int) -> _Prices:
    """The prices of a tier above a threshold: the most specific, else the higher of two as specific."""

    def highest_step(of_tier: str) -> _Prices:
        found: _Prices = {}
        for step in sorted(a for t, a in model.prices if t == of_tier and 0 < a <= above):
            found |= model.prices[of_tier, step]
        return found

    base = model.prices.get(("", 0), {})
    long = highest_step("")
    if not tier:
        return base | long
    of_tier = model.prices.get((tier, 0), {})
    both = {meter: max(long[meter], of_tier[meter]) for meter in long.keys() & of_tier.keys()}
    return base | long | of_tier | both | highest_step(tier)


def _context_tiers(tiers: Any) -> list[tuple[int, Mapping[str, Any]]] | None:
    """Tiers as thresholds and their prices, if their ranges are contiguous from 0."""
    steps: list[tuple[int, Mapping[str, Any]]] = []
    reached = Fraction(0)
    for tier in tiers if isinstance(tiers, list) else ():
        bounds = tier.get("range") if isinstance(tier, dict) else None
        if not isinstance(bounds, list) or len(bounds) != 2:
            return None
        low, high = map(_fraction, bounds)
        if low != reached or high is None or high <= low:
            return None
        steps.append((int(low), {name: value for name, value in tier.items() if name != "range"}))
        reached = high
    return steps or None


def _fraction(value: Any) -> Fraction | None:
    """The exact value of a JSON number, or of a text that is one."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal | float):
        return None
    try:
        exact = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return None
    if not exact.is_finite() or abs(exact.adjusted()) > 40:
        return None
    return Fraction(exact)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
