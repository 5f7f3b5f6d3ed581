"""One seed from beginning to end."""

from __future__ import annotations

import gc
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulator.loop import Stuck
from tests.simulator.valkey import EmbeddedStores, RealValkey, Stores
from tests.simulator.verdict import Verdict
from tests.simulator.world import World

from creditd.hot import keys, store

BUCKETS = 4
"""Fewer than in production, so that accounts share an outbox, and a sweep costs little."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a seed has come to. `digest` is that of the trace: the same for the same seed and code."""

    seed: int
    violations: tuple[str, ...]
    digest: str
    tail: tuple[str, ...]
    simulated_s: float
    steps: int
    acked: int
    entries: int
    counts: dict[str, int]


def run(seed: int, ops: int, stores: Stores) -> Result:
    """Live one seed's life and judge it."""
    with _small(), _quiet():
        world = World(seed, ops, stores)

        try:
            world.loop.run(_life(world))
        except Stuck as error:
            world.violation(f"stuck: {error}")
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            world.violation(f"the world ended: {error!r} in {where.filename}:{where.lineno}")
        for problem in world.loop.unhandled:
            world.violation(f"unhandled: {problem}")
        result = Result(
            seed=seed,
            violations=tuple(world.violations),
            digest=world.digest.hexdigest(),
            tail=tuple(world.tail),
            simulated_s=world.loop.now,
            steps=world.loop.steps,
            acked=sum(intent.acked for intent in world.wishes.all),
            entries=sum(len(record.entries) for record in world.postgres.records.values()),
            counts=dict(world.counts),
        )
        world.close()
        del world
        if seed % 4 == 0:
            gc.collect()
    return result


async def _life(world: World) -> None:
    await world.live()
    await Verdict(world).judge()


def run_some(seeds: range, ops: int, valkey: bool) -> list[Result]:
    """Seeds one after the other, on a real Valkey or on the embedded Lua."""
    stores: Stores = RealValkey() if valkey else EmbeddedStores()
    with stores:
        return [run(seed, ops, stores) for seed in seeds]


@contextmanager
def _small() -> Iterator[None]:
    before = keys.BUCKETS, store.BUCKETS
    keys.BUCKETS = store.BUCKETS = BUCKETS  # type: ignore[misc]
    try:
        yield
    finally:
        keys.BUCKETS, store.BUCKETS = before  # type: ignore[misc]


@contextmanager
def _quiet() -> Iterator[None]:
    """Outages are what is simulated: nobody wants to read of them, nor of what dead processes leave behind.

    Garbage is collected at the end, not in between: what is taken apart runs its handlers.
    """
    disabled, hook = logging.root.manager.disable, sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _problem: None
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()
        sys.unraisablehook = hook
        logging.disable(disabled)
