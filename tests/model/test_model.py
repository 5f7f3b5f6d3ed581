"""Random lives of an account on a real server, compared with the model after every step; README.md says how."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from ruamel.yaml import YAML
from tests.model.driver import Pair
from tests.model.model import FOREVER, to_ms
from tests.model.reserving import Reserving
from tests.scenarios.conservation import check_books
from tests.scenarios.steps import catalog_of
from tests.scenarios.test_scenarios import serving

from creditd.ledger.store import Ledger
from creditd.v1 import catalog_pb2, catalog_pb2_grpc

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
RUNS = 1_000 if NIGHTLY else 75
STEPS = 30
DAY = 86_400_000
CATALOG: dict[str, Any] = YAML(typ="safe").load((Path(__file__).parent / "catalog.yaml").read_text())
STARTS = [
    to_ms(datetime(*moment, tzinfo=UTC))
    for moment in [(2030, 1, 1), (2030, 1, 31), (2031, 12, 15, 12, 34, 56, 789_000), (2032, 2, 29)]
]
CREDITS = ["credits", "images"]
FEATURES = ["chat", "deep", "draw", "calls", "slots"]
PLANS = [plan["key"] for plan in CATALOG["plans"]]
MODES = ["", "CARRY_USAGE", "FRESH", "PRORATE", "AT_PERIOD_END"]


@dataclass
class Server:
    """A server in a thread of its own, and what looks into its stores."""

    channel: grpc.Channel
    redis: Redis
    loop: asyncio.AbstractEventLoop
    ledger: Ledger

    def check_books(self, account: str) -> None:
        """What came in is what went out plus what is left."""
        asyncio.run_coroutine_threadsafe(self._check_books(account), self.loop).result()

    async def _check_books(self, account: str) -> None:
        entries = list(reversed(await self.ledger.list_entries(account, limit=100_000)))
        check_books(entries, await self.ledger.read(account, from_start=True))


@pytest.fixture(scope="session")
def server(session_dsn: str, valkey_server: Any) -> Iterator[Server]:
    """The state machine is no coroutine, so that the server runs beside it, not under it."""
    url = f"{valkey_server.url.rsplit('/', 1)[0]}/8"
    ready, started = threading.Event(), []
    stop = asyncio.Event()

    async def run() -> None:
        async with serving(session_dsn, url) as (api, ledger):
            started.append((api.address, asyncio.get_running_loop(), ledger))
            ready.set()
            await stop.wait()

    def target() -> None:
        try:
            asyncio.run(run())
        finally:
            ready.set()

    thread = threading.Thread(target=target)
    thread.start()
    ready.wait()
    assert started, "the server did not start"
    address, loop, ledger = started[0]
    try:
        with grpc.insecure_channel(address) as channel, Redis.from_url(url) as redis:
            catalog_pb2_grpc.CatalogsStub(channel).ApplyCatalog(
                catalog_pb2.ApplyCatalogRequest(catalog=catalog_of(CATALOG))
            )
            yield Server(channel, redis, loop, ledger)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


quantities = st.one_of(st.integers(0, 12), st.sampled_from([20, 40, 100, 250, 700]))
amounts = st.sampled_from([1, 3_000_000, 10_000_000, 25_500_000, 100_000_000])
spans = st.sampled_from([0, 1, DAY - 1, DAY, 3 * DAY, 31 * DAY, 100 * DAY])
rollovers = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "max": st.sampled_from([5, 30]),
            "max_percent": st.sampled_from([10, 33, 100]),
            "max_periods": st.integers(1, 3),
        },
    ),
)
recurrences = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "every": st.sampled_from(["day", "week", "month", "3 days", "2 months"]),
            "anchor": st.sampled_from([0, 0, -DAY, 5 * DAY, 45 * DAY]),
            "rollover": rollovers,
        }
    ),
)


ttls = st.sampled_from([1_000, 300_000, DAY // 2, DAY, DAY])
used = st.sampled_from([1, 2, 2, 4, 7, 12, 40])
acts = st.tuples(
    st.sampled_from(
        ["extend", "part", "part", "commit", "commit", "release", "wait", "wait", "refund", "refund"]
    ),
    st.none() | used,
    st.none() | ttls,
    st.booleans(),
)
"""What is done with a reservation: the kind, a number of units, a ttl, and whether it has a key."""
places = st.integers(-3, 3)
"""Which reservation or entry: of the first ones, or of the last."""


def machine(server: Server) -> type[RuleBasedStateMachine]:
    """The state machine on a server."""

    class Life(RuleBasedStateMachine):
        """The life of one account."""

        def __init__(self) -> None:
            super().__init__()
            self.keys = 0
            self.pair: Pair | None = None
            self.reserving: Reserving | None = None

        @property
        def holds(self) -> Reserving:
            if self.reserving is None:
                self.reserving = Reserving(self.both)
            return self.reserving

        @property
        def both(self) -> Pair:
            if self.pair is None:
                self.pair = Pair(server.channel, server.redis, CATALOG, STARTS[0])
            return self.pair

        def key(self) -> str:
            self.keys += 1
            return f"op-{self.keys}"

        @initialize(start=st.sampled_from(STARTS), plan=st.sampled_from([None, *PLANS]))
        def begin(self, start, plan):
            self.pair = Pair(server.channel, server.redis, CATALOG, start)
            if plan:
                self.pair.subscribe("s", plan, preview=False, seats=2)
            for credit, category in [("credits", "PROMOTION"), ("images", "ADJUSTMENT")]:
                self.pair.create_grant(
                    credit,
                    5_000_000,
                    priority=1,
                    starts_in=0,
                    lasts=DAY // 4,
                    recurrence=None,
                    features=[],
                    category=category,
                )

        @rule(
            feature=st.sampled_from(FEATURES),
            quantity=quantities,
            mode=st.sampled_from(["ENFORCE", "ENFORCE", "PARTIAL", "RECORD"]),
            subject=st.sampled_from(["", "ann", "bob"]),
            key=st.sampled_from(["", "", "", "k1", "k2", "k3"]),
        )
        def consume(self, feature, quantity, mode, subject, key):
            self.both.check(feature, quantity, subject)
            done = self.both.consume(feature, quantity, mode, subject, key)
            if done is not None:
                self.holds.consumed(feature, subject, *done)

        @rule(
            feature=st.sampled_from(["chat", "chat", "deep", "draw", "calls", "slots"]),
            quantity=used,
            subject=st.sampled_from(["", "ann", "bob"]),
            ttl_ms=ttls,
            acts=st.lists(acts, max_size=4),
        )
        def reserve(self, feature, quantity, subject, ttl_ms, acts):
            self.holds.reserve(feature, quantity, subject, ttl_ms, self.key())
            for act in acts:
                self.same_state()
                self.go_on(-1, act)

        @precondition(lambda self: self.reserving and self.reserving.opened)
        @rule(place=places, act=acts)
        def go_on_with_a_reservation(self, place, act):
            self.go_on(place, act)

        def go_on(self, place, act):
            kind, number, ttl_ms, keyed = act
            key = self.key() if keyed else ""
            if kind == "wait":
                model = self.both.model
                ends = min((at for at in model.instants() if at < FOREVER), default=model.now)
                self.both.advance(max(model.now, ends + (number or 0) % 3 - 1))
            elif kind == "refund" and self.holds.burns:
                self.holds.refund(place, {0: 60, 1: 30}.get((number or 0) % 3, 100), self.key())
            elif kind == "release" and self.holds.opened:
                self.holds.release(place)
            elif kind == "extend" and self.holds.opened:
                self.holds.extend(place, number, ttl_ms, key)
            elif kind in {"part", "commit"} and self.holds.opened:
                self.holds.commit(place, number, key, keep_open=kind == "part")

        @precondition(lambda self: self.reserving and self.reserving.burns)
        @rule(place=places, percent=st.sampled_from([100, 100, 30, 60, 101]))
        def refund(self, place, percent):
            self.holds.refund(place, percent, self.key())

        @precondition(lambda self: self.reserving and self.reserving.first)
        @rule(place=places)
        def ask_again(self, place):
            self.holds.ask_again(place)

        @rule(key=st.sampled_from(["k1", "k2", "k3"]))
        def replay(self, key):
            if key in self.both.keys:
                self.both.consume(*self.both.keys[key][0], key)

        @rule(quantity=st.integers(-4, 4), mode=st.sampled_from(["ENFORCE", "PARTIAL", "RECORD"]))
        def use_gauge(self, quantity, mode):
            self.both.check("slots", max(quantity, 0), "")
            # The feature has gauges only, but for an override with a period.
            if quantity >= 0 or "per" not in self.both.model.overrides.get("slots", {}):
                self.both.consume("slots", quantity, mode, "", "")

        @rule(
            credit=st.sampled_from(CREDITS),
            amount=amounts,
            priority=st.sampled_from([0, 0, 5, 25]),
            starts_in=st.sampled_from([0, 0, 1, DAY, 31 * DAY]),
            lasts=spans,
            recurrence=recurrences,
            limited=st.booleans(),
            category=st.sampled_from(["ADJUSTMENT", "PROMOTION", "PURCHASE"]),
        )
        def create_grant(self, credit, amount, priority, starts_in, lasts, recurrence, limited, category):
            features = ["deep" if credit == "credits" else "draw"] if limited else []
            self.both.create_grant(
                credit,
                amount,
                priority=priority,
                starts_in=starts_in,
                lasts=lasts,
                recurrence=recurrence,
                features=features,
                category=category,
            )

        @rule(place=st.integers(0, 9))
        def void_grant(self, place):
            grants = [grant for grant in self.both.model.grants if grant.known and grant.state != "gone"]
            if grants:
                self.both.void(grants[place % len(grants)])

        @rule(bundle=st.sampled_from(["small", "large"]), quantity=st.integers(1, 3))
        def purchase(self, bundle, quantity):
            self.both.purchase(bundle, quantity, self.key())

        @rule()
        def redeem(self):
            self.both.redeem("hello", self.key())

        @rule(
            key=st.sampled_from(["s", "s", "s", "t"]),
            plan=st.sampled_from(PLANS),
            stays=st.booleans(),
            mode=st.sampled_from(MODES),
            seats=st.integers(0, 4),
            add_ons=st.sampled_from(
                [{}, {}, {"pack": 1}, {"pack": 3}, {"boost": 2}, {"pack": 2, "boost": 1}]
            ),
            cancel_in=st.sampled_from([0, 0, 0, 1, 3 * DAY, 40 * DAY]),
            status=st.sampled_from(["", "", "", "", "ACTIVE", "CANCELED"]),
            preview=st.booleans(),
        )
        def subscribe(self, key, plan, stays, mode, seats, add_ons, cancel_in, status, preview):
            present = self.both.model.subscriptions.get(key)
            if present is None or present.status == "CANCELED":
                mode, status = "", ""
            elif stays:
                plan = present.plan
            self.both.subscribe(
                key,
                plan,
                preview=preview,
                mode=mode,
                seats=seats,
                add_ons=add_ons,
                cancel_at=self.both.model.now + cancel_in if cancel_in else FOREVER,
                status=status,
            )

        @rule(
            feature=st.sampled_from(["calls", "slots", "deep"]),
            limit=st.sampled_from(
                [
                    None,
                    {"max": 2},
                    {"max": 15, "per": "day"},
                    {"max": 50, "per": "month", "window": "calendar"},
                ]
            ),
        )
        def override(self, feature, limit):
            self.both.override(feature, limit)

        @rule(
            key=st.sampled_from(["b1", "b2"]),
            rule=st.sampled_from(
                [
                    None,
                    {"credit": "credits", "cap": 20, "scope": "account", "per": "day"},
                    {"credit": "credits", "cap": 9, "scope": "subject", "per": "day", "window": "calendar"},
                    {"credit": "credits", "cap": 40, "scope": "subject", "scope_value": "ann", "per": "week"},
                    {"credit": "images", "cap": 6, "scope": "account", "per": "month"},
                ]
            ),
        )
        def budget(self, key, rule):
            self.both.budget(key, rule)

        @rule()
        def reset_usage(self):
            self.both.reset_usage()

        @rule(suspended=st.sampled_from([False, False, True]))
        def suspend(self, suspended):
            if suspended or self.both.model.suspended:
                self.both.suspend(suspended=suspended)

        @rule(place=st.integers(0, 3), off=st.sampled_from([-1, 0, 0, 0, 1]))
        def advance_to_what_is_next(self, place, off):
            model = self.both.model
            instants = sorted({at for at in model.instants() if at < FOREVER})[:4]
            if instants:
                self.both.advance(max(model.now, instants[place % len(instants)] + off))

        @rule(span=st.sampled_from([1, 1000, DAY // 2, DAY, 5 * DAY, 31 * DAY, 62 * DAY, 366 * DAY]))
        def advance(self, span):
            self.both.advance(self.both.model.now + span)

        @rule()
        def forget_hot_state(self):
            self.both.forget_hot_state()

        @invariant()
        def same_state(self):
            if self.pair is not None:
                self.pair.compare_state()

        def teardown(self):
            if self.pair is not None:
                server.check_books(self.pair.account)
                self.pair.verify()

    return Life


def test_a_random_life_is_as_the_model_says(server):
    run_state_machine_as_test(
        machine(server),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not NIGHTLY,
            suppress_health_check=list(HealthCheck),
        ),
    )
