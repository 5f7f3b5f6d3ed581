"""Connections to PostgreSQL, and the one place where a driver's error becomes a domain error.

The pool serves everything but appends. Appends have a connection of their own (`Line`), so that a
flight never waits for a free connection behind loads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from creditd.domain.errors import InvalidArgument, Unavailable

CONNECT_TIMEOUT_S: Final = 5.0

Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"
Pool: TypeAlias = "asyncpg.Pool"

AWAY: Final = (
    asyncpg.PostgresConnectionError,
    # Shutdown, crash recovery, a cancelled statement.
    asyncpg.exceptions.OperatorInterventionError,
    # No connection, memory or disk left.
    asyncpg.exceptions.InsufficientResourcesError,
    # Deadlock or serialization failure: nothing was done, trying again is right.
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    # The driver's own: connection lost, pool closed, a goodbye of the server between two statements.
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.TargetServerAttributeNotMatched,
    OSError,
    TimeoutError,
)
"""What means that the database is away or the outcome unknown."""

DEMOTED: Final = (asyncpg.ReadOnlySQLTransactionError, asyncpg.exceptions.AdminShutdownError)
"""What a primary says that is one no longer: all connections to it are useless."""


@contextmanager
def mapped() -> Iterator[None]:
    """Turn the driver's errors into the domain's, but for violated constraints, which have a meaning.

    Raises:
        Unavailable: the database is away, or failed in a way that is nobody's request's fault.
        InvalidArgument: a value can't be stored: a NUL in a text, a number beyond 64 bits.
    """
    try:
        yield
    except AWAY as error:
        raise Unavailable(
            f"the ledger is away or did not answer in time ({type(error).__name__})",
            metadata={"store": "ledger"},
        ) from error
    except asyncpg.DataError as error:
        raise InvalidArgument(f"the ledger can't store the request: {error}") from error
    except asyncpg.IntegrityConstraintViolationError:
        raise
    except asyncpg.PostgresError as error:
        raise Unavailable(
            f"the ledger failed ({type(error).__name__})",
            metadata={"store": "ledger", "sqlstate": str(error.sqlstate)},
        ) from error


class _Pooled(asyncpg.Connection):
    """A connection that needs no reset between uses: nothing here changes a session's state."""

    def get_reset_query(self) -> str:
        """Nothing to run: spares a round trip each time that a connection returns to the pool."""
        return ""


class Connections:
    """The pool, and how to open a connection beside it, with the session settings that the protocol needs."""

    def __init__(self, dsn: str, pool: Pool, settings: dict[str, Any], *, loans_max: int) -> None:
        self._dsn = dsn
        self._pool = pool
        # A borrower may read through the pool itself: if all of it were lent, everybody would wait for everybody.
        self._loans = asyncio.Semaphore(loans_max)
        self._settings = settings
        self._timeout_s: float = settings["command_timeout"]

    @classmethod
    async def open(cls, dsn: str, *, pool_min: int, pool_max: int, timeout_s: float) -> Connections:
        """Connect; `timeout_s` bounds each statement, each wait for a connection, each idle transaction.

        Raises:
            Unavailable: the database is away.
        """
        settings: dict[str, Any] = {
            "timeout": timeout_s,
            "command_timeout": timeout_s,
            "server_settings": {
                "application_name": "creditd",
                # The fence rests on each statement seeing what was committed before it; a stricter level
                # set for the role or the database would let a load miss an append that it waited for.
                "default_transaction_isolation": "read committed",
                # A process that stalls must not hold the head of an account for long.
                "idle_in_transaction_session_timeout": str(round(timeout_s * 1000)),
            },
        }
        with mapped():
            pool = await asyncpg.create_pool(
                dsn, min_size=pool_min, max_size=pool_max, connection_class=_Pooled, **settings
            )
        return cls(dsn, pool, settings, loans_max=max(1, pool_max - 1))

    async def close(self) -> None:
        """Close the pool: waits a little for what is running, then cuts it off."""
        try:
            await asyncio.wait_for(self._pool.close(), self._timeout_s)
        except AWAY:
            self._pool.terminate()

    @asynccontextmanager
    async def mapped(self) -> AsyncIterator[None]:
        """`mapped`, giving up the pool's connections when the server is no primary any more."""
        try:
            with mapped():
                yield
        except Unavailable as error:
            if isinstance(error.__cause__, DEMOTED):
                await self._pool.expire_connections()
            raise

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A pool's connection, errors mapped."""
        async with self.mapped(), self._pool.acquire(timeout=self._timeout_s) as connection:
            try:
                yield connection
            except asyncio.CancelledError:
                # Its reply may still be on the way: never use it again.
                connection.terminate()
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction that commits at a clean end, errors mapped."""
        async with self.session() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A read-only transaction whose statements all see the same instant, errors mapped."""
        async with (
            self.session() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction for a body that is not this package's: its errors pass as they are.

        Only beginning and committing map errors; it commits at a clean end.
        """
        async with self.mapped():
            await asyncio.wait_for(self._loans.acquire(), self._timeout_s)
        try:
            async with self._borrowed() as connection:
                yield connection
        finally:
            self._loans.release()

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        async with self.mapped():
            connection = await self._pool.acquire(timeout=self._timeout_s)
        try:
            transaction = connection.transaction()
            async with self.mapped():
                await transaction.start()
            try:
                yield connection
            except asyncio.CancelledError:
                # A statement may be under way: never use it again. The server rolls back by itself.
                connection.terminate()
                raise
            except BaseException:
                with suppress(*AWAY):
                    await transaction.rollback()
                raise
            async with self.mapped():
                await transaction.commit()
        finally:
            with suppress(*AWAY):
                await self._pool.release(connection)

    async def extra(self, **server_settings: str) -> asyncpg.Connection:
        """A connection beside the pool; errors as they come."""
        settings = dict(self._settings)
        settings["server_settings"] = settings["server_settings"] | server_settings
        return await asyncpg.connect(self._dsn, **settings)


class Line:
    """One connection for one thing at a time, opened when first needed and again after a failure."""

    def __init__(self, connections: Connections, **server_settings: str) -> None:
        self._connections = connections
        self._server_settings = server_settings
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection, alone; whatever goes wrong drops it. Errors mapped."""
        async with self._turn, self._connections.mapped():
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await self._connections.extra(**self._server_settings)
            try:
                yield connection
            except BaseException:
                # A cancelled wait may have left a reply on the way: never use it again.
                self._connection = None
                connection.terminate()
                raise

    async def close(self) -> None:
        """Close the connection after what is running on it."""
        async with self._turn:
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
