"""Catalog files: what they mean, that they come back, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from hypothesis import given, settings
from hypothesis import strategies as st

from creditd.cli.catalog_dump import dump_catalog
from creditd.cli.catalog_file import load_catalog, parse_catalog
from creditd.cli.document import DocumentError, Place
from creditd.domain.catalog_check import check_catalog, unsupported
from creditd.rpc.codec_catalog import catalog_from_proto
from creditd.v1 import catalog_pb2 as pb

EXAMPLE = Path(__file__).parents[2] / "examples" / "catalog.yaml"
BAD = sorted(
    path for path in (Path(__file__).parent / "bad_catalogs").iterdir() if path.suffix != ".expected"
)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_mistake_is_explained_where_it_is(path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_catalog(path.read_text(encoding="utf-8"), path.name)

    expected = path.with_name(f"{path.name}.expected").read_text(encoding="utf-8")
    assert "".join(f"{line}\n" for line in caught.value.lines()) == expected


def test_the_example_can_be_applied() -> None:
    catalog = catalog_from_proto(load_catalog(EXAMPLE).message)

    assert check_catalog(catalog) == []
    assert unsupported(catalog) == []
    assert [plan.key for plan in catalog.plans] == ["free", "pro"]
    assert catalog.features[0].rates[0].prices[0].credits_micros == 250_000


FULL = """
credits:
  - {key: credits, burn_order: plan_first, value: 0.01 USD}
features:
  - key: chat
    type: credit
    credit: credits
    rates:
      - match: {model: gpt-4o, tier: "1"}
        above: {input_tokens: 200_000}
        minimum: 0.01
        prices:
          - meter: input_tokens
            credits: 0.25
            per: 1000
            rounding: half_up
            unit_cost: 0.0000025 USD
            tiers: [{up_to: 10, credits: 1}, {up_to: 0, credits: 0.000001}]
  - {key: window, type: config, default_value: {tokens: [8192, 0.5, "8192", null, true]}}
plans:
  - key: pro
    rank: -2
    version: 3
    allowances:
      - credit: credits
        amount: 500
        every: {unit: month, count: 3}
        rollover: {max: 100, max_percent: 50, max_periods: 1}
        expires_after: 2 weeks
    overages: [{credit: credits, allowed: true, cap: 100, floor: 0.5, price_per_credit: 0.02 EUR}]
    entitlements:
      - {feature: sso, enabled: false}
      - {feature: nothing, value: null}
      - {feature: calls, limit: {max: 5, per: day, window: first_use}}
    budgets: [{credit: credits, cap: 10, max_per_draw: 1, per: hour, scope: account, features: [chat]}]
promotions:
  - {key: welcome, amount: 1, starts_at: "2026-01-31T12:00:00+02:00"}
