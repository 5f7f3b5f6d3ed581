"""Group commit: everything that was decided while one flight was in the air goes with the next.

No timer: when idle, a unit flies at once and alone. A unit that was handed over is brought to an end whatever
becomes of its caller: landed, or turned away and cleaned up in the hot store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from creditd.domain.entries import Entry, tombstone
from creditd.domain.errors import Overloaded, Unavailable
from creditd.engine import failpoints
from creditd.engine.histogram import Histogram
from creditd.engine.hold_entries import works_on_hold
from creditd.hot.connection import HotUnavailable
from creditd.hot.keys import bucket_of
from creditd.hot.store import HotStore
from creditd.ledger.append import Duplicate, Landed, Outcome, Unit

_log = logging.getLogger(__name__)

PENDING_MAX: Final = 20_000
"""Units that may wait for the ledger; beyond, new operations are refused before they are decided."""

RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Pauses between attempts while the ledger is away; the last one repeats."""

Append = Callable[[Sequence[Unit]], Awaitable[list[Outcome]]]


@dataclass(slots=True)
class _Pending:
    unit_id: str
    unit: Unit
    done: asyncio.Future[Outcome]


@dataclass(slots=True)
class CommitMeters:
    """What the ledger has answered since the start, and what the last flight was; latencies of the ledger alone."""

    units: int = 0
    flights: int = 0
    failed_attempts: int = 0
    last_units: int = 0
    last_s: float = 0.0
    latency: Histogram = field(default_factory=Histogram)

    def landed(self, units: int, seconds: float) -> None:
        """Count a flight that was answered."""
        self.units += units
        self.flights += 1
        self.last_units, self.last_s = units, seconds
        self.latency.note(seconds)


def unit_id_of(unit: Unit) -> str:
    """A unit goes by the id of its first entry."""
    return unit.entries[0].id


