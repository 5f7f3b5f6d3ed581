"""A probe of a store: one question at a time, and an answer that is at most a second old."""

from __future__ import annotations

import asyncio

import pytest

from creditd.domain.errors import Unavailable
from creditd.engine import probe as module
from creditd.engine.probe import Probe


class Store:
    """Answers when told to; counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.away = False
        self.open = asyncio.Event()
        self.open.set()

    async def question(self) -> int:
        self.asked += 1
        number = self.asked
        await self.open.wait()
        if self.away:
            raise Unavailable("away")
        return number


async def test_an_answer_is_kept_for_a_second_and_shared() -> None:
    store = Store()
    probe = Probe(store.question, lambda: store.now)

    first = await asyncio.gather(probe.latest(), probe.latest())
    store.now = 0.99
    kept = await probe.latest()
    store.now = 1.0
    renewed = await probe.latest()

    assert (first, kept, renewed) == ([1, 1], 1, 2)


async def test_a_store_that_is_away_is_none_until_it_is_back() -> None:
    store = Store()
    probe = Probe(store.question, lambda: store.now)
    store.away = True
    away = await probe.latest()
    store.away = False
    still = await probe.latest()
    store.now = 1.0
    back = await probe.latest()

    assert (away, still, back) == (None, None, 2)


async def test_a_store_that_does_not_answer_is_not_asked_again_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0)
    store = Store()
    store.open.clear()
    probe = Probe(store.question, lambda: store.now)

    silent = [await probe.latest(), await probe.latest()]
    asked = store.asked
    monkeypatch.setattr(module, "PATIENCE_S", 10)
    store.open.set()
    late = await probe.latest()
    await probe.close()

    assert (silent, asked, late) == ([None, None], 1, 1)


async def test_what_nobody_foresaw_is_raised_and_asked_again() -> None:
    answers = iter([RuntimeError("odd"), 7])

    async def question() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    probe = Probe(question, lambda: 0.0)
    with pytest.raises(RuntimeError, match="odd"):
        await probe.latest()

    assert await probe.latest() == 7
