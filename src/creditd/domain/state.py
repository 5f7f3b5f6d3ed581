"""An account's folded ledger, and the segment of it that decisions are made on.

`AccountState` is the sum of all entries. `Segment` is what of it can be decided on without a calendar until
`end`: the active grants in burn order, balances and counters. The hot store holds exactly a `Segment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from creditd.domain.catalog import BurnOrder
from creditd.domain.grants import Grant, burn_key, next_filling
from creditd.domain.periods import MS_MAX


@dataclass(frozen=True, slots=True)
class GrantState:
    """A grant and what is left of it, in micros; `active` once its activation is in the ledger.

    `filled_at` is the instant of its activation or, when it recurs, of its latest filling, in ms.
    """

    grant: Grant
    remaining: int
    active: bool
    filled_at: int = 0

    @property
    def next_filling(self) -> int | None:
        """The instant at which it is filled again; None if never."""
        return next_filling(self.grant, self.filled_at) if self.active else None


@dataclass(frozen=True, slots=True)
class Counter:
    """What has been counted in the window [start, end); end 0 = a gauge, which never ends."""

    start: int
    end: int
    used: int


@dataclass(frozen=True, slots=True)
class HoldPart:
    """What a hold has taken out of one grant. `lapsed`: the grant's time has passed since, so it goes nowhere back."""

    grant_id: str
    micros: int
    lapsed: bool = False


@dataclass(frozen=True, slots=True)
class HoldOverage:
    """What a hold has counted as overage in the window [start, end); with `carry_debt` it is owed once it is burned."""

    key: str
    start: int
    end: int
    micros: int
    carry_debt: bool = False


@dataclass(frozen=True, slots=True)
class HoldCharge:
    """What a hold has counted in the window [start, end) of a limit, or with `micros` of a budget."""

    key: str
    start: int
    end: int
    applied: int
    micros: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """An open reservation. `id` is that of the entry that made it, `sequence` that of the latest one that changed it.

    It is released by itself at `expires_at` (ms). `parts` are in burn order. The rest says what it is for.
    """

    id: str
    sequence: int
    expires_at: int
    credit: str = ""
    feature: str = ""
    subject: str = ""
    parts: tuple[HoldPart, ...] = ()
    overage: tuple[HoldOverage, ...] = ()
    charges: tuple[HoldCharge, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def micros(self) -> int:
        """What it holds in all: out of grants and as overage."""
        return sum(part.micros for part in self.parts) + sum(part.micros for part in self.overage)


@dataclass(frozen=True, slots=True)
class AccountState:
    """The folded ledger of one account up to `sequence`; `at` is the latest instant in it, in ms.

    `holds` has the open reservations by id.
    """

    account: str
    sequence: int = 0
    at: int = 0
    grants: Mapping[str, GrantState] = field(default_factory=dict)
    debts: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, Counter] = field(default_factory=dict)
    holds: Mapping[str, Hold] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SegmentGrant:
    """An active grant in a segment; `features` empty = pays for every feature of the credit."""

    id: str
    remaining: int
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Balances:
    """What an account has of one credit type: amounts in micros, instants in ms (0 = none).

    `available` is what is left of the active grants less the debt; `granted` their face amount; `held` what open
    reservations hold of grants and as overage.
    """

    available: int = 0
    held: int = 0
    granted: int = 0
    debt: int = 0
    next_expiry: int = 0
    next_refill: int = 0


