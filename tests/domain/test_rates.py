"""Pricing: which rate applies, what it comes to, and what a sum of credits can afford."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditd.domain.amounts import AMOUNT_MAX, Rounding
from creditd.domain.catalog import Feature, FeatureType, MeterPrice, Money, Rate, Tier
from creditd.domain.errors import FailedPrecondition, OutOfRange
from creditd.domain.rates import RateTable, charge, graduated, units_for


def table(*rates: Rate, meter: str = "in") -> RateTable:
    return RateTable(Feature("chat", FeatureType.CREDIT, credit="c", default_meter=meter, rates=rates))


def flat(micros: int, **match: str) -> Rate:
    return Rate((MeterPrice("in", micros),), match=match)


@pytest.mark.parametrize(
    ("rounding", "quantity", "due"),
    [
        (Rounding.UP, 1, 1),  # 1 * 3 / 1000 -> 0.003, up
        (Rounding.UP, 1000, 3),
        (Rounding.UP, 1001, 4),
        (Rounding.DOWN, 999, 2),
        (Rounding.HALF_UP, 500, 2),  # 1.5
        (Rounding.HALF_UP, 499, 1),  # 1.497
        (Rounding.UNIT_UP, 1, 3),
        (Rounding.UNIT_UP, 1001, 6),
        (Rounding.UP, 0, 0),
    ],
)
def test_a_price_is_rounded_once_as_the_rate_says(rounding, quantity, due):
    assert charge(MeterPrice("in", 3, 1000, rounding), quantity) == due


def test_most_specific_match_wins_then_list_order():
    rates = table(flat(1), flat(2, model="a"), flat(3, model="a", region="eu"), flat(4, region="eu"))

    found = [
        rates.price({"in": 1}, attributes).amount
        for attributes in (
            {},
            {"model": "a"},
            {"region": "eu", "model": "a"},
            {"region": "eu"},
            {"model": "b"},
        )
    ]

    assert found == [1, 2, 3, 4, 1]


def test_long_context_price_applies_above_its_threshold_only():
    prices = (MeterPrice("in", 2),)
    rates = table(
        flat(1, model="a"),
        Rate(prices, match={"model": "a"}, above={"in": 100}),
        Rate((MeterPrice("in", 3),), match={"model": "a"}, above={"in": 200}),
    )

    assert [rates.price({"in": n}, {"model": "a"}).amount for n in (100, 101, 200, 201)] == [
        100,
        202,
        400,
        603,
    ]


def test_meters_add_up_and_the_minimum_holds():
    rate = Rate((MeterPrice("in", 3), MeterPrice("out", 5)), minimum_micros=20)

    assert table(rate).price({"in": 1, "out": 2}, {}).amount == 20
    assert table(rate).price({"in": 10, "out": 2}, {}).amount == 40


def test_unpriced_meter_and_unmatched_attributes_are_no_rate():
    for usage, attributes in (({"words": 1}, {"model": "a"}), ({"in": 1}, {"model": "b"})):
        with pytest.raises(FailedPrecondition) as refused:
            table(flat(1, model="a")).price(usage, attributes)
        assert refused.value.reason == "NO_RATE"


def test_price_beyond_the_exact_range_is_refused():
    with pytest.raises(OutOfRange):
        table(flat(AMOUNT_MAX)).price({"in": 2}, {})


def test_providers_cost_is_exact_to_the_nano():
    rate = Rate(
        (
            MeterPrice("in", 1, 1000, unit_cost=Money("USD", 2_500_000)),
            MeterPrice("out", 1, 3, unit_cost=Money("USD", 10)),
        )
    )

    priced = table(rate).price({"in": 400, "out": 1}, {})

    assert priced.cost == Money("USD", 1_000_003)  # 1_000_000 + 3.33


@given(st.integers(0, 10_000), st.integers(1, 5000), st.sampled_from(list(Rounding)), st.integers(0, 10**12))
def test_affordable_units_fit_and_one_more_does_not(micros, per, rounding, capacity):
    price = MeterPrice("in", micros, per, rounding)
    units = units_for(price, capacity)

    assert charge(price, units) <= capacity or micros == 0
    assert micros == 0 or charge(price, units + 1) > capacity


@given(st.integers(0, 3000))
def test_affordable_respects_thresholds_of_the_meter(capacity):
    rates = table(flat(1), Rate((MeterPrice("in", 2),), above={"in": 100}))
    units = rates.affordable({}, capacity)

    assert rates.price({"in": units}, {}).amount <= capacity
    assert rates.price({"in": units + 1}, {}).amount > capacity


def tiered(sizes: list[int], prices: list[int], per: int = 1, rounding: Rounding = Rounding.UP) -> MeterPrice:
    """A price with tiers of these sizes; the last price is for all the rest."""
    bounds = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    tiers = tuple(Tier(bound, price) for bound, price in zip([*bounds, 0], prices, strict=False))
    return MeterPrice("in", 0, per, rounding, tiers=tiers)


tiers = st.builds(
    tiered,
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
    st.lists(st.integers(0, 1000), min_size=5, max_size=5),
)


@given(tiers, st.lists(st.integers(1, 80), min_size=1, max_size=8), st.integers(0, 100))
def test_graduated_prices_come_to_the_same_in_one_request_as_in_many(price, parts, counted):
    whole, _tier = graduated(price, "k", sum(parts), counted)
    total, at = 0, counted
    for part in parts:
        total += graduated(price, "k", part, at)[0]
        at += part

    assert total == whole


@given(tiers, st.integers(1, 80), st.integers(0, 100))
def test_a_graduated_price_is_that_of_each_unit_at_its_place(price, quantity, counted):
    def of_unit(number: int) -> int:
        return next(tier.credits_micros for tier in price.tiers if number <= tier.up_to or not tier.up_to)

    due = sum(of_unit(number) for number in range(counted + 1, counted + quantity + 1))

    assert graduated(price, "k", quantity, counted)[0] == due


@given(
    tiers,
    st.sampled_from(list(Rounding)[:3]),
    st.integers(1, 7),
    st.integers(1, 80),
    st.integers(0, 100),
)
def test_a_graduated_price_holds_wherever_it_says_that_it_does(price, rounding, per, quantity, counted):
    price = MeterPrice("in", 0, per, rounding, tiers=price.tiers)
    due, place = graduated(price, "k", quantity, counted)

    assert place.low <= counted <= place.high
    for elsewhere in {place.low, (place.low + min(place.high, 500)) // 2, min(place.high, 500)}:
        if place.low <= elsewhere <= place.high:
            assert graduated(price, "k", quantity, elsewhere)[0] == due
