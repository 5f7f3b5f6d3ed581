"""PostgreSQL in memory, as far as creditd's statements go: transactions, row locks, READ COMMITTED, lost connections.

What runs on it is the real `creditd.ledger`, down to its use of asyncpg: `Pool` and `Connection` have the parts of
asyncpg that are used, and raise its errors. A statement arrives, may wait for a lock, is carried out and answered, each
at an instant of its own; it goes on when its caller has gone. `statements.py` says what each query does, and
`test_conformance.py` holds it against the real server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Self

import asyncpg
from tests.simulator.loop import SimLoop
from tests.simulator.weather import Fate, Weather

from creditd.ledger.connection import Connections

Table = dict[Any, Any]


class Record:
    """All rows of one account that are only changed under the lock of its head, and its entries."""

    __slots__ = (
        "account",
        "budgets",
        "committed",
        "entries",
        "epoch",
        "grants",
        "keys",
        "nonce",
        "overrides",
        "subscriptions",
        "versions",
    )

    def __init__(self) -> None:
        self.account: tuple[Any, ...] | None = None
        self.epoch: int | None = None
        self.nonce = 0
        self.entries: dict[int, Any] = {}
        self.committed: dict[int, int] = {}
        self.keys: dict[str, int] = {}
        self.subscriptions: Table = {}
        self.overrides: Table = {}
        self.budgets: Table = {}
        self.grants: Table = {}
        self.versions: Table = {}

    def copy(self) -> Record:
        made = Record()
        made.account, made.epoch, made.nonce = self.account, self.epoch, self.nonce
        made.entries, made.committed, made.keys = self.entries.copy(), self.committed.copy(), self.keys.copy()
        made.subscriptions, made.overrides = self.subscriptions.copy(), self.overrides.copy()
        made.budgets, made.grants, made.versions = (
            self.budgets.copy(),
            self.grants.copy(),
            self.versions.copy(),
        )
        return made


class Want:
    """Yielded by a statement that needs a row's lock: `shared` as FOR SHARE does, else as an UPDATE does."""

    __slots__ = ("key", "shared")

    def __init__(self, key: Any, *, shared: bool = False) -> None:
        self.key = key
        self.shared = shared


class _Lock:
    __slots__ = ("owner", "queue", "sharers")

    def __init__(self) -> None:
        self.owner: Transaction | None = None
        self.sharers: list[Transaction] = []
        self.queue: deque[_Running] = deque()


class Transaction:
    """What a transaction has written, locked, and may see."""

    def __init__(self, server: Server, *, snapshot: bool = False) -> None:
        self.server = server
        self.failed = False
        self.wants_snapshot = snapshot
        self.snapshot: tuple[dict[str, Record], dict[str, Table]] | None = None
        self.records: dict[str, Record] = {}
        self.tables: dict[str, Table] = {}
        self.locks: list[Any] = []

    def record(self, account: str) -> Record | None:
        """An account as the transaction sees it."""
        own = self.records.get(account)
        if own is not None:
            return own
        records = self.server.records if self.snapshot is None else self.snapshot[0]
        return records.get(account)

    def changing(self, account: str) -> Record:
        """An account to change; its head's lock is held."""
        own = self.records.get(account)
        if own is None:
            present = self.server.records.get(account)
            own = self.records[account] = Record() if present is None else present.copy()
        return own

    def rows(self, table: str) -> Table:
        """A table as the transaction sees it."""
        base = self.server.tables[table] if self.snapshot is None else self.snapshot[1][table]
        own = self.tables.get(table)
        return base if own is None else {**base, **own}

    def put(self, table: str, key: Any, value: Any) -> None:
        """Write a row."""
        self.tables.setdefault(table, {})[key] = value

    def begin_statement(self) -> None:
        """Take the snapshot with the first statement, when the isolation level asks for one."""
        if self.wants_snapshot and self.snapshot is None:
            server = self.server
            self.snapshot = (
                {account: record.copy() for account, record in server.records.items()},
                {name: dict(table) for name, table in server.tables.items()},
            )


