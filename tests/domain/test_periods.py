"""Calendar arithmetic: month ends, leap days, windows without gaps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditd.domain.catalog import Period, Unit
from creditd.domain.periods import add_periods, anchored_window, to_datetime, to_ms


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("anchor", "period", "times", "due"),
    [
        ("2027-01-31", Period(Unit.MONTH), 1, "2027-02-28"),
        ("2027-01-31", Period(Unit.MONTH), 2, "2027-03-31"),
        ("2028-01-31", Period(Unit.MONTH), 1, "2028-02-29"),
        ("2028-02-29", Period(Unit.YEAR), 1, "2029-02-28"),
        ("2028-02-29", Period(Unit.YEAR), 4, "2032-02-29"),
        ("2027-12-15", Period(Unit.MONTH, 3), 1, "2028-03-15"),
        ("2027-03-31", Period(Unit.MONTH), -1, "2027-02-28"),
        ("2027-03-27", Period(Unit.WEEK, 2), 1, "2027-04-10"),
    ],
)
def test_months_follow_the_anchors_day_clamped_to_the_months_end(anchor, period, times, due):
    assert to_datetime(add_periods(ms(anchor), period, times)) == to_datetime(ms(due))


@given(
    st.integers(0, 4_000_000_000_000),
    st.sampled_from(list(Unit)),
    st.integers(1, 13),
    st.integers(0, 4_000_000_000_000),
)
def test_windows_contain_their_instant_and_follow_without_gaps(anchor, unit, count, now):
    period = Period(unit, count)
    window = anchored_window(anchor, period, now)

    assert window.start <= now < window.end
    assert anchored_window(anchor, period, window.end).start == window.end
    assert anchored_window(anchor, period, window.start - 1).end == window.start
