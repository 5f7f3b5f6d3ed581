"""What is decided: operations, their draws, and what became of them. Plain data; `decide` has the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Self, TypeVar

from creditd.domain.catalog import BurnOrder
from creditd.domain.holds import HoldStep, Pairs
from creditd.domain.state import Balances, Segment

T = TypeVar("T")


class Mode(IntEnum):
    """What happens when there is not enough: all or nothing, what is there, or record it as debt."""

    ENFORCE = 1
    PARTIAL = 2
    RECORD = 3


class Charge(NamedTuple):
    """A counter that a draw touches: at most `cap` (-1 = unlimited) in the window [start, end).

    A tuple, as an operation may have dozens of them: it is made four times as fast as a frozen dataclass.

    It counts the draw's units, or with `micros` what the draw burns. `soft` counters never deny. A gauge has start
    and end 0; its units may be negative and it never goes below 0. One that `opens` counts in the counter's own window
    while that lasts, and in [start, end) only when it is over. `also` are other counters, with the starts of their
    windows, whose use counts as this one's: the earlier parts of a sliding window.
    """

    key: str
    start: int
    end: int
    cap: int
    soft: bool = False
    micros: bool = False
    opens: bool = False
    also: tuple[tuple[str, int], ...] = ()


class Charges(tuple[Charge, ...]):
    """Charges that one draw after another shares: nothing in them depends on how much is used.

    `forms` keeps what has been made of them once, by who made it: the bytes of dozens of charges cost more than the
    rest of a request.
    """

    forms: dict[object, Any]

    def __new__(cls, charges: Iterable[Charge] = ()) -> Self:
        """Charges without any forms yet."""
        made = super().__new__(cls, charges)
        made.forms = {}
        return made

    def form(self, make: Callable[[tuple[Charge, ...]], T]) -> T:
        """What `make` makes of the charges, made once."""
        made: T | None = self.forms.get(make)
        if made is None:
            made = self.forms[make] = make(self)
        return made


def form_of(charges: tuple[Charge, ...], make: Callable[[tuple[Charge, ...]], T]) -> T:
    """What `make` makes of charges: kept with those that are shared, made anew of others."""
    return charges.form(make) if isinstance(charges, Charges) else make(charges)


@dataclass(frozen=True, slots=True)
class OverageRoom:
    """The counter of overage: up to `cap` micros in the window [start, end), -1 = uncapped.

    With `carry_debt` the overage is owed as well: the next grants pay it.
    """

    key: str
    start: int
    end: int
    cap: int
    carry_debt: bool = False


@dataclass(frozen=True, slots=True)
class TierCount:
    """A meter with graduated prices: `delta` units more in the window [start, end) of the counter `key`.

    The draw's price holds only while the counter is within [low, high].
    """

    key: str
    start: int
    end: int
    delta: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Draw:
    """One thing that an operation takes: `amount` micros of `credit` ("" = none) and the counters beside it.

    `units` are what its limits count; negative only for gauges.
    `cap` bounds the amount of this draw (-1 = unlimited); `cap_by` names the budget that says so.

    With a `hold` that it joins, all of this is held instead of burned. With one that it settles, what leaves the hold
    is done first; `amount` is what the hold does not cover, and the charges only tell how the limits stand afterwards.
    """

    feature: str
    mode: Mode = Mode.ENFORCE
    credit: str = ""
    order: BurnOrder = BurnOrder.SOONEST_EXPIRY_FIRST
    amount: int = 0
    floor: int = 0
    overage: OverageRoom | None = None
    units: int = 0
    charges: tuple[Charge, ...] = ()
    cap: int = -1
    cap_by: str = ""
    tiers: tuple[TierCount, ...] = ()
    hold: HoldStep | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """All draws go ahead or none; `now` in ms; `policy_version` is the one that the draws were priced with."""

    now: int
    policy_version: int
    draws: tuple[Draw, ...]


class Denial(StrEnum):
    """Why a draw may not go ahead."""

    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    FLOOR_REACHED = "FLOOR_REACHED"
    OVERAGE_CAP_REACHED = "OVERAGE_CAP_REACHED"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one draw took, or would need; amounts in micros.

    `used` and `applied` go with the draw's charges: what each counter has afterwards and what was added to it; and so
    do `spans`, the windows that were counted in, left out when they are the charges' own.
    `spendable` and `overage_room` (-1 = unlimited) are what was there before; `balances` those after. On a
    denial nothing was taken:
    `denial` says why, `denied_by` names the counter if one did, `shortfall` what was missing.

    Of a hold that is settled, `returned` is what came back to each grant, `repaid` what of each paid the debt, and
    `counted` how far the step's counters moved.
    """

    denial: Denial | None = None
    denied_by: str = ""
    shortfall: int = 0
    from_grants: int = 0
    from_overage: int = 0
    debt: int = 0
    allocations: tuple[tuple[str, int], ...] = ()
    used: tuple[int, ...] = ()
    applied: tuple[int, ...] = ()
    overage_used: int = 0
    spendable: int = 0
    overage_room: int = 0
    balances: Balances | None = None
    spans: tuple[tuple[int, int], ...] = ()
    returned: Pairs = ()
    repaid: Pairs = ()
    counted: tuple[int, ...] = ()

    @property
    def charged(self) -> int:
        """What is burned in all: from grants, as overage and as debt."""
        return self.from_grants + self.from_overage + self.debt


class Outcome(StrEnum):
    """What became of an operation."""

    DECIDED = "decided"
    DENIED = "denied"
    ROLL = "roll"
    POLICY = "policy"
    LATE = "late"
    RANGE = "range"
    PRICE = "price"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of `decide`.

    DECIDED: `drawn` has every draw and `segment` is the new one. DENIED: the last of `drawn` is the denied one
    and nothing changed. ROLL: the segment is over, or was built for an older policy or another burn order.
    POLICY: the operation was priced
    with an older policy than the segment's. LATE: the operation's `now` lies before the segment's latest entry and
    another window; decide again at `at`. RANGE: a balance or counter would leave +-9e15. PRICE: a meter with graduated
    prices is elsewhere than the price was made for; `tiers_used` has the counters of the draw's tiers. HOLD: a hold
    is not as the operation takes it to be, or not there.
    """

    outcome: Outcome
    segment: Segment
    at: int
    drawn: tuple[Drawn, ...] = ()
    tiers_used: tuple[int, ...] = ()