class _Running:
    """A statement on the server."""

    __slots__ = ("done", "generator", "lock", "session", "single", "transaction", "want")

    def __init__(self, session: Session, done: Callable[[Any], None]) -> None:
        self.session = session
        self.done = done
        self.generator: Generator[Any, None, Any] | None = None
        self.transaction: Transaction | None = None
        self.single = False
        self.lock: _Lock | None = None
        self.want: Want | None = None


class Session:
    """A backend. `running` is the statement that it is at."""

    __slots__ = ("closed", "idle_since", "running", "server", "transaction")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transaction: Transaction | None = None
        self.running: _Running | None = None
        self.closed = False
        self.idle_since = 0.0


class Server:
    """The database server. `handlers` maps a query's text to its name and what it does."""

    def __init__(
        self,
        loop: SimLoop,
        weather: Weather,
        outside: Context,
        trace: Callable[..., None],
        handlers: dict[str, tuple[str, Callable[..., Any]]],
        *,
        timeout_s: float,
    ) -> None:
        self.loop = loop
        self.weather = weather
        self.outside = outside
        self.trace = trace
        self.handlers = handlers
        self.timeout_s = timeout_s
        self.down = False
        self.read_only = False
        self.records: dict[str, Record] = {}
        self.tables: dict[str, Table] = {
            name: {} for name in ("checkpoints", "catalogs", "plans", "promotions", "redemptions")
        }
        self.commits = 0
        self.connected = 0
        # What loads read of entries, which never change, by account and entry id.
        self.parts: dict[tuple[str, str, int], Any] = {}
        self.sessions: set[Session] = set()
        self.connections: dict[Session, Connection] = {}
        self.on_committed: Callable[[str, int], None] = lambda _account, _sequence: None
        self._locks: dict[Any, _Lock] = {}

    # Statements.

    def start(
        self, session: Session, name: str, work: Callable[..., Any], args: Any, done: Callable[[Any], None]
    ) -> None:
        """Carry out a statement that has arrived; `done` is told its result, or an error."""
        if session.closed:
            done(asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"))
            return
        running = _Running(session, done)
        session.running = running
        if name in {"commit", "rollback"}:
            self._end(session, commit=name == "commit")
            self._finish(running, None)
            return
        if session.transaction is None:
            running.transaction, running.single = Transaction(self), True
        else:
            running.transaction = session.transaction
        if running.transaction.failed:
            self._fail(
                running, asyncpg.exceptions.InFailedSQLTransactionError("current transaction is aborted")
            )
            return
        if self.read_only and name in WRITES:
            self._fail(
                running, asyncpg.ReadOnlySQLTransactionError("cannot execute in a read-only transaction")
            )
            return
        running.transaction.begin_statement()
        try:
            found = work(running.transaction, *args)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._fail(running, error)
            return
        if not isinstance(found, Generator):
            self._finish(running, found)
            return
        running.generator = found
        self._drive(running)

    def _drive(self, running: _Running) -> None:
        """Take a statement on to where it has to wait, or to its end."""
        generator, transaction = running.generator, running.transaction
        if generator is None or transaction is None:
            raise TypeError("not a statement with steps")
        running.lock = running.want = None
        while True:
            try:
                want = next(generator)
            except StopIteration as end:
                self._finish(running, end.value)
                return
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._fail(running, error)
                return
            if isinstance(want, float):
                self.loop.call_later(want, self._drive, running, context=self.outside)
                return
            if not self.acquire(transaction, want):
                lock = self._locks[want.key]
                running.lock, running.want = lock, want
                lock.queue.append(running)
                self._end_idle(lock)
                return

    def acquire(self, transaction: Transaction, want: Want) -> bool:
        """Take a row's lock if it is free; with `shared` whoever waits for it is passed by, as in PostgreSQL."""
        lock = self._locks.get(want.key)
        if lock is None:
            lock = self._locks[want.key] = _Lock()
        if lock.owner is transaction:
            return True
        if lock.owner is not None:
            return False
        if want.shared:
            lock.sharers.append(transaction)
        elif any(sharer is not transaction for sharer in lock.sharers):
            return False
        else:
            lock.owner = transaction
        transaction.locks.append(want.key)
        return True

    def _finish(self, running: _Running, result: Any) -> None:
        session = running.session
        session.running = None
        session.idle_since = self.loop.now
        if running.single and running.transaction is not None:
            self._commit(running.transaction)
        if session.closed:
            self._end(session, commit=False)
        running.done(result)

    def _fail(self, running: _Running, error: BaseException) -> None:
        session = running.session
        session.running = None
        session.idle_since = self.loop.now
        if running.transaction is not None:
            if running.single:
                self._release(running.transaction)
            else:
                # The locks of a failed transaction go with its rollback.
                running.transaction.failed = True
        if session.closed:
            self._end(session, commit=False)
        running.done(error)

    def _end(self, session: Session, *, commit: bool) -> None:
        transaction, session.transaction = session.transaction, None
        if transaction is None:
            return
        if commit and not transaction.failed:
            self._commit(transaction)
        else:
            self._release(transaction)

    def _commit(self, transaction: Transaction) -> None:
        self.commits += 1
        for account, record in transaction.records.items():
            self.records[account] = record
            if len(record.committed) != len(record.entries):
                for sequence in [each for each in record.entries if each not in record.committed]:
                    record.committed[sequence] = self.commits
                    self.on_committed(account, sequence)
        for name, rows in transaction.tables.items():
            table = self.tables[name]
            for key, row in rows.items():
                if name == "checkpoints" and key in table and table[key][0] >= row[0]:
                    continue
                if row is None:
                    table.pop(key, None)
                else:
                    table[key] = row
        self._release(transaction)

    def _release(self, transaction: Transaction) -> None:
        for key in transaction.locks:
            lock = self._locks[key]
            if lock.owner is transaction:
                lock.owner = None
            lock.sharers = [each for each in lock.sharers if each is not transaction]
        locks, transaction.locks = transaction.locks, []
        for key in locks:
            lock = self._locks[key]
            while lock.queue:
                waiting = lock.queue[0]
                if waiting.transaction is None or waiting.want is None:
                    lock.queue.popleft()
                    continue
                if not self.acquire(waiting.transaction, waiting.want):
                    break
                lock.queue.popleft()
                waiting.lock = waiting.want = None
                self.loop.call_soon(self._drive, waiting, context=self.outside)

    def cancel(self, session: Session) -> None:
        """The caller waits no longer: a statement that waits for a lock is broken off."""
        running = session.running
        if running is not None and running.lock is not None:
            running.lock.queue.remove(running)
            running.lock = running.want = None
            if running.generator is not None:
                running.generator.close()
            self._fail(running, asyncpg.QueryCanceledError("canceling statement due to user request"))

    def hang_up(self, session: Session) -> None:
        """The server learns that a connection is gone: its transaction is rolled back, after what it is at."""
        if session.closed:
            return
        session.closed = True
        self.sessions.discard(session)
        self.connections.pop(session, None)
        self.cancel(session)
        if session.running is None:
            self._end(session, commit=False)

    def _end_idle(self, lock: _Lock) -> None:
        """Sessions that hold a lock that others wait for, and do nothing, are ended in time."""
        holders = [lock.owner, *lock.sharers]
        for session in list(self.sessions):
            if session.transaction is not None and session.transaction in holders and session.running is None:
                left = max(0.0, session.idle_since + self.timeout_s - self.loop.now)
                self.loop.call_later(left, self._end_if_idle, session, context=self.outside)

    def _end_if_idle(self, session: Session) -> None:
        if session.closed or session.running is not None or session.transaction is None:
            return
        if self.loop.now - session.idle_since < self.timeout_s - 1e-9:
            left = session.idle_since + self.timeout_s - self.loop.now
            self.loop.call_later(left, self._end_if_idle, session, context=self.outside)
            return
        self.trace("postgres", "idle transaction ended")
        self._break(session)

    def _break(self, session: Session) -> None:
        connection = self.connections.get(session)
        self.hang_up(session)
        if connection is not None:
            connection.broken()

    def drop_all(self, *, finish: bool) -> None:
        """All connections go, as when the server is restarted; what is under way ends (`finish`) or never was."""
        for session in sorted(self.sessions, key=lambda each: self.connections[each].number):
            running = session.running
            if running is not None and not finish and running.lock is None:
                running.generator = _nothing()
                if running.transaction is not None:
                    running.transaction.records.clear()
                    running.transaction.tables.clear()
            self._break(session)


def _nothing() -> Generator[Any, None, Any]:
    raise asyncpg.exceptions.AdminShutdownError("terminating connection due to administrator command")
    yield


WRITES: set[str] = set()
"""The names of the queries that write; `statements.py` fills it."""


class Connection:
    """As much of `asyncpg.Connection` as the ledger uses."""

    def __init__(self, server: Server, number: int) -> None:
        self.number = number
        self._server = server
        self._session = Session(server)
        self._closed = False
        self._waiting: asyncio.Future[Any] | None = None
        self._answered: asyncio.Future[None] | None = None
        server.sessions.add(self._session)
        server.connections[self._session] = self

    def is_closed(self) -> bool:
        return self._closed

    def is_in_transaction(self) -> bool:
        return self._session.transaction is not None

    def terminate(self) -> None:
        """Close at once; the server learns of it a little later."""
        if not self._closed:
            self._closed = True
            server = self._server
            server.loop.call_later(
                server.weather.delay(), server.hang_up, self._session, context=server.outside
            )

    def broken(self) -> None:
        """The connection is lost; who waits on it is told."""
        self._closed = True
        self._no_longer_busy()
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            waiting.set_exception(
                asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            )

    async def execute(self, query: str, *args: Any) -> str:
        result = await self._run(query, args)
        return result if isinstance(result, str) else "OK"

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        found: list[Any] = await self._run(query, args)
        return found

    async def fetchrow(self, query: str, *args: Any) -> Any:
        rows = await self._run(query, args)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any) -> Any:
        rows = await self._run(query, args)
        return rows[0][0] if rows else None

    def transaction(self, *, isolation: str = "read_committed", readonly: bool = False) -> Block:
        return Block(self, snapshot=isolation == "repeatable_read")

    def begin(self, *, snapshot: bool) -> None:
        """BEGIN does nothing by itself, so that it goes with the first statement."""
        self._must_be_open()
        self._session.transaction = Transaction(self._server, snapshot=snapshot)
        self._session.idle_since = self._server.loop.now

    def _must_be_open(self) -> None:
        if self._closed:
            raise asyncpg.InterfaceError("cannot perform operation: connection is closed")

    async def _run(self, query: str, args: Any) -> Any:
        self._must_be_open()
        server = self._server
        try:
            name, work = server.handlers[query]
        except KeyError:
            raise NotImplementedError(f"the simulator does not know the query {query}") from None
        if self._waiting is not None and not self._waiting.done():
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")
        loop, _weather = server.loop, server.weather
        waiting = self._waiting = loop.create_future()
        timer = loop.call_later(server.timeout_s, self._time_out, waiting)
        try:
            if self._answered is not None and not self._answered.done():
                # A statement that was given up is still there: nothing overtakes it on its connection.
                await asyncio.wait({waiting, self._answered}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                self._must_be_open()
                self._send(name, work, args, waiting)
            return await waiting
        finally:
            timer.cancel()

    def _send(self, name: str, work: Callable[..., Any], args: Any, waiting: asyncio.Future[Any]) -> None:
        server = self._server
        loop, weather = server.loop, server.weather
        self._answered = loop.create_future()
        fate = weather.fate(weather.ledger)
        if fate is not Fate.FINE:
            server.trace("ledger", self.number, name, fate.name)
        there = weather.long_delay() if fate in {Fate.SLOW, Fate.LATE} else weather.delay()
        if fate is Fate.LOST:
            loop.call_later(there, server._break, self._session, context=server.outside)
        elif fate is Fate.REFUSED:
            loop.call_later(there, self._refuse, waiting, context=server.outside)
        else:
            loop.call_later(there, self._arrive, name, work, args, waiting, fate, context=server.outside)
        if fate is Fate.LATE:
            loop.call_later(weather.delay(), self.broken, context=server.outside)

    def _arrive(
        self, name: str, work: Callable[..., Any], args: Any, waiting: asyncio.Future[Any], fate: Fate
    ) -> None:
        server, session = self._server, self._session

        def done(result: Any) -> None:
            self._no_longer_busy()
            if fate is Fate.UNANSWERED:
                server._break(session)
            elif fate is Fate.LATE:
                server.hang_up(session)
            elif not waiting.done():
                back = server.weather.long_delay() if fate is Fate.SLOW else server.weather.delay()
                server.loop.call_later(back, _reply, waiting, result, context=server.outside)

        server.start(session, name, work, args, done)

    def _no_longer_busy(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _refuse(self, waiting: asyncio.Future[Any]) -> None:
        """Nothing was done; a transaction is aborted."""
        server, session = self._server, self._session
        self._no_longer_busy()
        if session.transaction is not None:
            session.transaction.failed = True
        errors = (
            asyncpg.exceptions.DeadlockDetectedError("deadlock detected"),
            asyncpg.exceptions.DiskFullError("could not extend file"),
            asyncpg.exceptions.SerializationError("could not serialize access"),
        )
        _reply(waiting, server.weather.one_of(errors))

    def _time_out(self, waiting: asyncio.Future[Any]) -> None:
        """The driver asks the server to break the statement off, and tells its caller."""
        if not waiting.done():
            self._server.trace("ledger", self.number, "timed out")
            waiting.set_exception(TimeoutError())
            self._server.cancel(self._session)


def _reply(waiting: asyncio.Future[Any], result: Any) -> None:
    if waiting.done():
        return
    if isinstance(result, BaseException):
        waiting.set_exception(result)
    else:
        waiting.set_result(result)


class Block:
    """As much of asyncpg's `Transaction`."""

    def __init__(self, connection: Connection, *, snapshot: bool) -> None:
        self._connection = connection
        self._snapshot = snapshot

    async def start(self) -> None:
        self._connection.begin(snapshot=self._snapshot)

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, *_more: object) -> None:
        if kind is None:
            await self.commit()
        elif not self._connection.is_closed():
            await self.rollback()


class Pool:
    """As much of `asyncpg.Pool`: at most `most` connections, made when needed."""

    def __init__(self, server: Server, *, most: int) -> None:
        self._server = server
        self._idle: list[Connection] = []
        self._made: list[Connection] = []
        self._places = asyncio.Semaphore(most)

    def acquire(self, *, timeout: float | None = None) -> _Acquire:
        return _Acquire(self, timeout)

    async def take(self, timeout: float | None) -> Connection:
        if self._places.locked():
            await asyncio.wait_for(self._places.acquire(), timeout)
        else:
            await self._places.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            connection = await self.connect()
        except BaseException:
            self._places.release()
            raise
        self._made = [each for each in self._made if not each.is_closed()]
        self._made.append(connection)
        return connection

    async def release(self, connection: Connection) -> None:
        try:
            if not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("ROLLBACK")
        except BaseException:
            connection.terminate()
            raise
        finally:
            if not connection.is_closed():
                self._idle.append(connection)
            self._places.release()

    async def connect(self) -> Connection:
        """A new connection."""
        server = self._server
        await asyncio.sleep(server.weather.delay())
        if server.down:
            raise ConnectionRefusedError("connection refused")
        server.connected += 1
        return Connection(server, server.connected)

    async def expire_connections(self) -> None:
        for connection in self._idle:
            connection.terminate()

    async def close(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        for connection in self._made:
            connection.terminate()


class _Acquire:
    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._pool.take(self._timeout).__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.take(self._timeout)
        return self._connection

    async def __aexit__(self, *_why: object) -> None:
        if self._connection is not None:
            await self._pool.release(self._connection)


class SimConnections(Connections):
    """The ledger's own `Connections` on the simulated server."""

    def __init__(self, server: Server, *, pool_max: int) -> None:
        self.pool = Pool(server, most=pool_max)
        settings = {"command_timeout": server.timeout_s, "server_settings": {}}
        super().__init__("", self.pool, settings, loans_max=max(1, pool_max - 1))
        self._server = server
        self.lines: list[Connection] = []

    async def extra(self, **_settings: str) -> Any:
        connection = await self.pool.connect()
        self.lines = [each for each in self.lines if not each.is_closed()]
        self.lines.append(connection)
        return connection

    def crashed(self, after: Callable[[], float]) -> None:
        """The process is gone: the server learns of it connection by connection."""
        server = self._server
        for connection in (*self.pool._made, *self.lines):
            server.loop.call_later(after(), server.hang_up, connection._session, context=server.outside)
