"""Counters' windows, decided on as the script does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from creditd.domain.catalog import Period, Unit, Window
from creditd.domain.decide import Draw, Operation, Outcome, decide
from creditd.domain.periods import MS_MAX, SLIDING_PARTS, sliding_ms
from creditd.domain.state import Segment
from creditd.domain.windows import WindowRule

MAX = 5
HOUR = 3_600_000
START = 1_893_456_000_000


def use(segment: Segment, rule: WindowRule, now: int, units: int) -> tuple[Segment, Outcome]:
    draw = Draw("feature", units=units, charges=(rule.charge("l", now, MAX),))
    decision = decide(segment, Operation(now, 1, (draw,)))
    return decision.segment, decision.outcome


def segment() -> Segment:
    return Segment(sequence=0, at=0, end=MS_MAX, policy_version=1)


uses = st.lists(
    st.tuples(st.integers(0, 3 * HOUR) | st.integers(0, HOUR // 6), st.integers(1, MAX)), max_size=40
)


@given(st.sampled_from([Period(Unit.MINUTE), Period(Unit.HOUR), Period(Unit.MINUTE, 7)]), uses)
def test_a_sliding_window_never_lets_more_than_its_maximum_through_in_any_span_of_its_length(per, gaps):
    rule = WindowRule(per, Window.SLIDING, "", 0)
    state, now = segment(), START
    allowed: list[tuple[int, int]] = []
    for gap, units in gaps:
        now += gap
        state, outcome = use(state, rule, now, units)
        if outcome is Outcome.DECIDED:
            allowed.append((now, units))

    for first, _units in allowed:
        inside = [units for at, units in allowed if first <= at < first + sliding_ms(per)]
        assert sum(inside) <= MAX


@given(st.sampled_from([Period(Unit.MINUTE), Period(Unit.HOUR), Period(Unit.MINUTE, 7)]), uses)
def test_a_sliding_window_denies_only_what_the_last_length_and_a_twelfth_explain(per, gaps):
    rule = WindowRule(per, Window.SLIDING, "", 0)
    state, now = segment(), START
    allowed: list[tuple[int, int]] = []
    longest = sliding_ms(per) + -(-sliding_ms(per) // SLIDING_PARTS)
    for gap, units in gaps:
        now += gap
        state, outcome = use(state, rule, now, units)
        if outcome is Outcome.DECIDED:
            allowed.append((now, units))
        else:
            recent = sum(before for at, before in allowed if at > now - longest)
            assert recent + units > MAX


def test_a_clock_that_is_behind_a_sliding_window_decides_again_where_the_account_is():
    rule = WindowRule(Period(Unit.HOUR), Window.SLIDING, "", 0)
    ahead = START + 13 * rule.part_ms
    state, _outcome = use(segment(), rule, ahead, 1)

    # The same place of the ring is in use for a later part.
    _state, outcome = use(state, rule, START, 1)
    assert outcome is Outcome.LATE
    _state, outcome = use(state, rule, state.at, 1)
    assert outcome is Outcome.DECIDED


def test_a_clock_that_is_behind_an_anchored_window_decides_again_in_the_later_one():
    rule = WindowRule(Period(Unit.HOUR), Window.ANCHORED, "", START)
    state, _outcome = use(segment(), rule, START + HOUR, MAX)

    _state, outcome = use(state, rule, START + HOUR - 1, 1)

    assert outcome is Outcome.LATE


@given(st.integers(-5 * HOUR, 5 * HOUR), st.integers(0, 5 * HOUR))
def test_windows_that_were_moved_count_anew_and_never_come_too_late(moved, later):
    before = WindowRule(Period(Unit.HOUR), Window.ANCHORED, "", START)
    after = WindowRule(Period(Unit.HOUR), Window.ANCHORED, "", START + moved)
    state, _outcome = use(segment(), before, START + 5 * HOUR, 1)

    state, outcome = use(state, after, START + 5 * HOUR + later, MAX - 1)

    assert outcome is Outcome.DECIDED
