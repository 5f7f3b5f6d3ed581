"""The catalog survives the wire, and what the wire can say wrongly is refused with its path."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value
from hypothesis import given, settings
from hypothesis import strategies as st

from creditd.domain.amounts import AMOUNT_MAX, INT64_MAX, Rounding
from creditd.domain.catalog import (
    AddOn,
    AlertRule,
    Allowance,
    BudgetRule,
    Bundle,
    BurnOrder,
    Catalog,
    CreditType,
    Entitlement,
    Feature,
    FeatureType,
    Limit,
    MeterPrice,
    Money,
    Overage,
    Period,
    Plan,
    Promotion,
    Rate,
    Rollover,
    Tier,
    Trial,
    Unit,
    Window,
)
from creditd.domain.errors import InvalidArgument
from creditd.rpc.codec_catalog import catalog_from_proto, catalog_to_proto, read, read_entitlement
from creditd.rpc.codec_values import Faults, json_to_proto, money_to_proto, read_json, read_money
from creditd.v1 import catalog_pb2 as pb

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
AMOUNT = st.integers(-AMOUNT_MAX, AMOUNT_MAX)
INT32 = st.integers(-(2**31), 2**31 - 1)
COUNT = st.integers(1, 2**31 - 1)
MONEY = st.builds(Money, TEXT, st.integers(-(10**18), 10**18))
PERIOD = st.builds(Period, st.sampled_from(Unit), COUNT)
MAYBE_PERIOD = st.none() | PERIOD
MAYBE_MONEY = st.none() | MONEY
JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: (
        st.lists(st.none() | inner, max_size=3) | st.dictionaries(TEXT, st.none() | inner, max_size=3)
    ),
    max_leaves=6,
)


def several(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=2).map(tuple)


ALLOWANCE = st.builds(
    Allowance,
    TEXT,
    AMOUNT,
    MAYBE_PERIOD,
    st.none() | st.builds(Rollover, AMOUNT, INT32, INT32),
    st.booleans(),
    INT32,
    MAYBE_PERIOD,
)
LIMIT = st.builds(
    Limit, AMOUNT, MAYBE_PERIOD, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(Window), TEXT
)
ENTITLEMENT = st.one_of(
    st.builds(Entitlement, TEXT, enabled=st.booleans()),
    st.builds(Entitlement, TEXT, value=JSON),
    st.builds(Entitlement, TEXT, limit=LIMIT),
)
PRICE = st.builds(
    MeterPrice,
    TEXT,
    AMOUNT,
    st.integers(1, INT64_MAX),
    st.sampled_from(Rounding),
    MAYBE_MONEY,
    several(st.builds(Tier, AMOUNT, AMOUNT)),
)
RATE = st.builds(
    Rate,
    several(PRICE),
    st.dictionaries(TEXT, TEXT, max_size=2),
    AMOUNT,
    st.dictionaries(TEXT, AMOUNT, max_size=2),
)
FEATURE = st.builds(
    Feature,
    TEXT,
    st.sampled_from(FeatureType),
    TEXT,
    TEXT,
    TEXT,
    several(RATE),
    st.booleans(),
    st.none() | JSON,
)
BUDGET = st.builds(
    BudgetRule,
    TEXT,
    AMOUNT,
    MAYBE_PERIOD,
    st.text("abc:", min_size=1, max_size=5),
    st.booleans(),
    AMOUNT,
    st.sampled_from(Window),
    TEXT,
    several(TEXT),
)
PLAN = st.builds(
    Plan,
    TEXT,
    TEXT,
    several(ALLOWANCE),
    several(ENTITLEMENT),
    several(st.builds(Overage, TEXT, st.booleans(), AMOUNT, MAYBE_MONEY, st.booleans(), AMOUNT)),
    st.none() | st.builds(Trial, PERIOD, several(ALLOWANCE), st.booleans()),
    INT32,
    TEXT,
    st.integers(0, INT64_MAX),
    several(BUDGET),
)
INSTANT = st.none() | st.integers(-62_135_596_800_000, 253_402_300_799_999)
CATALOG = st.builds(
    Catalog,
    several(st.builds(CreditType, TEXT, TEXT, st.sampled_from(BurnOrder), MAYBE_MONEY)),
    several(FEATURE),
    several(PLAN),
    several(st.builds(AddOn, TEXT, TEXT, several(ALLOWANCE), several(ENTITLEMENT), TEXT)),
    several(st.builds(Bundle, TEXT, TEXT, AMOUNT, TEXT, MAYBE_MONEY, MAYBE_PERIOD, TEXT)),
    several(
        st.builds(
            Promotion, TEXT, TEXT, AMOUNT, MAYBE_PERIOD, st.booleans(), TEXT, AMOUNT, INT32, INSTANT, INSTANT
        )
    ),
    several(st.builds(AlertRule, TEXT, TEXT, INT32, AMOUNT, TEXT, INT32)),
)


@settings(max_examples=150)
@given(CATALOG)
def test_a_catalog_is_the_same_after_the_wire(catalog: Catalog) -> None:
    sent = catalog_to_proto(catalog)
    received = pb.Catalog.FromString(sent.SerializeToString())

    assert catalog_from_proto(received) == catalog


@given(st.none() | JSON)
def test_json_keeps_its_types(value: Any) -> None:
    faults = Faults()
    back = read_json(json_to_proto(value), "", faults)

    assert faults.violations == []
    assert _typed(back) == _typed(value)


def _typed(value: Any) -> Any:
    """The value with booleans told from numbers; 1.0 and 1 are one JSON number."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_typed(item) for item in value]
    return (isinstance(value, bool), value)


