"""Importing price maps: exact amounts, which rate applies, and that nothing is dropped in silence."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from creditd.cli import import_prices as importer
from creditd.cli.import_prices import Imported, import_prices, load_price_map
from creditd.cli.price_fields import METERS, SERVICE_TIERS
from creditd.domain.catalog import Catalog, CreditType, MeterPrice, Rate
from creditd.domain.catalog_check import check_catalog
from creditd.rpc.codec_catalog_write import catalog_to_proto
from creditd.v1 import catalog_pb2 as pb

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COST_LIKE = re.compile("cost|price|pricing|uplift")
CENT = Fraction(1, 100)


def run(price_map: Mapping[str, Any], value: Fraction = CENT, markup: Fraction = Fraction(1)) -> Imported:
    return import_prices(price_map, credit="ai", feature="llm", credit_value=value, markup=markup)


def one(value: Fraction = CENT, markup: Fraction = Fraction(1), **fields: Any) -> Imported:
    """Imports a map with one model, m."""
    return run({"m": fields}, value, markup)


def choose(imported: Imported, model: str, tier: str = "", input_tokens: int = 0) -> Rate | None:
    """The rate of a request, by the contract: most specific match, then highest `above`, then order."""
    attributes = {"model": model} | ({"service_tier": tier} if tier else {})
    candidates = [
        (-len(rate.match), -rate.above.get("input_tokens", 0), index)
        for index, rate in enumerate(imported.feature.rates)
        if rate.match.items() <= attributes.items()
        and all({"input_tokens": input_tokens}[meter] > least for meter, least in rate.above.items())
    ]
    return imported.feature.rates[min(candidates)[2]] if candidates else None


def priced(
    imported: Imported, tier: str = "", input_tokens: int = 0, model: str = "m"
) -> dict[str, MeterPrice]:
    rate = choose(imported, model, tier, input_tokens)
    return {price.meter: price for price in rate.prices} if rate else {}


def costs(imported: Imported, tier: str = "", input_tokens: int = 0, model: str = "m") -> dict[str, Fraction]:
    """USD per unit of each meter, by the unit cost of the rate that applies."""
    found = priced(imported, tier, input_tokens, model)
    assert all(price.unit_cost and price.unit_cost.currency == "USD" for price in found.values())
    return {meter: Fraction(price.unit_cost.nanos, price.per * 10**9) for meter, price in found.items()}


# ---------------------------------------------------------------- amounts


@pytest.mark.parametrize(
    ("usd", "value", "markup", "credits_micros", "per", "nanos"),
    [
        # 3 USD a million tokens: 300 micro-credits of a cent each, and 3,000 nanos, a token
        ("0.000003", "0.01", "1", 300, 1, 3_000),
        # 0.028 USD a million at 1.5 times: 4.2 micros a token
        ("2.8E-8", "0.01", "1.5", 42, 10, 280),
        # whole micros, but 0.25 nanos a token
        ("2.5E-10", "0.000001", "1", 25_000, 100, 25),
        # zero is a price
        ("0.0", "0.01", "1", 0, 1, 0),
        # a third is never whole in tens: 1/0.03 micros are 100/3
        ("0.000001", "0.03", "1", 100, 3, 3_000),
        ("0.0000015", "0.03", "1", 50, 1, 1_500),
        ("0.05", "0.01", "1", 5_000_000, 1, 50_000_000),
        # a free tier sold at nothing still costs the provider's price
        ("0.000003", "0.01", "0", 0, 1, 3_000),
    ],
)
def test_a_price_becomes_whole_credits_for_whole_units(
    usd: str, value: str, markup: str, credits_micros: int, per: int, nanos: int
) -> None:
    imported = one(Fraction(value), Fraction(markup), input_cost_per_token=Decimal(usd))
    price = priced(imported)["input_tokens"]
    assert (price.credits_micros, price.per) == (credits_micros, per)
    assert price.unit_cost is not None
    assert (price.unit_cost.currency, price.unit_cost.nanos) == ("USD", nanos)
    assert imported.approximated == ()


def test_a_price_with_too_many_digits_is_rounded_up_and_listed() -> None:
    literal = Decimal("0.000015000020000000002")
    imported = one(input_cost_per_token=literal)
    price = priced(imported)["input_tokens"]
    exact = Fraction(15000020000000002, 10**21) * 100 * 10**6 * price.per
    assert price.credits_micros == math.ceil(exact) > exact
    assert (price.credits_micros - exact) / exact < Fraction(1, 10**14)
    [noted] = imported.approximated
    assert (noted.model, noted.field, noted.value) == ("m", "input_cost_per_token", literal)
    assert "credits_micros rounded up" in noted.why


def test_credits_stay_exact_where_only_the_cost_has_to_be_rounded() -> None:
    # 1e-24 USD at a micro-credit a 1e-24th: one micro a unit, while a nano takes 1e15 of them
    imported = one(Fraction(1, 10**18), Fraction(1), input_cost_per_token=Decimal("1.5E-17"))
    price = priced(imported)["input_tokens"]
    assert Fraction(price.credits_micros, price.per) == 15 * 10**6
    assert imported.approximated[0].why.startswith("unit_cost rounded up")


def test_a_price_beyond_the_range_of_amounts_is_listed() -> None:
    imported = one(Fraction(1, 10**12), output_cost_per_image=Decimal("0.05"))
    assert imported.feature.rates == ()
    assert imported.unexpressed[0].why == "is more credits for one unit than an amount can be"


def test_floats_count_as_the_decimal_they_are_written_as() -> None:
    assert costs(one(input_cost_per_token=1e-07)) == {"input_tokens": Fraction(1, 10**7)}


@pytest.mark.parametrize(("value", "markup"), [(0, 1), (-1, 1), (1, -1)])
def test_credits_need_a_value_and_no_negative_markup(value: int, markup: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        one(Fraction(value), Fraction(markup))


# ---------------------------------------------------------------- which field prices which meter


def test_every_kind_of_field_has_a_meter_of_its_own_that_the_docs_name() -> None:
    assert len(set(METERS.values())) == len(METERS)
    # `input|output_tokens` in the table stands for both
    words = set(re.findall(r"[a-z_0-9|]+", importer.__doc__ or ""))
    named = set(words)
    for word in words:
        stem = re.fullmatch(r"(\w*?_)?(\w+)\|(\w+?)(_\w+)?", word)
        if stem:
            for middle in (stem[2], stem[3]):
                named.add(f"{middle}{stem[4] or ''}")
                named.add(f"{stem[1] or ''}{middle}{stem[4] or ''}")
        if "|" in word:  # cache_read_audio|image_tokens
            head, tail = word.split("|")
            prefix, suffix = head.rpartition("_")[0], tail.partition("_")[2]
            named |= {f"{head}_{suffix}", f"{prefix}_{tail}"}
    assert set(METERS.values()) - named == set()


def test_meters_that_have_their_own_ways_of_being_named() -> None:
    imported = one(
        cache_creation_input_token_cost=Decimal("0.1"),
        cache_creation_input_token_cost_above_1hr=Decimal("0.2"),
        cache_creation_input_token_cost_above_12hr=Decimal("0.3"),
        search_context_cost_per_query={
            "search_context_size_low": Decimal("0.4"),
            "search_context_size_medium": Decimal("0.5"),
            "search_context_size_high": Decimal("0.6"),
        },
        guardrail_cost_per_unit={"contentPolicyUnits": Decimal("0.7")},
        output_cost_per_second_720p=Decimal("0.8"),
        **{"output_cost_per_image_0.5K": Decimal("0.9")},
        file_search_cost_per_1k_calls=Decimal("2.5"),
    )
    assert imported.unexpressed == ()
    assert costs(imported) == {
        "cache_write_tokens": Fraction("0.1"),
        "cache_write_1h_tokens": Fraction("0.2"),
        "cache_write_12h_tokens": Fraction("0.3"),
        "queries_low": Fraction("0.4"),
        "queries_medium": Fraction("0.5"),
        "queries_high": Fraction("0.6"),
        "content_policy_units": Fraction("0.7"),
        "output_seconds_720p": Fraction("0.8"),
        "output_images_0.5k": Fraction("0.9"),
        "file_search_calls": Fraction("0.0025"),
    }


def test_two_names_of_one_price_agree_or_the_second_is_listed() -> None:
    same, other = Decimal("1E-7"), Decimal("2E-7")
    agreeing = one(input_cost_per_token_cache_hit=same, cache_read_input_token_cost=same)
    differing = one(input_cost_per_token_cache_hit=other, cache_read_input_token_cost=same)
    alone = one(input_cost_per_token_cache_hit=other)
    assert agreeing.unexpressed == ()
    assert costs(agreeing) == costs(differing) == {"cache_read_tokens": Fraction(same)}
    assert [left.field for left in differing.unexpressed] == ["input_cost_per_token_cache_hit"]
    assert costs(alone) == {"cache_read_tokens": Fraction(other)}


# ---------------------------------------------------------------- tiers and lengths

LAYERED = {
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
        # the standard long-context price of output, rather than the tier's short one
        ("batch", 200_001, (40, 20, 3)),
        ("priority", 1, (1, 2, 6)),
        ("priority", 200_001, (10, 20, 6)),
        # a tier that the model doesn't price costs the standard price
        ("flex", 200_001, (10, 20, 3)),
    ],
)
def test_the_rate_of_a_tier_and_length_has_all_meters(
    tier: str, input_tokens: int, expected: tuple[int, int, int]
) -> None:
    found = costs(one(**LAYERED), tier, input_tokens)
    assert (found["input_tokens"], found["output_tokens"], found["cache_read_tokens"]) == expected


def test_rates_that_only_repeat_others_are_left_out() -> None:
    imported = one(
        input_cost_per_token=Decimal(1),
        input_cost_per_token_above_128k_tokens=Decimal(1),
        input_cost_per_token_priority=Decimal(1),
        input_cost_per_token_flex=Decimal("0.5"),
        input_cost_per_token_above_128k_tokens_flex=Decimal("0.5"),
    )
    assert [(rate.match, rate.above) for rate in imported.feature.rates] == [
        ({"model": "m"}, {}),
        ({"model": "m", "service_tier": "flex"}, {}),
    ]


def test_a_model_may_have_prices_of_one_tier_only() -> None:
    imported = one(input_cost_per_token_priority=Decimal(1))
    assert [rate.match for rate in imported.feature.rates] == [{"model": "m", "service_tier": "priority"}]
    assert imported.models == 1


def test_tiers_by_input_tokens_are_rates_by_length() -> None:
    tiers = [
        {"range": [0, Decimal("32e3")], "input_cost_per_token": 1, "cache_read_input_token_cost": 3},
        {"range": [Decimal("32e3"), 64000], "input_cost_per_token": 2, "output_cost_per_token": 5},
    ]
    imported = one(tiered_pricing=tiers, input_cost_per_token=1, output_cost_per_token=4)
    assert imported.unexpressed == ()
    assert costs(imported, "", 32_000) == {"input_tokens": 1, "output_tokens": 4, "cache_read_tokens": 3}
    assert costs(imported, "", 32_001) == {"input_tokens": 2, "output_tokens": 5, "cache_read_tokens": 3}


def test_a_flat_price_that_contradicts_the_table_of_tiers_is_listed() -> None:
    tiers = [{"range": [0, 100], "input_cost_per_token": 1, "input_cost_per_token_flex": 9}]
    imported = one(input_cost_per_token=7, tiered_pricing=tiers)
    assert costs(imported) == {"input_tokens": 1}
    left = {noted.field for noted in imported.unexpressed}
    assert left == {"input_cost_per_token", "tiered_pricing[0].input_cost_per_token_flex"}


# ---------------------------------------------------------------- what can't be expressed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tiered_pricing", [{"max_results_range": [0, 25], "input_cost_per_query": Decimal("0.005")}]),
        ("tiered_pricing", [{"range": [5, 9], "input_cost_per_token": 1}]),
        ("tiered_pricing", [{"range": [0, 9]}, {"range": [10, 12]}]),
        ("tiered_pricing", [{"range": [0, Decimal("1.5")]}]),
        ("tiered_pricing", []),
        ("tiered_pricing", {}),
        ("off_peak_pricing", {"hours_utc": "16:00-00:00"}),
        ("regional_endpoint_uplift_multiplier", Decimal("1.1")),
        ("input_dbu_cost_per_token", Decimal("0.00014")),
        ("input_cost_per_video_per_second_above_8s_interval", Decimal("0.001")),
        ("price_of_admission", Decimal(1)),
        ("input_cost_per_token", None),
        ("input_cost_per_token", "0.1"),
        ("input_cost_per_token", True),
        ("input_cost_per_token", Decimal("-0.1")),
        ("input_cost_per_token", float("nan")),
        ("input_cost_per_token", Decimal("Infinity")),
        ("search_context_cost_per_query", {}),
        ("search_context_cost_per_query", Decimal("0.1")),
        ("search_free_requests", {"count": 5000}),
    ],
)
def test_what_no_rate_can_say_is_listed_with_a_reason(field: str, value: Any) -> None:
    imported = one(**{field: value})
    assert imported.feature.rates == ()
    assert imported.unpriced == ("m",)
    assert imported.models == 0
    [left] = imported.unexpressed
    assert (left.model, left.field) == ("m", field)
    assert left.value is value
    assert left.why


def test_parts_of_objects_are_listed_by_their_path() -> None:
    imported = one(
        search_context_cost_per_query={"search_context_size_low": "free", "elsewhere": 1},
        provider_specific_entry={"fast": Decimal(2), "schema": "v2"},
        mode="chat",
        supports_vision=True,
    )
    assert [left.field for left in imported.unexpressed] == [
        "search_context_cost_per_query.search_context_size_low",
        "search_context_cost_per_query.elsewhere",
        "provider_specific_entry.fast",
    ]


def test_a_model_that_no_attribute_could_name_is_listed() -> None:
    imported = run({"a\nb": {"input_cost_per_token": 1}, "": {"input_cost_per_token": 1}})
    assert imported.feature.rates == ()
    assert [left.model for left in imported.unexpressed] == ["a\nb", ""]


def test_the_entry_that_describes_the_others_is_no_model() -> None:
    imported = run({"sample_spec": {"input_cost_per_token": 1}, "m": {"input_cost_per_token": 1}})
    assert imported.models == 1
    assert [rate.match for rate in imported.feature.rates] == [{"model": "m"}]


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "is a list; expected an object of models"),
        ('{"m": 1}', "'m' is 1; expected an object of prices"),
        ('{"m": {}, "m": {}}', "'m' is given twice"),
        ('{"m": {"input_cost_per_token": NaN}}', "NaN is no JSON number"),
        ("{", "Expecting"),
    ],
)
def test_a_file_that_is_no_price_map_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        load_price_map(path)


def test_numbers_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"m": {"input_cost_per_token": 1.0000000000000000000001e-07}}')
    assert load_price_map(path)["m"]["input_cost_per_token"] == Decimal("1.0000000000000000000001e-07")


# ---------------------------------------------------------------- whole maps


def check_complete(price_map: Mapping[str, Mapping[str, Any]], value: Fraction, markup: Fraction) -> Imported:
    """Each cost-like field is the cost of some meter of the rate that applies to it, or it is listed."""
    imported = run(price_map, value, markup)
    listed = {(left.model, left.field) for left in imported.unexpressed}
    rounded = {(noted.model, noted.field) for noted in imported.approximated}
    tiers = "|".join(SERVICE_TIERS)
    by_model: dict[str, list[Rate]] = {}
    for rate in imported.feature.rates:
        by_model.setdefault(rate.match["model"], []).append(rate)
    for model, entry in price_map.items():
        if model == "sample_spec":
            continue
        own = Imported(
            type(imported.feature)("f", imported.feature.type, rates=tuple(by_model.get(model, ()))),
            (),
            (),
            0,
            (),
        )
        for field, usd, tier, length in leaves(entry, tiers):
            if {(model, field), (model, field.partition("[")[0])} & listed:
                continue
            found = priced(own, tier, length, model)
            per_unit = Fraction(usd)
            exact = [
                price
                for price in found.values()
                if price.unit_cost
                and Fraction(price.unit_cost.nanos, price.per) == per_unit * 10**9
                and Fraction(price.credits_micros, price.per) == per_unit / value * markup * 10**6
            ]
            near = [
                price
                for price in found.values()
                if 0
                <= Fraction(price.credits_micros, price.per) * value / markup / 10**6 - per_unit
                < per_unit / 10**9
            ]
            assert near if (model, field) in rounded else exact, (model, field)
    return imported


def leaves(entry: Mapping[str, Any], tiers: str) -> list[tuple[str, Decimal, str, int]]:
    """Path, USD per unit, service tier and number of input tokens of every cost-like number of a model."""
    found: list[tuple[str, Decimal, str, int]] = []
    for field, value in entry.items():
        if not COST_LIKE.search(field):
            continue
        tier = re.search(rf"_({tiers})$", field)
        above = re.search(r"_above_(\d+)k_tokens", field)
        length = int(above[1]) * 1000 + 1 if above else 0
        if isinstance(value, dict) and field != "off_peak_pricing":
            found.extend((f"{field}.{key}", price, "", 0) for key, price in value.items())
        elif isinstance(value, list):
            for index, part in enumerate(value):
                start = int(part.get("range", [0])[0])
                found.extend(
                    (f"{field}[{index}].{key}", price, "", start and start + 1)
                    for key, price in part.items()
                    if COST_LIKE.search(key)
                )
        else:
            number = value if isinstance(value, Decimal | int) else Decimal(0)
            found.append((field, number, SERVICE_TIERS[tier[1]] if tier else "", length))
    return found


def check_sensitive(price_map: Mapping[str, Mapping[str, Any]]) -> None:
    """No field is read without effect: another number gives another result, for each field's first model."""
    seen: set[str] = set()
    for model, entry in price_map.items():
        for field, value in entry.items():
            if model == "sample_spec" or field in seen or not COST_LIKE.search(field):
                continue
            seen.add(field)
            changed = json.loads(json.dumps(value, default=str), parse_float=Decimal)
            if isinstance(value, Decimal | int):
                changed = value * 2 + 1
            elif isinstance(changed, dict):
                changed = {key: 17 for key in changed}
            else:
                changed = [{key: 17 if "cost" in key else part for key, part in changed[0].items()}]
            before, after = run({model: entry}), run({model: {**entry, field: changed}})
            assert before != after, (model, field)