@dataclass(frozen=True, slots=True)
class SegmentCredit:
    """One credit type in a segment; the grants in burn order."""

    order: BurnOrder
    balances: Balances = Balances()
    grants: tuple[SegmentGrant, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """What decisions are made on from `at` until `end` (ms, exclusive).

    `raised` is the latest sequence decided on this segment that made something available again: what is
    decided after it must not land in the ledger without it. 0 = none.
    """

    sequence: int
    at: int
    end: int
    policy_version: int
    raised: int = 0
    credits: Mapping[str, SegmentCredit] = field(default_factory=dict)
    counters: Mapping[str, Counter] = field(default_factory=dict)
    holds: Mapping[str, Hold] = field(default_factory=dict)


def next_boundary(state: AccountState) -> int:
    """The first instant at which the state changes by itself; MS_MAX if none.

    That is an activation, a filling, an expiry, or the end of a hold.
    """
    boundary = min((hold.expires_at for hold in state.holds.values()), default=MS_MAX)
    for held in state.grants.values():
        if not held.active:
            boundary = min(boundary, held.grant.effective_at)
            continue
        instants = (held.grant.expires_at, held.next_filling)
        boundary = min(boundary, *(instant for instant in instants if instant is not None), MS_MAX)
    return boundary


def open_segment(
    state: AccountState, *, now: int, policy_version: int, orders: Mapping[str, BurnOrder]
) -> Segment:
    """The segment that begins at `now`; the state must have been rolled to `now` before (`roll.due`).

    `orders` has every credit type of the catalog, so that a credit without grants is there, empty.
    """
    credits = {credit: _credit(state, credit, order) for credit, order in orders.items()}
    counters = {
        key: counter for key, counter in state.counters.items() if counter.end == 0 or counter.end > now
    }
    return Segment(
        sequence=state.sequence,
        at=max(now, state.at),
        end=next_boundary(state),
        policy_version=policy_version,
        credits=credits,
        counters=counters,
        holds=dict(state.holds),
    )


def _credit(state: AccountState, credit: str, order: BurnOrder) -> SegmentCredit:
    active = sorted(_active(state, credit), key=lambda held: burn_key(held.grant, order, held.filled_at))
    # What a hold may give back needs its grant there, however empty.
    awaited = {
        part.grant_id
        for hold in state.holds.values()
        if hold.credit == credit
        for part in hold.parts
        if not part.lapsed
    }
    return SegmentCredit(
        order=order,
        balances=balances_of(state, credit),
        grants=tuple(
            SegmentGrant(held.grant.id, held.remaining, held.grant.features)
            for held in active
            if held.remaining or held.grant.id in awaited
        ),
    )


def _active(state: AccountState, credit: str) -> list[GrantState]:
    return [held for held in state.grants.values() if held.active and held.grant.credit == credit]


def balances_of(state: AccountState, credit: str) -> Balances:
    """What an account has of a credit."""
    active = _active(state, credit)
    debt = state.debts.get(credit, 0)
    expiries = [held.grant.expires_at for held in active if held.grant.expires_at is not None]
    waiting = [
        held.grant.effective_at
        for held in state.grants.values()
        if not held.active and held.grant.parent and held.grant.credit == credit
    ]
    fillings = [held.next_filling for held in active]
    return Balances(
        available=sum(held.remaining for held in active) - debt,
        held=sum(hold.micros for hold in state.holds.values() if hold.credit == credit),
        granted=sum(held.grant.amount for held in active),
        debt=debt,
        next_expiry=min(expiries, default=0),
        next_refill=min((instant for instant in (*fillings, *waiting) if instant is not None), default=0),
    )


def balance(state: AccountState, credit: str) -> int:
    """What is available of a credit: the remaining of its active grants less its debt."""
    remaining = sum(
        held.remaining for held in state.grants.values() if held.active and held.grant.credit == credit
    )
    return remaining - state.debts.get(credit, 0)


def held_of(state: AccountState, grant_id: str) -> int:
    """What open reservations may still give back to a grant."""
    return sum(
        part.micros
        for hold in state.holds.values()
        for part in hold.parts
        if part.grant_id == grant_id and not part.lapsed
    )


def returnable(state: AccountState, credit: str) -> int:
    """What open reservations may still give back to grants of a credit."""
    return sum(
        part.micros
        for hold in state.holds.values()
        if hold.credit == credit
        for part in hold.parts
        if not part.lapsed
    )
