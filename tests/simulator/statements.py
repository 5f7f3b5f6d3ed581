"""What each query of `creditd.ledger.sql` does, on the simulated server: the SQL said a second time in Python.

Queries are known by their file and name; one that is not here is refused loudly when it is run. A handler gets the
transaction and the query's arguments, and yields where the server would wait: a `Want` for a row's lock, a number of
seconds for work that others may come between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import asyncpg
import orjson
from tests.simulator.postgres import WRITES, Transaction, Want

from creditd.ledger.queries import load
from creditd.ledger.rows import COLUMNS

HANDLERS: dict[tuple[str, str], Callable[..., Any]] = {}
_COLUMNS = len(COLUMNS)
_ACCOUNT, _SEQUENCE, _ID, _KIND, _AT, _CREDIT = range(6)
_FEATURE, _SUBJECT, _KEY = (
    COLUMNS.index("feature"),
    COLUMNS.index("subject"),
    COLUMNS.index("idempotency_key"),
)
_GRANT, _DETAIL = COLUMNS.index("grant_id"), COLUMNS.index("detail")
_REVERSES, _NOTE = COLUMNS.index("reverses"), COLUMNS.index("note")


def record_type(*names: str) -> type[tuple[Any, ...]]:
    """Rows that are read by place and by name, as asyncpg's are."""
    index = {name: place for place, name in enumerate(names)}

    class Rec(tuple[Any, ...]):
        __slots__ = ()

        def __getitem__(self, key: Any) -> Any:
            return tuple.__getitem__(self, index[key] if key.__class__ is str else key)

    return Rec


EntryRow = record_type(*COLUMNS)
_Part = record_type("sequence", "id", "at", "credit", "grant_id", "effects")
_Head = record_type("epoch", "nonce")
_Fence = record_type("account", "epoch", "nonce")
_Account = record_type(
    *("id", "created_at", "policy_version", "revision", "suspended", "archived", "name", "external_id"),
    *("test_clock", "labels", "catalog_version", "subscriptions", "overrides", "budgets"),
)
_Grant = record_type("document", "fingerprint")
_Catalog = record_type("version", "effective_at", "created_at", "note", "document")
_Plan = record_type("key", "document")
_Used = record_type("plan", "plan_version")
_SUBSCRIPTION = (
    *("id", "started_at", "anchor", "cancel_at", "plan_version", "seats", "plan", "status", "external_id"),
    *("add_ons", "trial_ends_at", "pauses_after_trial", "pending"),
)


