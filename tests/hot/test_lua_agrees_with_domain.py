"""The script and `domain.decide` are one specification: the same answer for every state and operation."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creditd.domain.accounts import Epoch
from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.catalog import BurnOrder
from creditd.domain.decide import Charge, Draw, Mode, Operation, Outcome, OverageRoom, TierCount, decide
from creditd.domain.holds import Join, settle
from creditd.domain.state import (
    Balances,
    Counter,
    Hold,
    HoldCharge,
    HoldOverage,
    HoldPart,
    Segment,
    SegmentCredit,
    SegmentGrant,
)
from creditd.hot.answers import Code, Decided, Denied, Undecided
from creditd.hot.store import HotStore, Item

EXAMPLES = 20_000 * (10 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1)
FEATURES = ("chat", "image")
CREDITS = ("gold", "silver")
WINDOWS = ((0, 100), (100, 200))


class Generator:
    """Draws states and operations from one random source.

    Values are small, so that boundaries are hit often, with a few at the edge of the exact range.
    """

    def __init__(self, source: random.Random) -> None:
        self.pick = source.choice
        self.upto = lambda top: source.randrange(top + 1)
        self.chance = lambda share: source.random() < share

    def amount(self) -> int:
        if self.chance(0.03):
            return self.pick((AMOUNT_MAX, AMOUNT_MAX - 1, AMOUNT_MAX // 2, 2**31, 2**32 + 1))
        return self.upto(12)

    def credit(self) -> SegmentCredit:
        # A balance is within +-9e15 before a decision too: at most one grant is huge.
        sizes = [self.upto(12) for _ in range(self.upto(4))]
        if sizes and self.chance(0.05):
            sizes[0] = AMOUNT_MAX - 100
        grants = tuple(
            SegmentGrant(f"g{i}", size, self.pick(((), (), ("chat",), ("image", "chat"))))
            for i, size in enumerate(sizes)
        )
        debt = self.amount() if self.chance(0.2) else 0
        available = sum(grant.remaining for grant in grants) - debt
        have = Balances(available, self.upto(3), self.upto(50), debt, self.upto(500), self.upto(500))
        return SegmentCredit(self.pick((BurnOrder.OLDEST_FIRST, BurnOrder.PLAN_FIRST)), have, grants)

    def segment(self) -> Segment:
        counters = {}
        for key in ("l:a", "l:b", "b:a", "o:gold", "gauge", "first", "slide@0", "slide@1", "t:a", "t:b"):
            if self.chance(0.5):
                start, end = (0, 0) if key == "gauge" else self.pick(WINDOWS)
                counters[key] = Counter(start, end, self.amount())
        credits = {credit: self.credit() for credit in CREDITS if self.chance(0.9)}
        sequence = self.upto(5)
        holds = [self.hold(f"h{i}", credits, sequence) for i in range(self.upto(2))]
        return Segment(
            sequence=sequence,
            at=self.upto(120),
            end=self.pick((90, 150, 2**45)),
            policy_version=self.pick((3, 3, 3, 3, 4)),
            raised=self.upto(2),
            credits=credits,
            counters=counters,
            holds={hold.id: hold for hold in holds},
        )

    def hold(self, hold_id: str, credits: dict[str, SegmentCredit], sequence: int) -> Hold:
        credit = self.pick((*CREDITS, ""))
        there = credits[credit].grants if credit in credits else ()
        parts = [
            HoldPart(grant.id, 1 + self.upto(5), self.chance(0.2)) for grant in there if self.chance(0.6)
        ]
        overage = [
            HoldOverage("o:gold", *window, 1 + self.upto(5), self.chance(0.3))
            for window in WINDOWS
            if credit and self.chance(0.3)
        ]
        spans = {"gauge": (0, 0), "first": (40, 130), "slide@0": (0, 100), "slide@1": (100, 200)}
        charges = [
            HoldCharge(key, *spans.get(key, self.pick(WINDOWS)), self.upto(6), key == "b:a")
            for key in ("l:a", "gauge", "b:a", "first", "slide@0", "slide@1")
            if self.chance(0.3)
        ]
        return Hold(
            hold_id,
            self.upto(sequence) or 1,
            self.pick((90, 150, 2**45)),
            credit,
            self.pick(FEATURES),
            "user-é",
            tuple(parts),
            tuple(overage),
            tuple(charges),
            {"tokens": self.upto(9)} if self.chance(0.7) else {},
            {"model": "big"} if self.chance(0.3) else {},
            {"trace": "x"} if self.chance(0.3) else {},
        )

    def on_hold(self, segment: Segment, draw: Draw) -> Draw:
        """The draw as one of a reservation: opens one, joins one, or settles one; or the hold is not as it thinks."""
        open_ones = list(segment.holds.values())
        hold = self.pick([Hold("h9", 0, 0), *open_ones, *open_ones])
        if self.chance(0.05):
            hold = Hold("gone", 3, 90)
        if hold.sequence and self.chance(0.1):
            hold = replace(hold, sequence=hold.sequence + 1)
        if hold.id == "h9":
            hold = replace(hold, credit=draw.credit, feature=draw.feature, usage={"tokens": 2})
        if hold.sequence == 0 or self.chance(0.3):
            held = replace(hold, expires_at=self.pick((80, 150, 2**44)))
            amount = draw.amount if hold.credit == draw.credit else 0
            return replace(draw, mode=Mode.ENFORCE, credit=hold.credit, amount=amount, hold=Join(held))
        cost = self.pick((0, 0, self.amount())) if hold.credit else 0
        step = settle(hold, cost=cost, units=self.upto(8), usage={"tokens": 1}, keep_open=self.chance(0.4))
        return replace(
            draw,
            mode=Mode.RECORD,
            credit=hold.credit,
            amount=cost - step.charged,
            overage=draw.overage if hold.credit else None,
            hold=step,
        )

    def charge(self, key: str, window: tuple[int, int]) -> Charge:
        cap = -1 if self.chance(0.15) else self.amount()
        if key == "gauge":
            return Charge(key, 0, 0, cap, self.chance(0.1))
        if key == "first":
            start = self.upto(199)
            return Charge(key, start, start + self.upto(60), cap, self.chance(0.1), opens=True)
        also = (("slide@1", self.pick((0, 100))), ("l:b", window[0])) if key == "slide@0" else ()
        return Charge(key, *window, cap, self.chance(0.1), key.startswith("b:"), also=also)

    def tier(self, key: str, window: tuple[int, int]) -> TierCount:
        low = 0 if self.chance(0.7) else self.upto(6)
        return TierCount(key, *window, self.upto(6), low, self.pick((low, low + 6, AMOUNT_MAX)))

    def draw(self, window: tuple[int, int]) -> Draw:
        credit = self.pick((*CREDITS, ""))
        keys = [
            key
            for key in ("l:a", "gauge", "b:a", "first", "slide@0")
            if self.chance(0.3) and (credit or key != "b:a")
        ]
        overage = None
        if credit and self.chance(0.3):
            cap = -1 if self.chance(0.2) else self.amount()
            overage = OverageRoom("o:gold", *window, cap, carry_debt=self.chance(0.3))
        return Draw(
            feature=self.pick(FEATURES),
            mode=self.pick((Mode.ENFORCE, Mode.ENFORCE, Mode.PARTIAL, Mode.RECORD)),
            credit=credit,
            order=self.pick((BurnOrder.OLDEST_FIRST, BurnOrder.PLAN_FIRST)),
            amount=self.amount() if credit else 0,
            floor=self.upto(6) if credit and self.chance(0.2) else 0,
            overage=overage,
            units=self.upto(8) - 4 if keys == ["gauge"] else self.upto(6),
            charges=tuple(self.charge(key, window) for key in keys),
            cap=self.upto(12) if credit and self.chance(0.2) else -1,
            cap_by="b:b",
            tiers=tuple(self.tier(key, window) for key in ("t:a", "t:b") if credit and self.chance(0.15)),
        )

    def operation(self, segment: Segment) -> Operation:
        now = self.upto(199)
        window = WINDOWS[max(now, segment.at) >= 100] if self.chance(0.9) else self.pick(WINDOWS)
        draws = [self.draw(window) for _ in range(self.pick((1, 1, 1, 2, 3)))]
        if self.chance(0.4):
            draws[0] = self.on_hold(segment, draws[0])
        if self.chance(0.9):
            orders = {key: credit.order for key, credit in segment.credits.items()}
            draws = [replace(draw, order=orders.get(draw.credit, draw.order)) for draw in draws]
        return Operation(now, self.pick((3, 3, 3, 3, 3, 2, 4)), tuple(draws))


CODES = {
    Outcome.ROLL: Code.ROLL,
    Outcome.POLICY: Code.POLICY,
    Outcome.LATE: Code.LATE,
    Outcome.RANGE: Code.RANGE,
    Outcome.PRICE: Code.PRICE,
    Outcome.HOLD: Code.HOLD,
}


@pytest.fixture(scope="session")
async def agreeing_store(valkey_server):
    store = HotStore(
        valkey_server.url,
        timeout_s=10,
        record_ttl_ms=60_000,
        idle_ttl_ms=0,
        wall_ms=lambda: 1_700_000_000_000,
    )
    await store.connect()
    yield store
    await store.close()


@settings(max_examples=EXAMPLES // 4, suppress_health_check=list(HealthCheck))
@given(source=st.randoms(use_true_random=False))
@pytest.mark.timeout(1800)
async def test_script_and_domain_give_the_same_answers_and_the_same_state(agreeing_store, source):
    """Each example is a state and four operations on it, one after the other: 20,000 decisions compared."""
    make = Generator(source)
    segment = make.segment()
    epoch = Epoch(7, 2**62 + 1)
    await agreeing_store.forget("acc")
    assert await agreeing_store.put("acc", epoch, segment, 1)
    for step in range(4):
        operation = make.operation(segment)
        expected = decide(segment, operation)
        unit = f"{step:032d}"
        items = [Item("", "", b"head") for _ in operation.draws]
        checked = await agreeing_store.check("acc", operation, 1)
        answer = await agreeing_store.decide("acc", operation, 1, unit, items, lambda _decided: None)
        if expected.outcome is Outcome.DECIDED:
            assert answer == Decided(expected.at, segment.sequence + 1, epoch, segment.raised, expected.drawn)
            assert checked == Denied(expected.at, expected.drawn)
        elif expected.outcome is Outcome.DENIED:
            assert answer == checked == Denied(expected.at, expected.drawn)
        else:
            assert isinstance(answer, Undecided)
            assert answer.code is CODES[expected.outcome]
            assert answer == checked
            assert answer.tiers_used == expected.tiers_used
            if expected.outcome is Outcome.LATE:
                assert answer.at == expected.at
        segment = expected.segment
        state = await agreeing_store.read("acc")
        assert state is not None
        assert state.segment == segment