def test_every_price_of_the_example_is_used_or_listed() -> None:
    price_map = load_price_map(EXAMPLES / "model-prices.json")
    check_sensitive(price_map)
    imported = check_complete(price_map, CENT, Fraction("1.2"))
    assert imported.models == len(price_map) - 1
    assert imported.unpriced == imported.approximated == ()
    assert {left.field for left in imported.unexpressed} == {
        "regional_processing_uplift_multiplier_eu",
        "off_peak_pricing",
    }
    # 4 USD a million input tokens, 8 beyond 200,000; sold at 1.2 times, in credits of a cent
    assert priced(imported, model="atlas-large")["input_tokens"].credits_micros == 480
    assert priced(imported, "batch", 200_001, "atlas-large")["input_tokens"].credits_micros == 480
    assert priced(imported, "", 200_001, "atlas-large")["input_tokens"].credits_micros == 960
    assert check_catalog(Catalog(credits=(CreditType("ai"),), features=(imported.feature,))) == []


def test_the_example_trace_has_a_hundred_requests() -> None:
    header, *rows = (EXAMPLES / "trace.csv").read_text().splitlines()
    assert header == "TIMESTAMP,ContextTokens,GeneratedTokens"
    assert len(rows) == 100
    row = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{7},[1-9]\d*,[1-9]\d*")
    assert all(row.fullmatch(line) for line in rows)
    assert rows == sorted(rows)