"""


def test_every_kind_of_field_has_its_form() -> None:
    message = parse_catalog(FULL, "full.yaml").message

    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == {
        "credits": [
            {
                "key": "credits",
                "burn_order": "BURN_ORDER_PLAN_FIRST",
                "value": {"currency_code": "USD", "nanos": 10_000_000},
            }
        ],
        "features": [
            {
                "key": "chat",
                "type": "FEATURE_TYPE_CREDIT",
                "credit": "credits",
                "rates": [
                    {
                        "match": {"model": "gpt-4o", "tier": "1"},
                        "above": {"input_tokens": "200000"},
                        "minimum_micros": "10000",
                        "prices": [
                            {
                                "meter": "input_tokens",
                                "credits_micros": "250000",
                                "per": "1000",
                                "rounding": "ROUNDING_HALF_UP",
                                "unit_cost": {"currency_code": "USD", "nanos": 2500},
                                "tiers": [
                                    {"up_to": "10", "credits_micros": "1000000"},
                                    {"credits_micros": "1"},
                                ],
                            }
                        ],
                    }
                ],
            },
            {
                "key": "window",
                "type": "FEATURE_TYPE_CONFIG",
                "default_value": {"tokens": [8192, 0.5, "8192", None, True]},
            },
        ],
        "plans": [
            {
                "key": "pro",
                "rank": -2,
                "version": "3",
                "allowances": [
                    {
                        "credit": "credits",
                        "amount_micros": "500000000",
                        "every": {"unit": "UNIT_MONTH", "count": 3},
                        "rollover": {"max_micros": "100000000", "max_percent": 50, "max_periods": 1},
                        "expires_after": {"unit": "UNIT_WEEK", "count": 2},
                    }
                ],
                "overages": [
                    {
                        "credit": "credits",
                        "allowed": True,
                        "cap_micros": "100000000",
                        "floor_micros": "500000",
                        "price_per_credit": {"currency_code": "EUR", "nanos": 20_000_000},
                    }
                ],
                "entitlements": [
                    {"feature": "sso", "enabled": False},
                    {"feature": "nothing", "value": None},
                    {
                        "feature": "calls",
                        "limit": {
                            "max": "5",
                            "per": {"unit": "UNIT_DAY", "count": 1},
                            "window": "WINDOW_FIRST_USE",
                        },
                    },
                ],
                "budgets": [
                    {
                        "credit": "credits",
                        "cap_micros": "10000000",
                        "max_per_draw_micros": "1000000",
                        "per": {"unit": "UNIT_HOUR", "count": 1},
                        "scope": "account",
                        "features": ["chat"],
                    }
                ],
            }
        ],
        "promotions": [{"key": "welcome", "amount_micros": "1000000", "starts_at": "2026-01-31T10:00:00Z"}],
    }


def test_a_decimal_is_never_a_float() -> None:
    text = "plans: [{key: p, allowances: [{credit: c, amount: 9000000000.000001}]}]"

    assert parse_catalog(text, "x.yaml").message.plans[0].allowances[0].amount_micros == 9_000_000_000_000_001


def test_anchors_are_followed() -> None:
    text = (
        "plans:\n  - {key: a, allowances: &both [{credit: c, amount: 1}]}\n  - {key: b, allowances: *both}\n"
    )

    plans = parse_catalog(text, "x.yaml").message.plans

    assert plans[0].allowances == plans[1].allowances


def test_an_empty_file_is_an_empty_catalog() -> None:
    assert parse_catalog("# nothing yet\n", "x.yaml").message == pb.Catalog()


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("credits: [{key: é}]".encode("latin-1"))

    with pytest.raises(DocumentError, match="is not UTF-8"):
        load_catalog(path)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("catalog.features[0].rates[0].prices[0].credits_micros", Place(14, 13)),
        ("features[0].rates[0].prices[0].unit_cost.currency_code", Place(17, 13)),
        ("catalog.features[0].rates[0].match", Place(9, 9)),
        ("catalog.plans[0].allowances[0].rollover.max_micros", Place(28, 20)),
        # not in the file: the nearest thing around it
        ("catalog.plans[0].trial", Place(21, 5)),
        ("catalog.plans[7]", Place(20, 1)),
        ("effective_at", None),
    ],
)
def test_a_field_of_the_message_is_found_in_the_file(path: str, place: Place | None) -> None:

    assert parse_catalog(FULL, "full.yaml").locate(path) == place


# ---------------------------------------------------------------- there and back

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    [
        "yes",
        "NULL",
        "~",
        "1e5",
        "0x1f",
        "a: b",
        "- a",
        "#a",
        "a #b",
        "'",
        '"',
        "",
        " a ",
        "\u2028",
        "\x85",
        "é",
        "😀",
    ]
)
MICROS = st.integers(-(2**63), 2**63 - 1)
PERIOD = st.builds(pb.Period, unit=st.sampled_from([0, *range(1, 7)]), count=st.integers(0, 2**31 - 1))


def value(json: object) -> Value:
    return json_format.ParseDict(json, Value())


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**53), 2**53)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
).map(value)
PRICE = st.builds(
    pb.MeterPrice,
    meter=TEXT,
    credits_micros=MICROS,
    per=MICROS,
    rounding=st.integers(0, 4),
    tiers=st.lists(st.builds(pb.Tier, up_to=MICROS, credits_micros=MICROS), max_size=2),
)
RATE = st.builds(
    pb.Rate,
    match=st.dictionaries(TEXT, TEXT, max_size=2),
    above=st.dictionaries(TEXT, MICROS, max_size=2),
    prices=st.lists(PRICE, max_size=2),
)
FEATURE = st.builds(
    pb.Feature,
    key=TEXT,
    type=st.integers(0, 4),
    external_rate=st.booleans(),
    rates=st.lists(RATE, max_size=2),
    default_value=st.none() | VALUE,
)
ENTITLEMENT = st.one_of(
    st.builds(pb.Entitlement, feature=TEXT),
    st.builds(pb.Entitlement, enabled=st.booleans()),
    st.builds(pb.Entitlement, value=VALUE),
    st.builds(pb.Entitlement, limit=st.builds(pb.Limit, max=MICROS, per=st.none() | PERIOD)),
)
PLAN = st.builds(
    pb.Plan,
    key=TEXT,
    rank=st.integers(-(2**31), 2**31 - 1),
    entitlements=st.lists(ENTITLEMENT, max_size=2),
    allowances=st.lists(st.builds(pb.Allowance, amount_micros=MICROS, every=st.none() | PERIOD), max_size=2),
    trial=st.none() | st.builds(pb.Trial),
)


@st.composite
def credit_types(draw: st.DrawFn) -> pb.CreditType:
    message = pb.CreditType(key=draw(TEXT), burn_order=draw(st.integers(0, 4)))  # type: ignore[arg-type]
    if draw(st.booleans()):
        message.value.currency_code = draw(TEXT | st.just("USD"))
        message.value.units = draw(MICROS)
        message.value.nanos = draw(st.integers(-(2**31), 2**31 - 1))
    return message


CATALOG = st.builds(
    pb.Catalog,
    credits=st.lists(credit_types(), max_size=2),
    features=st.lists(FEATURE, max_size=2),
    plans=st.lists(PLAN, max_size=2),
)


@settings(max_examples=60)
@given(CATALOG, st.booleans())
def test_what_is_shown_loads_back_equal(message: pb.Catalog, as_json: bool) -> None:
    text = dump_catalog(message, as_json=as_json)

    assert parse_catalog(text, "x.json" if as_json else "x.yaml").message == message
    # JSON is YAML, but for the characters that YAML cannot print
    if as_json and text.isprintable():
        assert parse_catalog(text, "x.yaml").message == message


def test_the_longest_period_loads_back_and_a_longer_one_is_refused() -> None:
    plan = pb.Plan(allowances=[pb.Allowance(every=pb.Period(unit=pb.Period.UNIT_MINUTE, count=2**31 - 1))])
    text = dump_catalog(pb.Catalog(plans=[plan]))

    assert parse_catalog(text, "x.yaml").message.plans[0] == plan
    with pytest.raises(DocumentError, match="expected a count"):
        parse_catalog(text.replace(str(2**31 - 1), str(2**31)), "x.yaml")


def test_a_free_price_is_shown_as_such() -> None:
    message = pb.Catalog(features=[pb.Feature(rates=[pb.Rate(prices=[pb.MeterPrice(meter="m")])])])

    assert "- {meter: m, credits: 0}" in dump_catalog(message)
