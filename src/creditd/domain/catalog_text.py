"""Parts of the catalog as people write them: `0.25`, `0.01 USD`, `3 months`, `1,000 per day`."""

from __future__ import annotations

from collections.abc import Mapping

from creditd.domain.amounts import MICROS_PER_CREDIT, NANOS_PER_UNIT
from creditd.domain.catalog import Limit, Money, Period, Window


def decimal_text(number: int, scale: int) -> str:
    """`number / scale` as an exact decimal without trailing zeros; `scale` is a power of ten."""
    whole, part = divmod(abs(number), scale)
    digits = f"{part:0{len(str(scale)) - 1}}".rstrip("0")
    return f"{'-' if number < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def credits_text(micros: int) -> str:
    """Credits: 250_000 micros are `0.25`."""
    return decimal_text(micros, MICROS_PER_CREDIT)


def money_text(money: Money) -> str:
    """Money: `0.01 USD`."""
    return f"{decimal_text(money.nanos, NANOS_PER_UNIT)} {money.currency}".rstrip()


def period_text(period: Period) -> str:
    """A period: `month`, `3 months`."""
    unit = period.unit.lower()
    return unit if period.count == 1 else f"{period.count} {unit}s"


def limit_text(limit: Limit) -> str:
    """A limit: `1,000 per day`, `5 at a time`, `unlimited`."""
    text = "unlimited" if limit.unlimited else f"{limit.max:,}"
    if limit.per is not None:
        text += f" per {period_text(limit.per)}"
    elif not limit.unlimited:
        text += " at a time"
    if limit.window is not Window.ANCHORED:
        text += f", {limit.window.lower().replace('_', ' ')} window"
    text += f" in {limit.time_zone}" if limit.time_zone else ""
    text += ", for each seat" if limit.per_seat else ""
    return text + (", soft" if limit.soft else "")


def conditions_text(match: Mapping[str, str], above: Mapping[str, int]) -> str:
    """When a rate applies: `model=gpt-4o above 200,000 input_tokens`; empty when always."""
    parts = [f"{name}={value}" for name, value in sorted(match.items())]
    parts += [f"above {number:,} {meter}" for meter, number in sorted(above.items())]
    return " ".join(parts)
