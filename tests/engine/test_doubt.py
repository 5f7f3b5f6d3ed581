"""Calls to the hot store that were given up and are carried out later; hot states that the ledger has left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.engine.conftest import CREDIT, books_balance

from creditd.domain.errors import NotFound, Unavailable
from creditd.engine.control_types import EntryQuery
from creditd.engine.requests import Action, Reservation, Use
from creditd.hot.connection import HotUnavailable
from creditd.hot.keys import state_key
from creditd.workers.reaper import Reaper

CHAT = Use("acme", "chat", quantity=10)


class Late:
    """The first decision of an engine is given up by its caller, and `arrive` carries it out all the same."""

    def __init__(self, engine, monkeypatch) -> None:
        self.engine = engine
        self.held = None
        self.decide = engine.hot.decide
        monkeypatch.setattr(engine.hot, "decide", self.hold_first)

    async def hold_first(self, *args, **named):
        if self.held is None:
            self.held = (args, named)
            raise HotUnavailable("the connection was lost", sent=True)
        return await self.decide(*args, **named)

    async def arrive(self) -> None:
        """Late, and its reply goes nowhere: only the reaper learns of it."""
        (*request, _on_decided), named = self.held
        await self.decide(*request, lambda _decided: None, **named)
        await Reaper(self.engine, age_ms=0, wall_ms=self.engine._wall_ms).sweep()
        while self.engine.committer.depth:
            await self.engine.committer.submit(next(iter(self.engine.committer._pending.values())).unit)


async def burned(engine) -> list[int]:
    log = await engine.list_entries(EntryQuery("acme", limit=1000))
    return [-entry.amount for entry in log if entry.feature == "chat" and entry.amount]


@pytest.mark.parametrize("key", ["", "k1"])
async def test_a_call_that_was_made_again_burns_once_though_both_are_carried_out(
    world, engine, monkeypatch, key
):
    await world.account()
    await engine.check(CHAT)
    late = Late(engine, monkeypatch)
    ruling = await engine.consume(replace(CHAT, idempotency_key=key))
    assert (ruling.charged, ruling.replayed) == (10 * CREDIT, False)
    # Minutes later: the hot store has forgotten the key.
    await (await engine.hot._connected()).call("FLUSHDB")
    await engine.loader.load("acme")
    await late.arrive()
    assert await burned(engine) == [10 * CREDIT]
    await engine.loader.load("acme")
    await books_balance(engine)


async def test_a_denial_is_not_for_good_while_an_earlier_call_may_still_arrive(world, engine, monkeypatch):
    await world.account()
    await engine.consume(replace(CHAT, quantity=95))
    late = Late(engine, monkeypatch)
    with pytest.raises(Unavailable, match="same idempotency key"):
        await engine.consume(replace(CHAT, idempotency_key="k1"))
    await world.grant(50 * CREDIT, "more")
    await late.arrive()
    again = await engine.consume(replace(CHAT, idempotency_key="k1"))
    assert (again.allowed, again.charged, again.replayed) == (True, 10 * CREDIT, True)
    assert await burned(engine) == [10 * CREDIT, 95 * CREDIT]


async def test_a_denial_without_such_a_call_is_for_good(world, engine):
    await world.account()
    await engine.consume(replace(CHAT, quantity=95))
    assert not (await engine.consume(replace(CHAT, idempotency_key="k1"))).allowed


async def test_a_reservation_that_the_hot_store_has_forgotten_is_found_in_the_ledger(world, engine):
    await world.account()
    await engine.check(CHAT)
    connection = await engine.hot._connected()
    before = await connection.call("DUMP", state_key("acme"))
    held = await engine.reserve(replace(CHAT, reservation=Reservation(Action.RESERVE, ttl_ms=60_000)))
    # The same server goes on from a state with writes missing, as a promoted replica does.
    await connection.call("RESTORE", state_key("acme"), 0, before, "REPLACE")
    commit = Reservation(Action.COMMIT, held.reservation_id)
    ruling = await engine.on_reservation(Use("acme", "", quantity=4, reservation=commit))
    assert (ruling.charged, ruling.released) == (4 * CREDIT, 6 * CREDIT)
    await books_balance(engine)


async def test_looking_for_a_reservation_that_never_was_loads_nothing(world, engine):
    await world.account()
    await engine.consume(CHAT)
    loads = engine.loader.loads.total()
    with pytest.raises(NotFound, match="reservation"):
        await engine.on_reservation(Use("acme", "", reservation=Reservation(Action.RELEASE, "0" * 32)))
    assert engine.loader.loads.total() == loads