@pytest.mark.parametrize(
    ("nanos", "units", "rest"),
    [(1_500_000_000, 1, 500_000_000), (-1_500_000_000, -1, -500_000_000), (-5, 0, -5), (0, 0, 0)],
)
def test_money_has_units_and_nanos_of_one_sign(nanos: int, units: int, rest: int) -> None:
    message = money_to_proto(Money("USD", nanos))

    assert (message.units, message.nanos) == (units, rest)
    assert read_money(message, "", Faults()) == Money("USD", nanos)


def test_defaults_stand_for_what_is_not_given() -> None:
    message = pb.Catalog(
        credits=[pb.CreditType(key="c")],
        features=[
            pb.Feature(
                key="f", type=pb.FEATURE_TYPE_CREDIT, rates=[pb.Rate(prices=[pb.MeterPrice(meter="m")])]
            )
        ],
        plans=[
            pb.Plan(
                key="p",
                allowances=[pb.Allowance(every=pb.Period(unit=pb.Period.UNIT_DAY))],
                budgets=[pb.BudgetRule()],
            )
        ],
    )

    catalog = catalog_from_proto(message)

    assert catalog.credits[0].burn_order is BurnOrder.SOONEST_EXPIRY_FIRST
    assert catalog.features[0].rates[0].prices[0] == MeterPrice("m", 0, per=1, rounding=Rounding.UP)
    assert catalog.plans[0].allowances[0].every == Period(Unit.DAY, 1)
    assert catalog.plans[0].budgets[0] == BudgetRule("", scope="account", window=Window.ANCHORED)


def test_every_fault_of_form_is_named_with_its_path() -> None:
    message = pb.Catalog(
        credits=[pb.CreditType(burn_order=99)],  # type: ignore[arg-type]
        features=[
            pb.Feature(),
            pb.Feature(
                type=77,  # type: ignore[arg-type]
                default_value=Value(number_value=float("nan")),
                rates=[pb.Rate(prices=[pb.MeterPrice(rounding=9)])],  # type: ignore[arg-type]
            ),
        ],
        plans=[
            pb.Plan(
                entitlements=[
                    pb.Entitlement(feature="x"),
                    pb.Entitlement(value=Value(null_value=0)),  # type: ignore[arg-type]
                    pb.Entitlement(value=Value()),
                ],
                trial=pb.Trial(),
            )
        ],
    )
    message.credits[0].value.units = 1
    message.credits[0].value.nanos = -1

    with pytest.raises(InvalidArgument) as caught:
        catalog_from_proto(message, "catalog")

    assert [(violation.field, violation.problem.split(";")[0]) for violation in caught.value.violations] == [
        ("catalog.credits[0].burn_order", "has the unknown value 99"),
        ("catalog.credits[0].value.nanos", "is -1"),
        ("catalog.features[0].type", "is not set"),
        ("catalog.features[1].type", "has the unknown value 77"),
        ("catalog.features[1].rates[0].prices[0].rounding", "has the unknown value 9"),
        ("catalog.features[1].default_value", "is nan"),
        ("catalog.plans[0].entitlements[0]", "grants nothing"),
        ("catalog.plans[0].entitlements[1].value", "is null"),
        ("catalog.plans[0].entitlements[2].value", "holds no value"),
        ("catalog.plans[0].trial.length.unit", "is not set"),
    ]
    assert "FEATURE_TYPE_CREDIT" in caught.value.violations[2].problem


def test_a_part_can_be_read_on_its_own() -> None:
    assert read(read_entitlement, pb.Entitlement(feature="x", enabled=False), "e") == Entitlement(
        "x", enabled=False
    )
    with pytest.raises(InvalidArgument, match=r"^override\.entitlement: grants nothing"):
        read(read_entitlement, pb.Entitlement(), "override.entitlement")
