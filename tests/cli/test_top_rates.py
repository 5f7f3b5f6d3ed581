"""What `creditd top` computes from two answers, and how it puts it on the screen: pure functions."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from creditd.cli.top_rates import interval_of, quantile
from creditd.cli.top_view import (
    View,
    amount_text,
    duration_text,
    ms_text,
    plain,
    rate_text,
    screen,
    sparkline,
)
from creditd.engine.histogram import BOUNDS_US, Histogram
from creditd.v1 import diagnostics_pb2 as pb
from creditd.v1 import entitlements_pb2 as ent

BOUNDS = [bound / 1e6 for bound in BOUNDS_US]


def answer(
    now: float,
    *,
    calls: int = 0,
    failed: int = 0,
    allowed: int = 0,
    denied: int = 0,
    replays: int = 0,
    latencies: tuple[float, ...] = (),
    units: int = 0,
    flights: int = 0,
    instance: str = "a",
    started: float = 0.0,
    accounts: int = 0,
) -> pb.ServerStats:
    """An answer at `now` seconds; counts are of Consume."""
    histogram = Histogram()
    for latency in latencies:
        histogram.note(latency)
    made = pb.ServerStats(
        instance_id=instance,
        version="1.2.3",
        transport="asgi",
        outbox_depth=4,
        hot_store_reachable=True,
        ledger_reachable=True,
        rpcs=[
            pb.RpcStats(
                rpc="creditd.v1.Entitlements/Consume",
                calls=[pb.StatusCount(code=0, count=calls), pb.StatusCount(code=5, count=failed)],
                decisions=[
                    pb.ReasonCount(reason=ent.REASON_COVERED, count=allowed),
                    pb.ReasonCount(reason=ent.REASON_NOT_ENTITLED, count=denied),
                ],
                replays=replays,
                latency=pb.LatencyHistogram(counts=histogram.counts),
            ),
            pb.RpcStats(
                rpc="creditd.v1.Diagnostics/GetServerStats", calls=[pb.StatusCount(code=0, count=calls)]
            ),
        ],
        hottest=pb.HottestAccounts(
            accounts=[
                pb.HotAccount(account=f"account-{n}", decisions=100 - n, denials=n, burned_micros=n * 10**6)
                for n in range(accounts)
            ]
        ),
        commits=pb.CommitStats(units=units, flights=flights),
    )
    for bound in BOUNDS_US:
        made.latency_bounds.add().FromMicroseconds(bound)
    made.started_at.FromMilliseconds(round(started * 1000))
    made.now.FromMilliseconds(round(now * 1000))
    return made


def test_rates_are_differences_by_the_seconds_between() -> None:
    before = answer(10, calls=100, failed=1, allowed=90, denied=10, replays=5, latencies=(9.0,) * 50)
    after = answer(
        14,
        calls=300,
        failed=9,
        allowed=250,
        denied=50,
        replays=7,
        latencies=(9.0,) * 50 + (0.001,) * 208,
        units=80,
        flights=20,
    )
    found = interval_of(before, after)

    assert found is not None
    assert (found.seconds, found.allowed_per_s, found.denied_per_s, found.replays_per_s) == (4, 40, 10, 0.5)
    assert found.decisions_per_s == 50
    assert found.denials == (("NOT_ENTITLED", 10.0),)
    (consume,) = found.rpcs  # calls of Diagnostics are top's own
    assert (consume.name, consume.calls_per_s, consume.errors_per_s) == ("Entitlements/Consume", 52, 2)
    assert consume.p50_s == pytest.approx(0.001, rel=0.2)
    assert consume.p99_s == pytest.approx(0.001, rel=0.2)
    assert (found.commits.units_per_s, found.commits.units_per_flight) == (20, 4)


def test_after_a_restart_rates_are_those_since_the_start() -> None:
    found = interval_of(
        answer(100, calls=1_000_000, allowed=1_000_000),
        answer(110, calls=40, allowed=40, instance="b", started=106),
    )

    assert found is not None
    assert (found.seconds, found.allowed_per_s) == (4, 10)
    assert found.rpcs[0].calls_per_s == 10


def test_another_process_that_is_older_tells_nothing_of_the_interval() -> None:
    assert interval_of(answer(100), answer(101, calls=5000, instance="b", started=50)) is None


def test_no_time_between_two_answers_gives_no_rates() -> None:
    assert interval_of(answer(100), answer(100, calls=5)) is None


def test_reasons_of_a_newer_server_are_shown_as_numbers() -> None:
    after = answer(1)
    after.rpcs[0].decisions.add(reason=99, count=3)  # type: ignore[arg-type]
    found = interval_of(answer(0), after)

    assert found is not None
    assert found.denials == (("99", 3.0),)


counters = st.integers(0, 10**6)


@given(st.tuples(counters, counters, counters), st.tuples(counters, counters, counters), st.booleans())
def test_no_rate_is_ever_negative(
    first: tuple[int, int, int], more: tuple[int, int, int], restart: bool
) -> None:
    calls, allowed, denied = first
    before = answer(50, calls=calls, allowed=allowed, denied=denied, units=calls, flights=allowed)
    base = (0, 0, 0) if restart else first
    calls, allowed, denied = (old + new for old, new in zip(base, more, strict=True))
    after = answer(
        60,
        calls=calls,
        allowed=allowed,
        denied=denied,
        units=calls,
        flights=allowed,
        instance="b" if restart else "a",
        started=55 if restart else 0,
    )
    found = interval_of(before, after)

    assert found is not None
    assert found.allowed_per_s == more[1] / found.seconds
    assert found.rpcs[0].calls_per_s == more[0] / found.seconds
    assert min(found.denied_per_s, found.commits.units_per_s, found.commits.flights_per_s) >= 0


@given(st.lists(st.floats(1.1e-5, 80), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_a_bucket_of_the_true_one(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.note(duration)
    true = sorted(durations)[max(0, math.ceil(share * len(durations)) - 1)]
    found = quantile(BOUNDS, histogram.counts, share)

    assert found is not None
    assert true / 1.21 <= found <= true * 1.21
    assert sum(histogram.counts) == len(durations)


def test_quantiles_of_nothing_and_beyond_all_bounds() -> None:
    histogram = Histogram()
    nothing = quantile(BOUNDS, histogram.counts, 0.5)
    histogram.note(1_000.0)

    assert nothing is None
    assert quantile(BOUNDS, histogram.counts, 0.5) == BOUNDS[-1]


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram()
    histogram.note(20e-6)
    histogram.note(20.1e-6)

    assert [place for place, count in enumerate(histogram.counts) if count] == [4, 5]


def test_sparklines_are_bars_over_several_lines() -> None:
    assert sparkline([0, 1, 4, 8], 4, 1) == [" ▁▄█"]
    assert sparkline([8, 16, None, 0.001], 5, 2) == ["  █  ", " ██ ▁"]
    assert sparkline([], 3, 1) == ["   "]
    assert sparkline([5, 1, 1], 2, 1) == ["██"]


def drawn(view: View, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), record=True, legacy_windows=False)
    console.print(screen(view, width, height))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (81, 25), (100, 30), (132, 43), (200, 60)])
@pytest.mark.parametrize("accounts", [0, 3, 40])
def test_the_screen_fits_its_terminal_and_shows_every_part(width: int, height: int, accounts: int) -> None:
    before = answer(0, calls=1, allowed=1)
    after = answer(2, calls=50, allowed=40, denied=9, units=4, flights=2, accounts=accounts)
    view = View("host:1", after, interval_of(before, after), (1.0, None, 24.0))
    lines = drawn(view, width, height)
    text = "\n".join(lines)

    assert len(lines) <= height
    assert {len(line.rstrip()) <= width for line in lines} == {True}
    for part in (
        "creditd top",
        "host:1",
        "hot store",
        "decisions, last minute",
        "19.5 allowed",
        "Entitlements/Consume",
        "NOT_ENTITLED",
        "hottest accounts",
        "outbox 4 · queued 0 · 2.0 units/s · 2.0 per commit",
    ):
        assert part in text
    assert text.count("account-") >= min(accounts, 4)


def test_what_is_away_is_said() -> None:
    after = answer(2)
    after.ClearField("outbox_depth")
    after.hot_store_reachable = after.ledger_reachable = False
    text = "\n".join(drawn(View("host:1", after, None), 80, 24))
    lost = "\n".join(drawn(View("host:1", after, None, trouble="no answer (UNAVAILABLE)"), 80, 24))

    assert "hot store is away" in text
    assert "ledger is away" in text
    assert "outbox unknown" in text
    assert "no answer (UNAVAILABLE)" in lost


def test_ids_with_control_characters_do_not_reach_the_terminal() -> None:
    after = answer(2)
    after.hottest.accounts.add(account="\x1b[2Jevil", decisions=3)
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(plain(View("host:1", after, interval_of(answer(0), after))))

    assert r"\x1b[2Jevil" in console.export_text()


def test_figures_are_short() -> None:
    assert [rate_text(rate) for rate in (0, 0.01, 0.4, 12.34, 99.96, 4321.4)] == [
        "0",
        "<0.1",
        "0.4",
        "12.3",
        "100.0",
        "4,321",
    ]
    assert [ms_text(value) for value in (None, 0.000123, 0.0123, 0.5, 12.0)] == [
        "-",
        "0.123",
        "12.3",
        "500",
        "12,000",
    ]
    assert [amount_text(value) for value in (0, 750_000, 12_340_000, 1_234_000_000, 5_600_000_000_000)] == [
        "0",
        "0.75",
        "12.3",
        "1,234",
        "5.6M",
    ]
    assert [duration_text(value) for value in (0.4, 59, 60, 200, 3600, 90_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "3 min 20 s",
        "1 h",
        "1 d 1 h",
    ]
