"""The heavy-hitter sketch: its guarantees for any input, and the window that forgets."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from creditd.engine.hottest import COUNTERS, PANE_S, PANES, Hottest, SpaceSaving


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 12),
    st.lists(st.integers(0, 40).map(lambda n: n * n // 40).map(str), max_size=400),
)
def test_a_sketch_is_never_below_the_true_count_and_never_too_far_above(size: int, stream: list[str]) -> None:
    sketch = SpaceSaving(size)
    for element in stream:
        sketch.note(element)
    true = Counter(stream)

    assert len(sketch.tallies) == min(size, len(true))
    assert sketch.total == len(stream)
    assert sketch.smallest <= len(stream) / size
    for element, count in true.items():
        tally = sketch.tallies.get(element)
        if tally is None:
            assert count <= sketch.smallest
        else:
            assert count <= tally.count <= count + tally.missed
            assert tally.missed <= len(stream) / size


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 1.0, 1.5]), st.floats(0, 2 * PANE_S))
def test_what_the_window_says_of_an_account_holds_whatever_the_load(
    seed: int, skew: float, pause: float
) -> None:
    source = random.Random(seed)
    accounts = [f"a{n}" for n in range(600)]
    weights = [1 / (n + 1) ** skew for n in range(600)]
    clock = Clock()
    hottest = Hottest(clock)
    true: Counter[str] = Counter()
    for account in source.choices(accounts, weights, k=2_000):
        clock.now += (PANES - 3) * PANE_S / 2_000  # all of it stays in the window, whatever the pause
        hottest.note(account)
        true[account] += 1
    clock.now += pause
    window = hottest.window(len(accounts))
    found = {hot.account: hot for hot in window.accounts}

    assert window.decisions == 2_000
    for account, hot in found.items():
        assert hot.decisions <= true[account] <= hot.decisions + hot.missed_max
        assert hot.missed_max <= 2_000 / COUNTERS
    assert [
        account for account, count in true.items() if count > 2_000 / COUNTERS and account not in found
    ] == []


def test_few_accounts_are_counted_exactly_and_in_order() -> None:
    hottest = Hottest(Clock())
    for number in range(COUNTERS):
        for _ in range(number % 7 + 1):
            tally = hottest.note(f"a{number:03}")
            tally.burned += 10
    window = hottest.window(COUNTERS)

    assert [hot.decisions for hot in window.accounts] == sorted(
        (n % 7 + 1 for n in range(COUNTERS)), reverse=True
    )
    assert {hot.missed_max for hot in window.accounts} == {0}
    assert all(hot.burned == 10 * hot.decisions for hot in window.accounts)
    assert hottest.window(3).accounts == window.accounts[:3]


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    clock = Clock()
    hottest = Hottest(clock)
    hottest.note("early")
    clock.now += PANE_S * (PANES - 1) + 1
    hottest.note("late")
    both = hottest.window(10)
    clock.now += PANE_S
    one = hottest.window(10)
    clock.now += 10 * PANE_S
    none = hottest.window(10)

    assert ([hot.account for hot in both.accounts], both.decisions) == (["early", "late"], 2)
    assert both.seconds == PANE_S * (PANES - 1) + 1
    assert ([hot.account for hot in one.accounts], one.decisions) == (["late"], 1)
    assert one.seconds == PANE_S * (PANES - 1) + 1
    assert (none.accounts, none.decisions) == ((), 0)
