"""Calendar windows in time zones: clocks that change, odd offsets, several units, the edges of years."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditd.domain.catalog import Period, Unit
from creditd.domain.periods import MS_MAX, calendar_window, to_datetime, to_ms

ZONES = [
    "",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Asia/Tehran",
    "Antarctica/Troll",
]


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("zone", "period", "now", "start", "end"),
    [
        # The clocks go forward: 23 hours; back: 25 hours.
        ("Europe/Berlin", Period(Unit.DAY), "2030-03-31T12:00", "2030-03-30T23:00", "2030-03-31T22:00"),
        ("Europe/Berlin", Period(Unit.DAY), "2030-10-27T12:00", "2030-10-26T22:00", "2030-10-27T23:00"),
        # Half an hour on Lord Howe Island.
        ("Australia/Lord_Howe", Period(Unit.DAY), "2030-04-07T00:00", "2030-04-06T13:00", "2030-04-07T13:30"),
        ("Australia/Lord_Howe", Period(Unit.DAY), "2030-10-06T00:00", "2030-10-05T13:30", "2030-10-06T13:00"),
        ("America/St_Johns", Period(Unit.DAY), "2030-11-03T12:00", "2030-11-03T02:30", "2030-11-04T03:30"),
        ("Asia/Kathmandu", Period(Unit.DAY), "2030-06-01T00:00", "2030-05-31T18:15", "2030-06-01T18:15"),
        # Midnight itself is skipped: the day begins at the skip.
        ("America/Sao_Paulo", Period(Unit.DAY), "2018-11-04T12:00", "2018-11-04T03:00", "2018-11-05T02:00"),
        # A whole day was skipped when Samoa crossed the date line.
        ("Pacific/Apia", Period(Unit.DAY), "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("Pacific/Apia", Period(Unit.DAY), "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"),
        # An hour that comes twice is one window.
        ("Europe/Berlin", Period(Unit.HOUR), "2030-10-27T00:30", "2030-10-27T00:00", "2030-10-27T02:00"),
        ("Europe/Berlin", Period(Unit.HOUR), "2030-10-27T01:30", "2030-10-27T00:00", "2030-10-27T02:00"),
        ("", Period(Unit.HOUR, 5), "2030-01-01T22:00", "2030-01-01T20:00", "2030-01-02T00:00"),
        ("", Period(Unit.MINUTE, 90), "2030-01-01T01:31", "2030-01-01T01:30", "2030-01-01T03:00"),
        ("", Period(Unit.WEEK), "2030-01-01T00:00", "2029-12-31T00:00", "2030-01-07T00:00"),
        ("", Period(Unit.MONTH, 3), "2030-12-31T23:59", "2030-10-01T00:00", "2031-01-01T00:00"),
        ("", Period(Unit.MONTH, 5), "2030-12-01T00:00", "2030-11-01T00:00", "2031-01-01T00:00"),
        ("", Period(Unit.MONTH, 12), "2030-06-01T00:00", "2030-01-01T00:00", "2031-01-01T00:00"),
        ("", Period(Unit.YEAR, 10), "2031-06-01T00:00", "2030-01-01T00:00", "2040-01-01T00:00"),
        ("", Period(Unit.DAY, 7), "1970-01-09T00:00", "1970-01-08T00:00", "1970-01-15T00:00"),
        ("Europe/Berlin", Period(Unit.YEAR), "2030-12-31T23:30", "2030-12-31T23:00", "2031-12-31T23:00"),
    ],
)
def test_windows_follow_the_local_clock(zone, period, now, start, end):
    window = calendar_window(zone, period, ms(now))

    assert (to_datetime(window.start), to_datetime(window.end)) == (
        to_datetime(ms(start)),
        to_datetime(ms(end)),
    )


@given(
    st.sampled_from(ZONES),
    st.sampled_from(list(Unit)),
    st.integers(1, 40),
    st.integers(0, 4_000_000_000_000),
)
def test_windows_contain_their_instant_and_follow_without_gaps(zone, unit, count, now):
    period = Period(unit, count)
    window = calendar_window(zone, period, now)

    assert window.start <= now < window.end
    assert calendar_window(zone, period, window.end).start == window.end
    assert calendar_window(zone, period, window.end - 1) == window
    assert calendar_window(zone, period, window.start) == window


@given(st.sampled_from(ZONES), st.integers(0, 4_000_000_000_000))
def test_a_day_is_one_date_of_the_local_calendar(zone, now):
    window = calendar_window(zone, Period(Unit.DAY), now)
    local = ZoneInfo(zone or "UTC")

    dates = {to_datetime(at).astimezone(local).date() for at in (window.start, now, window.end - 1)}

    assert len(dates) == 1
    assert to_datetime(window.end).astimezone(local).date() not in dates


def test_the_last_window_never_ends():
    assert calendar_window("", Period(Unit.YEAR, 1000), MS_MAX).end == MS_MAX
