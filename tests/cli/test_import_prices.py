"""Importing price maps: exact amounts, which rate a request gets, and that nothing is dropped in silence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from creditd.cli.import_prices import Imported, import_prices, load_price_map
from creditd.cli.price_fields import is_cost_like
from creditd.domain.catalog import Catalog, CreditType
from creditd.domain.catalog_check import check_catalog
from creditd.rpc.codec_catalog import catalog_from_proto, catalog_to_proto
from creditd.v1 import catalog_pb2 as pb

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "model-prices.json"


def run(price_map: Mapping[str, Mapping[str, Any]], value: str = "0.01", markup: str = "1") -> Imported:
    return import_prices(
        price_map, credit="credits", feature="chat", credit_value=Fraction(value), markup=Fraction(markup)
    )


def one(value: str = "0.01", markup: str = "1", /, **fields: Any) -> Imported:
    """Imports a map of the single model m."""
    return run({"m": fields}, value, markup)


def usd(price: pb.MeterPrice) -> Fraction:
    """What one unit costs the provider."""
    cost = price.unit_cost
    return (cost.units + Fraction(cost.nanos, 10**9)) / price.per


def chosen(imported: Imported, input_tokens: int = 0, **attributes: str) -> dict[str, Fraction]:
    """USD by meter of the rate that a request gets, by the contract's order of precedence."""
    request = {"model": "m", **attributes}
    rates = [
        rate
        for rate in imported.feature.rates
        if dict(rate.match).items() <= request.items()
        and all(input_tokens > least for least in rate.above.values())
    ]
    best = max(rates, key=lambda rate: (len(rate.match), rate.above.get("input_tokens", 0)))
    return {price.meter: usd(price) for price in best.prices}


@pytest.mark.parametrize(
    ("price", "value", "markup", "micros", "per", "nanos"),
    [
        # 3 USD a million tokens are 300 hundredths of a cent's credit a million, and 3000 nanos each
        ("0.000003", "0.01", "1", 300, 1, 3000),
        ("2.8E-8", "0.01", "1.5", 4200, 1000, 28_000),
        ("2.5E-10", "0.01", "1", 25, 1000, 250),
        ("0.0", "0.01", "1", 0, 1, 0),
        ("0.000001", "0.03", "1", 100, 3, 3000),
        ("0.000003", "0.01", "0", 0, 1, 3000),
        ("0.05", "0.01", "1.2", 6_000_000, 1, 50_000_000),
    ],
)
def test_prices_are_exact(price: str, value: str, markup: str, micros: int, per: int, nanos: int) -> None:
    imported = one(value, markup, input_cost_per_token=Decimal(price))

    (made,) = imported.feature.rates[0].prices
    assert (made.meter, made.credits_micros, made.per) == ("input_tokens", micros, per)
    assert (made.unit_cost.currency_code, made.unit_cost.units, made.unit_cost.nanos) == ("USD", 0, nanos)
    assert imported.approximated == ()


def test_what_64_bits_cannot_hold_is_rounded_up_and_listed() -> None:
    imported = one(input_cost_per_token=Decimal("0.0000029999900000000002"))

    (made,) = imported.feature.rates[0].prices
    assert (made.credits_micros, made.per) == (299_999_000_001, 10**9)
    assert [(noted.model, noted.field) for noted in imported.approximated] == [("m", "input_tokens")]


def test_a_price_beyond_all_amounts_is_listed() -> None:
    imported = one("1e-12", output_cost_per_image=Decimal("0.05"))

    assert imported.unpriced == ("m",)
    assert imported.unexpressed[0].why == "is more credits for one unit than an amount can hold"


@pytest.mark.parametrize(("value", "markup"), [("0", "1"), ("-1", "1"), ("1", "-1")])
def test_senseless_conversions_are_refused(value: str, markup: str) -> None:
    with pytest.raises(ValueError, match="must"):
        one(value, markup)


LONG = {
    "input_cost_per_token": Decimal(1),
    "output_cost_per_token": Decimal(2),
    "cache_read_input_token_cost": Decimal(3),
    "input_cost_per_token_above_200k_tokens": Decimal(10),
    "output_cost_per_token_above_200k_tokens": Decimal(20),
    "input_cost_per_token_batches": Decimal(4),
    "output_cost_per_token_batches": Decimal(5),
    "input_cost_per_token_above_200k_tokens_batches": Decimal(40),
    "cache_read_input_token_cost_priority": Decimal(6),
}


