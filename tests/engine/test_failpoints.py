"""Failpoints: the named steps are where they say, and nothing in the package can arm them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from creditd.engine import failpoints
from creditd.engine.requests import Use

SRC = Path(failpoints.__file__).parents[1]


@pytest.fixture
def reached():
    names: list[str] = []
    failpoints.arm(names.append)
    yield names
    failpoints.arm(None)


async def test_a_consume_reaches_every_step_in_order(world, engine, reached):
    await world.account()
    await world.grant(100, "g")
    await engine.consume(Use("acme", "chat", quantity=1, idempotency_key="warm"))
    reached.clear()

    await engine.consume(Use("acme", "chat", quantity=1, idempotency_key="k"))
    async with asyncio.timeout(10):
        while failpoints.BEFORE_CLEAR not in reached:
            await asyncio.sleep(0)

    assert [name for name in reached if name != failpoints.BEFORE_CLEAR] == list(failpoints.ALL[:-1])
    assert reached.index(failpoints.BEFORE_CLEAR) > reached.index(failpoints.AFTER_COMMIT)
    assert len(reached) == len(failpoints.ALL)


def test_nothing_in_the_package_arms_a_failpoint():
    arming = [
        str(path.relative_to(SRC))
        for path in SRC.rglob("*.py")
        if re.search(r"failpoints\.arm\b|failpoints import .*\barm\b", path.read_text())
    ]

    assert arming == []