def query(
    file: str, name: str, *, writes: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function the handler of a query."""

    def keep(work: Callable[..., Any]) -> Callable[..., Any]:
        HANDLERS[file, name] = work
        if writes:
            WRITES.add(f"{file}.{name}")
        return work

    return keep


def by_text() -> dict[str, tuple[str, Callable[..., Any]]]:
    """The handlers by the text of their queries; a query that two files have is the same in both."""
    found: dict[str, tuple[str, Callable[..., Any]]] = {
        "COMMIT": ("commit", _nothing),
        "ROLLBACK": ("rollback", _nothing),
        "SELECT 1": ("ping", lambda _tx: [(1,)]),
    }
    for (file, name), work in HANDLERS.items():
        found[load(file)[name]] = (f"{file}.{name}", work)
    return found


def _nothing(_tx: Transaction) -> None:
    return None


# Entries.


def _depends_holds(entries: dict[int, Any], committed: dict[int, int], sequence: int, before: int) -> bool:
    """The subquery of a dependence: as of the beginning of the statement, there and no tombstone."""
    if sequence == 0:
        return True
    row = entries.get(sequence)
    if row is None or committed.get(sequence, 0) > before:
        return False
    return tuple.__getitem__(row, _NOTE) != "tombstone" or tuple.__getitem__(row, _KIND) != "ADJUST"


@query("append", "append", writes=True)
def append(tx: Transaction, *columns: Sequence[Any]) -> Generator[Any, None, str]:
    return _append(tx, columns, conflicts_fail=False)


@query("append", "append_group", writes=True)
def append_group(tx: Transaction, *columns: Sequence[Any]) -> Generator[Any, None, str]:
    return _append(tx, columns, conflicts_fail=True)


def _append(
    tx: Transaction, columns: Sequence[Sequence[Any]], *, conflicts_fail: bool
) -> Generator[Any, None, str]:
    server = tx.server
    before = server.commits
    rows = list(zip(*columns, strict=True))
    weather = server.weather
    if weather.happens(weather.two_steps):
        yield weather.delay()
    heads: dict[str, tuple[int, int]] = {}
    for account in dict.fromkeys(columns[_ACCOUNT]):
        record = server.records.get(account)
        # SKIP LOCKED: a row that a load holds is as if it were not there.
        if record is None or record.epoch is None:
            continue
        if server.acquire(tx, Want(("head", account), shared=True)):
            # As it is now, not as it was when the statement began.
            heads[account] = (record.epoch, record.nonce)
    if weather.happens(weather.two_steps):
        yield weather.delay()
    landing: list[Any] = []
    taken: set[tuple[str, Any]] = set()
    for row in sorted(fenced(rows, heads), key=lambda each: (each[_ACCOUNT].encode(), each[_SEQUENCE])):
        account, sequence, key = row[_ACCOUNT], row[_SEQUENCE], row[_KEY]
        record = server.records[account]
        if not (
            _depends_holds(record.entries, record.committed, row[_COLUMNS + 2], before)
            and _depends_holds(record.entries, record.committed, row[_COLUMNS + 3], before)
        ):
            continue
        conflicts = sequence in record.entries or (account, sequence) in taken
        if conflicts or (key is not None and (key in record.keys or (account, key) in taken)):
            if conflicts_fail:
                raise asyncpg.UniqueViolationError("duplicate key value violates unique constraint")
            continue
        taken |= {(account, sequence), (account, key)}
        landing.append(row)
    # Written and committed at one instant: whoever inserted the same meanwhile would wait for it, and then see it.
    server.commits += 1
    for row in landing:
        record = server.records[row[_ACCOUNT]]
        _insert(record, row[:_COLUMNS])
        record.committed[row[_SEQUENCE]] = server.commits
        server.on_committed(row[_ACCOUNT], row[_SEQUENCE])
    return f"INSERT 0 {len(landing)}"


def fenced(rows: Sequence[Any], heads: dict[str, tuple[int, int]]) -> list[Any]:
    """The rows whose account's head is of their epoch."""
    return [row for row in rows if heads.get(row[_ACCOUNT]) == (row[_COLUMNS], row[_COLUMNS + 1])]


def _insert(record: Any, row: Sequence[Any]) -> None:
    kept = EntryRow(row)
    record.entries[row[_SEQUENCE]] = kept
    if row[_KEY] is not None:
        record.keys[row[_KEY]] = row[_SEQUENCE]


@query("append", "found_at")
def found_at(tx: Transaction, accounts: Sequence[str], sequences: Sequence[int]) -> list[Any]:
    found = []
    for account, sequence in zip(accounts, sequences, strict=True):
        record = tx.record(account)
        if record is not None and sequence in record.entries:
            found.append((account, sequence, record.entries[sequence]["id"]))
    return found


@query("append", "found_by_key")
def found_by_key(tx: Transaction, accounts: Sequence[str], keys: Sequence[str]) -> list[Any]:
    found = []
    for account, key in zip(accounts, keys, strict=True):
        record = tx.record(account)
        if record is not None and key in record.keys:
            found.append(record.entries[record.keys[key]])
    return found


@query("entries", "insert", writes=True)
def insert_entries(tx: Transaction, *columns: Sequence[Any]) -> str:
    rows = list(zip(*columns, strict=True))
    for row in rows:
        record = tx.changing(row[_ACCOUNT])
        if row[_SEQUENCE] in record.entries or (row[_KEY] is not None and row[_KEY] in record.keys):
            raise asyncpg.UniqueViolationError("duplicate key value violates unique constraint")
        _insert(record, row)
    return f"INSERT 0 {len(rows)}"


def _in_order(tx: Transaction, account: str) -> list[Any]:
    record = tx.record(account)
    return [] if record is None else [record.entries[sequence] for sequence in sorted(record.entries)]


@query("entries", "tail")
def tail(tx: Transaction, account: str, after: int, limit: int) -> list[Any]:
    record = tx.record(account)
    if record is None:
        return []
    entries = record.entries
    found, parts, get = [], tx.server.parts, tuple.__getitem__
    for sequence in sorted(each for each in entries if each > after)[:limit]:
        row = entries[sequence]
        name = (account, get(row, _ID), sequence)
        part = parts.get(name)
        if part is None:
            part = parts[name] = _part(row)
        found.append(part)
    return found


def _part(row: tuple[Any, ...]) -> Any:
    """What folding needs of an entry."""
    get = tuple.__getitem__
    effects = orjson.loads(get(row, _DETAIL)).get("e")
    text = None if effects is None else orjson.dumps(effects).decode()
    return _Part(
        (get(row, _SEQUENCE), get(row, _ID), get(row, _AT), get(row, _CREDIT), get(row, _GRANT), text)
    )


@query("entries", "by_keys")
def by_keys(tx: Transaction, account: str, keys: Sequence[str]) -> list[Any]:
    return found_by_key(tx, [account] * len(keys), list(keys))


@query("entries", "burned")
def burned(tx: Transaction, account: str, entry_id: str) -> list[Any]:
    rows = _in_order(tx, account)
    return [row for row in rows if row[_ID] == entry_id and row[_KIND] in {"CONSUME", "COMMIT"}]


@query("entries", "reversing")
def reversing(tx: Transaction, account: str, entry_id: str) -> list[Any]:
    return [row for row in _in_order(tx, account) if row[_REVERSES] == entry_id and entry_id]


@query("entries", "listed")
def listed(
    tx: Transaction,
    account: str,
    before: int | None,
    limit: int,
    since: int | None,
    until: int | None,
    kinds: Sequence[str],
    feature: str,
    subject: str,
    credit: str,
) -> list[Any]:
    found = []
    for row in reversed(_in_order(tx, account)):
        if (
            (before is None or row[_SEQUENCE] < before)
            and (since is None or row[_AT] >= since)
            and (until is None or row[_AT] < until)
            and (not kinds or row[_KIND] in kinds)
            and (not feature or row[_FEATURE] == feature)
            and (not subject or row[_SUBJECT] == subject)
            and (not credit or row[_CREDIT] == credit)
        ):
            found.append(row)
    return found[:limit]


@query("entries", "head_sequence")
def head_sequence(tx: Transaction, account: str) -> list[Any]:
    record = tx.record(account)
    return [(max(record.entries, default=None) if record is not None else None,)]


@query("entries", "checkpoint")
def checkpoint(tx: Transaction, account: str) -> list[Any]:
    row = tx.rows("checkpoints").get(account)
    return [] if row is None else [(row[2],)]


@query("entries", "put_checkpoint", writes=True)
def put_checkpoint(tx: Transaction, account: str, sequence: int, at: int, state: str) -> str:
    before = tx.rows("checkpoints").get(account)
    if before is None or before[0] < sequence:
        tx.put("checkpoints", account, (sequence, at, state))
    return "INSERT 0 1"


# Accounts.


@query("accounts", "raise_epoch", writes=True)
def raise_epoch(tx: Transaction, account: str, nonce: int) -> Generator[Any, None, list[Any]]:
    record = tx.record(account)
    if record is None or record.epoch is None:
        return []
    yield Want(("head", account))
    record = tx.changing(account)
    if record.epoch is None:
        return []
    record.epoch, record.nonce = record.epoch + 1, nonce
    return [_Head((record.epoch, record.nonce))]


@query("accounts", "epochs")
def epochs(tx: Transaction, accounts: Sequence[str]) -> list[Any]:
    found = []
    for account in accounts:
        record = tx.record(account)
        if record is not None and record.epoch is not None:
            found.append(_Fence((account, record.epoch, record.nonce)))
    return found


@query("accounts", "insert_head", writes=True)
def insert_head(tx: Transaction, account: str, nonce: int) -> str:
    record = tx.changing(account)
    record.epoch, record.nonce = 1, nonce
    return "INSERT 0 1"


@query("accounts", "insert_account", writes=True)
def insert_account(tx: Transaction, *values: Any) -> Generator[Any, None, list[Any]]:
    # Whoever inserts the same id waits for this transaction's end.
    yield Want(("account", values[0]))
    present = tx.server.records.get(values[0])
    if present is not None and present.account is not None:
        return []
    tx.changing(values[0]).account = values
    return [(values[0],)]


@query("accounts", "put_account", writes=True)
def put_account(tx: Transaction, *values: Any) -> str:
    tx.changing(values[0]).account = values
    return "UPDATE 1"


@query("accounts", "get_account")
def get_account(tx: Transaction, account: str) -> list[Any]:
    record = tx.record(account)
    if record is None or record.account is None:
        return []
    return [_account_row(record, max(tx.rows("catalogs"), default=0))]


def _account_row(record: Any, catalog_version: int = 0) -> Any:
    subscriptions = []
    for values in sorted(record.subscriptions.values(), key=lambda each: (each[1], each[0])):
        document = dict(zip(_SUBSCRIPTION, values, strict=True))
        document["add_ons"] = orjson.loads(document["add_ons"])
        if document["pending"] is not None:
            document["pending"] = orjson.loads(document["pending"])
        subscriptions.append(document)
    return _Account(
        (
            *record.account,
            catalog_version,
            orjson.dumps(subscriptions).decode() if subscriptions else None,
            _array(record.overrides),
            _array(record.budgets),
        )
    )


def _array(documents: dict[str, str]) -> str | None:
    return f"[{','.join(documents[key] for key in sorted(documents))}]" if documents else None


@query("accounts", "list_accounts")
def list_accounts(tx: Transaction, after: str, limit: int, prefix: str, labels: str) -> list[Any]:
    wanted = orjson.loads(labels).items()
    found = []
    for account in sorted(tx.server.records):
        record = tx.record(account)
        if record is None or record.account is None or account <= after or not account.startswith(prefix):
            continue
        if wanted <= orjson.loads(record.account[9]).items():
            found.append(_account_row(record))
    return found[:limit]


@query("accounts", "put_subscription", writes=True)
def put_subscription(tx: Transaction, account: str, *values: Any) -> str:
    tx.changing(account).subscriptions[values[0]] = values
    return "INSERT 0 1"


@query("accounts", "put_override", writes=True)
def put_override(tx: Transaction, account: str, key: str, document: str) -> str:
    tx.changing(account).overrides[key] = document
    return "INSERT 0 1"


@query("accounts", "delete_override", writes=True)
def delete_override(tx: Transaction, account: str, key: str) -> str:
    tx.changing(account).overrides.pop(key, None)
    return "DELETE"


@query("accounts", "put_budget", writes=True)
def put_budget(tx: Transaction, account: str, budget: str, document: str) -> str:
    tx.changing(account).budgets[budget] = document
    return "INSERT 0 1"


@query("accounts", "delete_budget", writes=True)
def delete_budget(tx: Transaction, account: str, budget: str) -> str:
    tx.changing(account).budgets.pop(budget, None)
    return "DELETE"


@query("accounts", "insert_grant", writes=True)
def insert_grant(
    tx: Transaction, account: str, grant: str, created_at: int, fingerprint: str, document: str
) -> list[Any]:
    record = tx.changing(account)
    if grant in record.grants:
        return []
    record.grants[grant] = (created_at, fingerprint, document)
    return [(grant,)]


@query("accounts", "update_grant", writes=True)
def update_grant(tx: Transaction, account: str, grant: str, document: str) -> list[Any]:
    record = tx.changing(account)
    if grant not in record.grants:
        return []
    created_at, fingerprint, _document = record.grants[grant]
    record.grants[grant] = (created_at, fingerprint, document)
    return [(grant,)]


@query("accounts", "get_grant")
def get_grant(tx: Transaction, account: str, grant: str) -> list[Any]:
    record = tx.record(account)
    if record is None or grant not in record.grants:
        return []
    _created_at, fingerprint, document = record.grants[grant]
    return [_Grant((document, fingerprint))]


@query("accounts", "list_grants")
def list_grants(tx: Transaction, account: str) -> list[Any]:
    record = tx.record(account)
    grants = {} if record is None else record.grants
    order = sorted(grants, key=lambda each: (grants[each][0], each))
    return [_Grant((grants[each][2], "")) for each in order]


@query("accounts", "add_redemption", writes=True)
def add_redemption(tx: Transaction, promotion: str, account: str) -> Generator[Any, None, list[Any]]:
    yield Want(("redemption", promotion, account))
    if (promotion, account) in tx.rows("redemptions"):
        return []
    tx.put("redemptions", (promotion, account), True)
    return [(account,)]


@query("accounts", "count_redemption", writes=True)
def count_redemption(tx: Transaction, promotion: str, maximum: int) -> Generator[Any, None, list[Any]]:
    yield Want(("promotion", promotion))
    redeemed = tx.rows("promotions").get(promotion, 0)
    if maximum and redeemed >= maximum and promotion in tx.rows("promotions"):
        return []
    tx.put("promotions", promotion, redeemed + 1)
    return [(redeemed + 1,)]


@query("accounts", "remove_redemption", writes=True)
def remove_redemption(tx: Transaction, promotion: str, account: str) -> str:
    own = tx.tables.get("redemptions", {})
    if (promotion, account) in own:
        del own[promotion, account]
    return "DELETE 1"


@query("accounts", "keep_version", writes=True)
def keep_version(tx: Transaction, account: str, revision: int, at: int, document: str) -> str:
    tx.changing(account).versions[revision] = (at, document)
    return "INSERT 0 1"


@query("accounts", "version_at")
def version_at(tx: Transaction, account: str, at: int) -> list[Any]:
    record = tx.record(account)
    versions = {} if record is None else record.versions
    fitting = [revision for revision, (since, _document) in versions.items() if since <= at]
    return [(versions[max(fitting)][1],)] if fitting else []


# Catalogs.


@query("catalogs", "lock")
def lock(_tx: Transaction, key: int) -> Generator[Any, None, list[Any]]:
    yield Want(("advisory", key))
    return []


@query("catalogs", "latest_version")
def latest_version(tx: Transaction) -> list[Any]:
    return [(max(tx.rows("catalogs"), default=0),)]


@query("catalogs", "insert", writes=True)
def insert_catalog(
    tx: Transaction, version: int, effective_at: int, created_at: int, note: str, document: str
) -> str:
    if version in tx.rows("catalogs"):
        raise asyncpg.UniqueViolationError("duplicate key value violates unique constraint")
    tx.put("catalogs", version, _Catalog((version, effective_at, created_at, note, document)))
    return "INSERT 0 1"


@query("catalogs", "insert_plans", writes=True)
def insert_plans(
    tx: Transaction, keys: Sequence[str], versions: Sequence[int], documents: Sequence[str]
) -> list[Any]:
    inserted = []
    for key, version, document in zip(keys, versions, documents, strict=True):
        if (key, version) not in tx.rows("plans"):
            tx.put("plans", (key, version), document)
            inserted.append((key,))
    return inserted


@query("catalogs", "notify")
def notify(_tx: Transaction, _version: str) -> list[Any]:
    return []


@query("catalogs", "timeline")
def timeline(tx: Transaction) -> list[Any]:
    catalogs = tx.rows("catalogs")
    return [catalogs[version] for version in sorted(catalogs)]


@query("catalogs", "get")
def get_catalog(tx: Transaction, version: int) -> list[Any]:
    row = tx.rows("catalogs").get(version)
    return [] if row is None else [row]


@query("catalogs", "listed")
def list_catalogs(tx: Transaction, before: int | None, limit: int) -> list[Any]:
    catalogs = tx.rows("catalogs")
    fitting = [version for version in sorted(catalogs, reverse=True) if before is None or version < before]
    return [catalogs[version] for version in fitting[:limit]]


@query("catalogs", "get_plan")
def get_plan(tx: Transaction, key: str, version: int) -> list[Any]:
    document = tx.rows("plans").get((key, version))
    return [] if document is None else [(document,)]


@query("catalogs", "latest_plans")
def latest_plans(tx: Transaction) -> list[Any]:
    plans = tx.rows("plans")
    newest: dict[str, int] = {}
    for key, version in sorted(plans):
        newest[key] = version
    return [_Plan((key, plans[key, version])) for key, version in newest.items()]


def _subscribed(tx: Transaction) -> list[tuple[str, str, int]]:
    """(account, plan, version) of what is not canceled."""
    found = []
    for account in tx.server.records:
        record = tx.record(account)
        if record is not None:
            for values in record.subscriptions.values():
                each = dict(zip(_SUBSCRIPTION, values, strict=True))
                if each["status"] != "CANCELED":
                    found.append((account, each["plan"], each["plan_version"]))
    return found


@query("catalogs", "plans_in_use")
def plans_in_use(tx: Transaction) -> list[Any]:
    return [_Used(pair) for pair in sorted({(plan, version) for _account, plan, version in _subscribed(tx)})]


@query("catalogs", "subscribers")
def subscribers(tx: Transaction, keys: Sequence[str], versions: Sequence[int]) -> list[Any]:
    wanted = set(zip(keys, versions, strict=True))
    return [(len({account for account, *plan in _subscribed(tx) if tuple(plan) in wanted}),)]


@query("catalogs", "all_accounts")
def all_accounts(tx: Transaction) -> list[Any]:
    rows = [record.account for record in tx.server.records.values() if record.account is not None]
    return [(sum(not row[5] for row in rows),)]
