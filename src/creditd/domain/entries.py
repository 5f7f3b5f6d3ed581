"""Ledger entries: the only way in which an account changes.

An entry carries its whole effect, so that `fold` needs neither catalog nor calendar to apply it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from creditd.domain.accounts import Epoch
from creditd.domain.catalog import Money
from creditd.domain.grants import Grant
from creditd.domain.state import Hold


class Kind(StrEnum):
    """What happened."""

    GRANT = "GRANT"
    CONSUME = "CONSUME"
    EXPIRE = "EXPIRE"
    VOID = "VOID"
    REFILL = "REFILL"
    RESERVE = "RESERVE"
    COMMIT = "COMMIT"
    RELEASE = "RELEASE"
    REFUND = "REFUND"
    ADJUST = "ADJUST"
    LEASE = "LEASE"
    SETTLE = "SETTLE"


class GrantChange(NamedTuple):
    """A change of one grant's remaining credits, in micros; negative when credits leave it."""

    grant_id: str
    remaining: int


class CounterChange(NamedTuple):
    """`delta` units or micros counted in the window [start, end) of the counter `key`; end 0 = never ends."""

    key: str
    start: int
    end: int
    delta: int


@dataclass(frozen=True, slots=True)
class Effects:
    """What an entry does to the folded state.

    `put` replaces or adds a grant's definition; `activated` names a grant that becomes drawable by this
    entry and `ended` one that is gone for good. `filled_at` is the instant up to which the entry's grant is filled
    by it. `debt` is the change of the entry's credit's debt.

    Of reservations: `hold` adds or replaces an open one and `closed` names one that ends; `held` is the change of what
    the credit's holds hold. The rest changes nothing and is for readers: `lapsed` (grant, micros) was held and is
    lost, as its grant's time had passed; `repaid` (grant, micros) was held and has paid the debt; `counted` is what a
    hold had counted before, in micros, and this entry burned.
    """

    grants: tuple[GrantChange, ...] = ()
    counters: tuple[CounterChange, ...] = ()
    debt: int = 0
    put: Grant | None = None
    activated: str = ""
    ended: str = ""
    filled_at: int = 0
    hold: Hold | None = None
    closed: str = ""
    held: int = 0
    lapsed: tuple[tuple[str, int], ...] = ()
    repaid: tuple[tuple[str, int], ...] = ()
    counted: tuple[CounterChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller was told, kept so that a replay gets the first answer again.

    Amounts in micros; instants in ms, 0 = none. The limit fields are those of the tightest counter;
    `limit_max` is -1 when the answer has no limit and -2 when it is unlimited. `released` is what a reservation or a
    refund gave back by it, `reserved` what the reservation holds after it, until `expires_at`.
    """

    reason: str = ""
    charged: int = 0
    overage: int = 0
    shortfall: int = 0
    available: int = 0
    held: int = 0
    granted: int = 0
    debt: int = 0
    overage_used: int = 0
    next_expiry: int = 0
    next_refill: int = 0
    limit_max: int = -1
    limit_used: int = 0
    resets_at: int = 0
    released: int = 0
    reserved: int = 0
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account's ledger; (account, sequence) is unique, sequences are 1, 2, 3 ... without gaps.

    `amount` is the signed effect on what is available of `credit`, in micros; the sum of an account's
    amounts is its balance. `fingerprint` identifies the request that an idempotency key stands for.
    """

    id: str
    account: str
    sequence: int
    kind: Kind
    at: int
    credit: str = ""
    amount: int = 0
    balance_after: int = 0
    feature: str = ""
    subject: str = ""
    idempotency_key: str | None = None
    fingerprint: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    allocations: tuple[tuple[str, int], ...] = ()
    overage: int = 0
    occurred_at: int | None = None
    catalog_version: int = 0
    reservation_id: str = ""
    grant_id: str = ""
    reverses: str = ""
    cost: Money | None = None
    note: str = ""
    effects: Effects = Effects()
    answer: Answer | None = None

    @property
    def is_tombstone(self) -> bool:
        """Whether the entry only fills the place of a decision that never landed."""
        return self.kind is Kind.ADJUST and self.note == TOMBSTONE


INTERNAL_KEY = "\x01"
"""How idempotency keys begin that are creditd's own: callers' have printable text only. Never told to callers."""


def settle_key(reservation_id: str) -> str:
    """The key of the one entry that ends a reservation for its caller: the last COMMIT, or the RELEASE."""
    return f"{INTERNAL_KEY}settle/{reservation_id}"


def expiry_key(reservation_id: str) -> str:
    """The key of the entry by which a reservation was released at its expiry."""
    return f"{INTERNAL_KEY}expired/{reservation_id}"


def once_key(operation: str) -> str:
    """The key of an operation that came without one: the server may try it more than once, and it lands once."""
    return f"{INTERNAL_KEY}once/{operation}"


TOMBSTONE = "tombstone"
"""Note of an entry without effect, in the place of a decision that the ledger refused."""


def tombstone(account: str, sequence: int, at: int, epoch: Epoch) -> Entry:
    """The entry without effect for a place of an account's ledger; its id is the same whoever lays it, in one epoch."""
    return Entry(
        id=f"tombstone:{account}:{sequence}:{epoch.number}.{epoch.nonce}",
        account=account,
        sequence=sequence,
        kind=Kind.ADJUST,
        at=at,
        note=TOMBSTONE,
    )
