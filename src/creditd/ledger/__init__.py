"""The ledger: the truth about every account, in PostgreSQL. The only place of asyncpg and SQL.

`Ledger` is what the rest of creditd uses; it speaks in the domain's types and raises the domain's errors.
A driver's error never leaves this package: what means "away" or "unknown" becomes `Unavailable`.
"""

from creditd.ledger.append import Duplicate, Fenced, Landed, Outcome, Refused, Unit
from creditd.ledger.migrate import (
    ChecksumMismatch,
    NewerSchema,
    NotMigrated,
    SchemaError,
    check_schema,
    migrate,
)
from creditd.ledger.store import Ledger
from creditd.ledger.transaction import AccountTransaction

__all__ = [
    "AccountTransaction",
    "ChecksumMismatch",
    "Duplicate",
    "Fenced",
    "Landed",
    "Ledger",
    "NewerSchema",
    "NotMigrated",
    "Outcome",
    "Refused",
    "SchemaError",
    "Unit",
    "check_schema",
    "migrate",
]
