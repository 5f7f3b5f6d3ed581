"""Pricing: which rate applies, what it comes to, and what a sum of credits can afford."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditd.domain.amounts import AMOUNT_MAX, Rounding
from creditd.domain.catalog import Feature, FeatureType, MeterPrice, Money, Rate
from creditd.domain.errors import FailedPrecondition, OutOfRange
from creditd.domain.rates import RateTable, charge, units_for


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