@pytest.fixture(scope="module")
def real_map() -> dict[str, dict[str, Any]]:
    folder = Path(os.environ.get("CREDITD_TEST_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "litellm-model-prices.json"
    if not path.exists():
        pytest.skip("the real price map is not here; set CREDITD_TEST_DATA to its folder")
    return load_price_map(path)


@pytest.mark.real_input
@pytest.mark.parametrize(("value", "markup"), [("0.01", "1.2"), ("0.03", "1")])
def test_every_price_of_the_real_map_is_used_or_listed(
    real_map: dict[str, dict[str, Any]], value: str, markup: str
) -> None:
    imported = check_complete(real_map, Fraction(value), Fraction(markup))
    assert imported.models + len(imported.unpriced) == len(real_map) - ("sample_spec" in real_map)
    # a few literals are longer than any amount; nearly all prices are exact
    assert len(imported.approximated) < 100


@pytest.mark.real_input
def test_no_field_of_the_real_map_is_without_effect(real_map: dict[str, dict[str, Any]]) -> None:
    check_sensitive(real_map)


@pytest.mark.real_input
def test_the_real_map_is_a_catalog_that_fits_one_message(real_map: dict[str, dict[str, Any]]) -> None:
    imported = run(real_map, CENT, Fraction("1.2"))
    catalog = Catalog(credits=(CreditType("ai"),), features=(imported.feature,))
    assert check_catalog(catalog) == []
    assert pb.ApplyCatalogRequest(catalog=catalog_to_proto(catalog)).ByteSize() < 4 * 1024 * 1024
