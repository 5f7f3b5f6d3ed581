"""Test clocks: time that callers move, forwards only."""

from __future__ import annotations

from typing import Final

import asyncpg

from creditd.domain.accounts import TestClock
from creditd.domain.errors import AlreadyExists, FailedPrecondition, NotFound
from creditd.ledger.connection import Connections
from creditd.ledger.queries import load

_SQL: Final = load("clocks")


async def create(connections: Connections, clock: TestClock) -> None:
    """See `Ledger.create_clock`."""
    async with connections.session() as connection:
        inserted = await connection.fetchval(_SQL["insert"], clock.id, clock.now)
    if inserted is None:
        raise AlreadyExists(
            f"test clock {clock.id!r} exists", metadata={"kind": "test clock", "key": clock.id}
        )


async def get(connections: Connections, clock_id: str) -> TestClock | None:
    """See `Ledger.get_clock`."""
    async with connections.session() as connection:
        now = await connection.fetchval(_SQL["get"], clock_id)
    return None if now is None else TestClock(clock_id, now)


async def advance(connections: Connections, clock_id: str, now: int) -> TestClock:
    """See `Ledger.advance_clock`."""
    async with connections.session() as connection:
        advanced = await connection.fetchval(_SQL["advance"], clock_id, now)
        if advanced is not None:
            return TestClock(clock_id, advanced)
        present = await connection.fetchval(_SQL["get"], clock_id)
    if present is None:
        raise NotFound("test clock", clock_id)
    raise FailedPrecondition(
        f"test clock {clock_id!r} is at {present} ms already; it only moves forwards",
        reason="CLOCK_BACKWARDS",
        metadata={"now": str(present)},
    )


async def delete(connections: Connections, clock_id: str) -> None:
    """See `Ledger.delete_clock`."""
    try:
        async with connections.session() as connection:
            deleted = await connection.fetchval(_SQL["delete"], clock_id)
    except asyncpg.ForeignKeyViolationError as error:
        raise FailedPrecondition(f"accounts are on test clock {clock_id!r}", reason="CLOCK_IN_USE") from error
    if deleted is None:
        raise NotFound("test clock", clock_id)
