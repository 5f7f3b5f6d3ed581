"""What is stored is read back equal, and the stored form stays what it was."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.making import entry

from creditd.domain.catalog import Catalog, Entitlement, Limit, Plan
from creditd.domain.entries import Answer, Effects, Entry, GrantChange, Kind
from creditd.domain.grants import Grant
from creditd.domain.state import AccountState, Counter, GrantState, Hold
from creditd.ledger.codec import (
    STATE_FORMAT,
    decode_grant,
    decode_state,
    encode_detail,
    encode_grant,
    encode_state,
)
from creditd.ledger.documents import decode_catalog, decode_plan, encode_catalog, encode_plan
from creditd.ledger.rows import to_entry, to_row

INTS = st.integers(-(2**63), 2**63 - 1)
SCALARS = (
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a domain type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{field.name: values(hints[field.name]) for field in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})
    if origin in {Union, types.UnionType}:
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin in {dict, Mapping}:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    simple = {int: INTS, str: st.text(max_size=5), bool: st.booleans(), types.NoneType: st.none(), Any: JSON}
    return simple[kind]


@st.composite
def states(draw: st.DrawFn) -> AccountState:
    holds = draw(st.lists(values(Hold), max_size=2, unique_by=lambda each: each.id))
    held = draw(st.lists(values(GrantState), max_size=3, unique_by=lambda each: each.grant.id))
    return AccountState(
        account="acme",
        sequence=draw(INTS),
        at=draw(INTS),
        grants={each.grant.id: each for each in held},
        debts=draw(values(dict[str, int])),
        counters=draw(values(dict[str, Counter])),
        holds={each.id: each for each in holds},
    )


@given(values(Entry))
def test_an_entry_is_read_back_equal(original: Entry) -> None:
    assert to_entry(to_row(original)) == original


@given(values(Grant))
def test_a_grant_is_read_back_equal(original: Grant) -> None:
    assert decode_grant(encode_grant(original)) == original


@given(states())
def test_a_state_is_read_back_equal(original: AccountState) -> None:
    assert decode_state("acme", encode_state(original)) == original


@given(values(Plan))
def test_a_plan_is_read_back_equal(original: Plan) -> None:
    assert decode_plan(encode_plan(original)) == original


@given(values(Catalog))
def test_a_catalog_is_read_back_equal(original: Catalog) -> None:
    assert decode_catalog(encode_catalog(original)) == original


def test_an_entry_without_details_stores_none() -> None:
    assert encode_detail(entry(1)) == "{}"


def test_the_stored_form_of_details_stays_what_it_was() -> None:
    stored = (
        '{"u":{"tokens":3},"l":[["g",5]],"c":["USD",7],"w":["",5],'
        '"e":{"g":[["g",-5]],"c":[["k",1,2,3]],"d":4,"a":"b","x":"g"}}'
    )
    read = to_entry((*to_row(entry(1, kind=Kind.CONSUME))[:-1], stored))

    assert read.answer == Answer(charged=5)
    assert read.effects.grants == (GrantChange("g", -5),)
    assert (read.effects.debt, read.effects.activated, read.effects.ended) == (4, "b", "g")
    assert read.effects.put is None
    assert isinstance(read.effects, Effects)


def test_a_state_of_another_format_is_not_read() -> None:
    document = orjson.loads(encode_state(AccountState("acme"))) | {"v": STATE_FORMAT + 1}

    assert decode_state("acme", orjson.dumps(document).decode()) is None


def test_what_a_stored_plan_leaves_out_means_what_it_meant() -> None:
    plan = decode_plan('{"key":"pro","entitlements":[{"feature":"seats","limit":{"max":5}}]}')

    limit = Limit(
        max=5,
        per=None,
        unlimited=False,
        soft=False,
        per_seat=False,
        window="ANCHORED",
        time_zone="",  # type: ignore[arg-type]
    )
    assert plan.entitlements == (Entitlement("seats", enabled=None, value=None, limit=limit),)
    assert (plan.rank, plan.version, plan.trial) == (0, 0, None)
