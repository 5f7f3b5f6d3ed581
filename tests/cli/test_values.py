"""Amounts, instants and pairs as people type them: exact, or refused with what was expected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from creditd.cli.values import (
    credits_text,
    instant_of,
    micros_of,
    pairs,
    quantities,
    signed_credits,
    whole_number,
    words,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "micros"),
    [("500", 500_000_000), ("12.5", 12_500_000), ("0.000001", 1), ("-3", -3_000_000), ("1e3", 1_000_000_000)],
)
def test_credits_are_exact_micros(text: str, micros: int) -> None:
    assert micros_of(text) == micros


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0000001", "finer than a micro-credit"),
        ("1,000", "expected a number"),
        ("ten", "expected a number"),
        ("", "expected a number"),
        ("NaN", "expected a number"),
        ("1e300", "too large"),
    ],
)
def test_what_is_no_amount_is_refused(text: str, said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said):
        micros_of(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_amounts_are_read_back_as_they_are_shown(micros: int) -> None:
    assert micros_of(credits_text(micros).replace(",", "")) == micros
    assert signed_credits(micros).lstrip("+") == credits_text(micros)


@pytest.mark.parametrize(
    ("text", "sign", "instant"),
    [
        ("30d", 1, datetime(2026, 4, 3, 5, 6, 7, tzinfo=UTC)),
        ("2h", -1, datetime(2026, 3, 4, 3, 6, 7, tzinfo=UTC)),
        ("1w", 1, datetime(2026, 3, 11, 5, 6, 7, tzinfo=UTC)),
        ("2026-01-31", 1, datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", -1, datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", 1, datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_instants_are_absolute_or_from_now(text: str, sign: int, instant: datetime) -> None:
    assert instant_of(text, NOW, sign) == instant


def test_a_time_from_now_has_whole_seconds_so_that_it_can_be_repeated_as_printed() -> None:
    assert instant_of("15m", NOW, 1) == NOW.replace(microsecond=0) + timedelta(minutes=15)


@pytest.mark.parametrize(
    "text", ["", "30", "d", "-3d", "30 d", "2026-13-01", "2026-01-31T12:00:00", "soon", "999999w"]
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="2026-01-31T00:00:00Z"):
        instant_of(text, NOW, 1)


def test_pairs_may_be_repeated_or_joined_and_a_comma_escaped() -> None:
    assert pairs(["a=1,b=2", "c=x=y", r"d=one\,two"], "--x") == {
        "a": "1",
        "b": "2",
        "c": "x=y",
        "d": "one,two",
    }
    assert words(["a,b", "c", ""]) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["a", "=1", "a=1,b"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="name=value"):
        pairs([text], "--x")


@pytest.mark.parametrize("text", ["a=", "a=1.5", "a=x", "a=9223372036854775808"])
def test_quantities_are_whole_and_fit(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected"):
        quantities([text], "--usage")


def test_a_whole_number_that_the_api_cannot_hold_is_refused() -> None:
    assert whole_number("-9223372036854775808") == -(2**63)
    with pytest.raises(typer.BadParameter, match="too large"):
        whole_number("-9223372036854775809")