@pytest.mark.parametrize(
    ("tier", "input_tokens", "expected"),
    [
        ("", 200_000, (1, 2, 3)),
        ("", 200_001, (10, 20, 3)),
        ("batch", 200_000, (4, 5, 3)),
        # no price of long batch output: the higher of long (20) and batch (5)
        ("batch", 200_001, (40, 20, 3)),
        ("priority", 200_000, (1, 2, 6)),
        ("priority", 200_001, (10, 20, 6)),
        ("flex", 200_001, (10, 20, 3)),
    ],
)
def test_every_rate_has_every_meter(tier: str, input_tokens: int, expected: tuple[int, ...]) -> None:
    prices = chosen(one("1", **LONG), input_tokens, **({"service_tier": tier} if tier else {}))

    assert (
        tuple(prices[meter] for meter in ("input_tokens", "output_tokens", "cache_read_tokens")) == expected
    )


def test_rates_that_repeat_others_are_left_out() -> None:
    imported = one(
        input_cost_per_token=Decimal(1),
        input_cost_per_token_above_128k_tokens=Decimal(1),
        input_cost_per_token_priority=Decimal(1),
        input_cost_per_token_flex=Decimal("0.5"),
        input_cost_per_token_above_128k_tokens_flex=Decimal("0.5"),
    )

    assert [(dict(rate.match), dict(rate.above)) for rate in imported.feature.rates] == [
        ({"model": "m"}, {}),
        ({"model": "m", "service_tier": "flex"}, {}),
    ]


def test_ranges_of_context_become_thresholds() -> None:
    tiers = [
        {"range": [0, Decimal("32000.0")], "input_cost_per_token": Decimal(1)},
        {"range": [Decimal("32000.0"), 128_000], "input_cost_per_token": Decimal(2)},
    ]

    imported = one("1", tiered_pricing=tiers, output_cost_per_token=Decimal(9))

    assert imported.unexpressed == ()
    assert chosen(imported, 32_000) == {"input_tokens": 1, "output_tokens": 9}
    assert chosen(imported, 32_001) == {"input_tokens": 2, "output_tokens": 9}


def test_resolutions_and_search_sizes_are_attributes() -> None:
    imported = one(
        "1",
        output_cost_per_second=Decimal(1),
        output_cost_per_second_720p=Decimal(2),
        input_cost_per_token=Decimal(3),
        search_context_cost_per_query={
            "search_context_size_low": Decimal(4),
            "search_context_size_medium": Decimal(5),
            "search_context_size_high": Decimal(6),
        },
    )

    base = {"input_tokens": 3, "output_seconds": 1, "search_queries": 5}
    assert chosen(imported) == base
    assert chosen(imported, resolution="720p") == base | {"output_seconds": 2}
    assert chosen(imported, search_context_size="high") == base | {"search_queries": 6}
    both = chosen(imported, resolution="720p", search_context_size="low")
    assert both == base | {"output_seconds": 2, "search_queries": 4}


def test_fields_of_other_units_are_converted() -> None:
    imported = one(
        "1",
        file_search_cost_per_1k_calls=Decimal("2.5"),
        guardrail_cost_per_unit={"contentPolicyUnits": Decimal("0.7")},
        cache_creation_input_token_cost=Decimal("0.1"),
        cache_creation_input_token_cost_above_1hr=Decimal("0.2"),
        cache_creation_input_token_cost_above_12hr=Decimal("0.3"),
    )

    assert chosen(imported) == {
        "file_search_calls": Fraction("0.0025"),
        "guardrail_content_policy_units": Fraction("0.7"),
        "cache_write_tokens": Fraction("0.1"),
        "cache_write_1h_tokens": Fraction("0.2"),
        "cache_write_12h_tokens": Fraction("0.3"),
    }


