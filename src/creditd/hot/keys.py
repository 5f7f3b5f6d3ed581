"""Where things are in Redis: every key of an account and of its outbox carries one hash tag.

Accounts are spread over BUCKETS tags, so that an account, its idempotency records and its bucket's outbox share one
cluster slot and one script may touch them all.
"""

from __future__ import annotations

import re
from typing import Final
from zlib import crc32

BUCKETS: Final = 256
"""Fixed for good: another number would strand the outboxes of a running deployment."""

PREFIX: Final = "creditd:2"
"""The number is that of the layout: two releases with different layouts never read each other's states."""


_PART: Final = re.compile(r"@\d+$")
_LIMIT: Final = re.compile(r"l:[^:]*")
_BUDGET: Final = re.compile(r"b:[^:]*:[^:]*:")
"""The id and the period of a budget, or as much as is before the third colon: what follows has all of its value."""


def bucket_of(account: str) -> int:
    """The bucket of an account: 0 to BUCKETS - 1."""
    return crc32(account.encode()) % BUCKETS


def group_of(counter: str) -> str:
    """The group of counters that a counter is kept in: those of one are mostly used together.

    Limits of one feature are, and so are budgets for one value. Everything else is alone: parts of sliding windows are
    many, and what ends like one of them may be taken for one, at the price of its company only.
    """
    if _PART.search(counter):
        return counter
    limit = _LIMIT.match(counter)
    if limit:
        return limit[0]
    budget = _BUDGET.match(counter)
    return f"b:{counter[budget.end() :]}" if budget else counter


def state_key(account: str) -> str:
    """The hash with an account's segment."""
    return f"{PREFIX}:{{{bucket_of(account)}}}:s:{account}"


def record_key(account: str, idempotency_key: str) -> str:
    """The record of an idempotency key. The account's length keeps two pairs with the same text apart."""
    return f"{PREFIX}:{{{bucket_of(account)}}}:k:{len(account)}:{account}:{idempotency_key}"


def outbox_key(bucket: int) -> str:
    """The hash of units that are decided but not known to be in the ledger."""
    return f"{PREFIX}:{{{bucket}}}:outbox"


def revision_key(bucket: int) -> str:
    """The newest catalog revision that the bucket's decisions must know."""
    return f"{PREFIX}:{{{bucket}}}:catalog"