class Committer:
    """Brings decided units into the ledger, one flight at a time.

    `on_landed` is told of each entry that has landed; `landed` counts them.
    """

    def __init__(
        self,
        append: Append,
        hot: HotStore,
        *,
        flight_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._append = append
        self._hot = hot
        self._flight_max = flight_max
        self._clock = clock
        self._pending: dict[str, _Pending] = {}
        self._queue: list[_Pending] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._side_tasks: set[asyncio.Task[None]] = set()
        self.on_landed: Callable[[Entry], None] = _ignore
        self.landed = 0
        self.meters = CommitMeters()

    def start(self) -> None:
        """Begin flying; needs a running loop."""
        self._task = asyncio.create_task(self._fly(), name="group-commit")

    async def close(self) -> None:
        """Land what is pending, as far as the ledger answers, then stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._side_tasks:
            await asyncio.gather(*self._side_tasks, return_exceptions=True)

    @property
    def depth(self) -> int:
        """Units that are on their way to the ledger."""
        return len(self._pending)

    def admit(self) -> None:
        """Raise Overloaded when too many units wait for the ledger already."""
        if len(self._pending) >= PENDING_MAX:
            raise Overloaded("too many operations wait for the ledger", retry_after_ms=500)

    def submit(self, unit: Unit) -> asyncio.Future[Outcome]:
        """Hand a unit over. The same unit handed over twice flies once; both get its outcome.

        The future must be awaited shielded: it may have several waiters.
        """
        unit_id = unit_id_of(unit)
        pending = self._pending.get(unit_id)
        if pending is None:
            pending = _Pending(unit_id, unit, asyncio.get_running_loop().create_future())
            self._pending[unit_id] = pending
            self._queue.append(pending)
            self._wake.set()
        return pending.done

    def knows(self, unit_id: str) -> bool:
        """Whether the unit is on its way already."""
        return unit_id in self._pending

    async def _fly(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                flight = self._board()
                outcomes = await self._land(flight)
                if outcomes is None:
                    return
                self._settle(flight, outcomes)
            if self._closing:
                return

    def _board(self) -> list[_Pending]:
        flight, self._queue = self._queue[: self._flight_max], self._queue[self._flight_max :]
        return flight

    async def _land(self, flight: list[_Pending]) -> list[Outcome] | None:
        units = [pending.unit for pending in flight]
        attempt = 0
        while True:
            began = self._clock()
            try:
                outcomes = await self._append(units)
                failpoints.reach(failpoints.AFTER_COMMIT)
            except Exception as error:  # noqa: BLE001 - whatever it was, the group commit must go on
                # The outcome is unknown: the same units again find out. Their callers wait as long as they can.
                self.meters.failed_attempts += 1
                if self._closing:
                    _log.warning("stopping with units not in the ledger", extra={"units": len(units)})
                    for pending in flight:
                        self._finish(pending, Unavailable("stopped before the ledger answered"))
                    return None
                if attempt == 0:
                    unforeseen = None if isinstance(error, Unavailable) else error
                    _log.warning(
                        "the ledger is away",
                        extra={"error": str(error), "units": len(units)},
                        exc_info=unforeseen,
                    )
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
            else:
                self.meters.landed(len(units), self._clock() - began)
                return outcomes

    def _settle(self, flight: list[_Pending], outcomes: Sequence[Outcome]) -> None:
        cleared: dict[int, list[str]] = defaultdict(list)
        for pending, outcome in zip(flight, outcomes, strict=True):
            if isinstance(outcome, Landed):
                self.landed += len(pending.unit.entries)
                for entry in pending.unit.entries:
                    self.on_landed(entry)
                cleared[bucket_of(pending.unit.account)].append(pending.unit_id)
                self._finish(pending, outcome)
            else:
                self._aside(self._clean_up(pending, outcome))
        for bucket, unit_ids in cleared.items():
            self._aside(self._clear(bucket, unit_ids))

    def _finish(self, pending: _Pending, outcome: Outcome | Unavailable) -> None:
        self._pending.pop(pending.unit_id, None)
        if pending.done.done():
            return
        if isinstance(outcome, Unavailable):
            pending.done.set_exception(outcome)
            pending.done.exception()  # nobody may be waiting any more
        else:
            pending.done.set_result(outcome)

    async def _clear(self, bucket: int, unit_ids: list[str]) -> None:
        failpoints.reach(failpoints.BEFORE_CLEAR)
        try:
            await self._hot.clear(bucket, unit_ids)
        except HotUnavailable:
            # They stay in the outbox; the reaper finds them in the ledger.
            _log.debug("outbox not cleared", extra={"units": len(unit_ids)})

    async def _clean_up(self, pending: _Pending, outcome: Outcome) -> None:
        """Undo in the hot store what the ledger turned away, before its caller decides again."""
        unit = pending.unit
        try:
            if isinstance(outcome, Duplicate):
                await self._append([_tombstones(unit)])
                if not any(map(works_on_hold, unit.entries)):
                    await self._hot.give_back(unit.account, unit.epoch, pending.unit_id, unit.entries)
                    return
            # Of a hold that was open before, only a load knows how it was.
            keys = [entry.idempotency_key for entry in unit.entries if entry.idempotency_key]
            await self._hot.drop(unit.account, unit.epoch, pending.unit_id, keys)
        except Unavailable:
            # The unit stays in the outbox and the reaper tries again; nothing that it took is lost for good.
            _log.info("clean-up put off", extra={"unit": pending.unit_id})
        finally:
            self._finish(pending, outcome)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)


def _ignore(_entry: Entry) -> None:
    pass


def _tombstones(unit: Unit) -> Unit:
    """Entries without effect in the places of a unit that a late replay had taken."""
    return Unit(
        account=unit.account,
        epoch=unit.epoch,
        depends=0,
        entries=tuple(
            tombstone(entry.account, entry.sequence, entry.at, unit.epoch) for entry in unit.entries
        ),
    )