def test_two_names_of_one_price_agree_or_the_second_is_listed() -> None:
    agreeing = one(cache_read_input_token_cost=Decimal(1), input_cost_per_token_cache_hit=Decimal(1))
    differing = one(cache_read_input_token_cost=Decimal(1), input_cost_per_token_cache_hit=Decimal(2))

    assert agreeing.unexpressed == ()
    assert [left.field for left in differing.unexpressed] == ["input_cost_per_token_cache_hit"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tiered_pricing", [{"max_results_range": [0, 25], "input_cost_per_query": Decimal("0.005")}]),
        ("tiered_pricing", [{"range": [5, 9], "input_cost_per_token": 1}]),
        ("tiered_pricing", []),
        ("off_peak_pricing", {"hours_utc": "16:00-00:00"}),
        ("regional_endpoint_uplift_multiplier", Decimal("1.1")),
        ("input_dbu_cost_per_token", Decimal("0.00014")),
        ("input_cost_per_video_per_second_above_8s_interval", Decimal("0.001")),
        ("price_of_admission", Decimal(1)),
        ("input_cost_per_token", None),
        ("input_cost_per_token", True),
        ("input_cost_per_token", Decimal("-0.1")),
        ("input_cost_per_token", Decimal("Infinity")),
        ("search_context_cost_per_query", {}),
        ("search_free_requests", {"count": 5000}),
    ],
)
def test_what_no_rate_can_say_is_listed_with_a_reason(field: str, value: Any) -> None:
    imported = one(**{field: value})

    assert imported.unpriced == ("m",)
    assert [(left.model, left.field, left.value) for left in imported.unexpressed] == [("m", field, value)]
    assert imported.unexpressed[0].why


def test_a_model_that_no_attribute_can_name_is_listed() -> None:
    imported = run({"a\nb": {"input_cost_per_token": 1}, "": {"input_cost_per_token": 1}})

    assert [left.model for left in imported.unexpressed] == ["a\nb", ""]
    assert len(imported.feature.rates) == 0


def check_complete(price_map: Mapping[str, Mapping[str, Any]], imported: Imported) -> None:
    """Every cost-like field is used or listed, and every used price is in some rate, exactly."""
    listed = {(left.model, left.field) for left in imported.unexpressed}
    rounded = {noted.model for noted in imported.approximated}
    costs: dict[str, set[Fraction]] = {}
    for rate in imported.feature.rates:
        costs.setdefault(rate.match["model"], set()).update(usd(price) for price in rate.prices)
    for model, entry in price_map.items():
        for field, value in entry.items():
            if model == "sample_spec" or not is_cost_like(field):
                continue
            assert (model, field) in listed | imported.used, f"{field} of {model} is dropped in silence"
            plain = isinstance(value, Decimal | int) and "_per_1k_" not in field
            if plain and (model, field) not in listed and model not in rounded:
                # A price of a tier and size at once may be one that the other rates have already.
                assert Fraction(value) in costs[model], f"{field} of {model} is in no rate"


def test_every_price_of_the_example_is_used_or_listed() -> None:
    price_map = load_price_map(EXAMPLE)
    imported = run(price_map)

    check_complete(price_map, imported)
    assert imported.models == len([name for name in price_map if name != "sample_spec"])
    assert imported.unpriced == ()


@pytest.fixture(scope="module")
def real_map() -> dict[str, dict[str, Any]]:
    folder = Path(os.environ.get("CREDITD_TEST_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "litellm-model-prices.json"
    if not path.is_file():
        pytest.skip("the real price map is not here: point CREDITD_TEST_DATA at its directory")
    return load_price_map(path)


@pytest.mark.real_input
@pytest.mark.parametrize(("value", "markup"), [("0.01", "1"), ("0.03", "1.2")])
def test_the_real_map_is_imported_whole(real_map: dict[str, dict[str, Any]], value: str, markup: str) -> None:
    imported = run(real_map, value, markup)

    check_complete(real_map, imported)
    assert len(imported.approximated) < 100
    request = pb.ApplyCatalogRequest(catalog=pb.Catalog(features=[imported.feature]))
    assert request.ByteSize() < 4 * 1024 * 1024
    request.catalog.credits.add(key="credits")
    catalog = catalog_from_proto(request.catalog)
    assert check_catalog(catalog) == []
    assert catalog.credits == (CreditType("credits"),)
    assert catalog_from_proto(catalog_to_proto(catalog)) == catalog
    assert catalog != Catalog()
