"""What callers ask and are told on the data plane, in the engine's own terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from creditd.domain.catalog import Json
from creditd.domain.decide import Mode
from creditd.domain.state import Balances, Hold


class Action(StrEnum):
    """What a use does with a reservation."""

    RESERVE = "RESERVE"
    EXTEND = "EXTEND"
    COMMIT = "COMMIT"
    RELEASE = "RELEASE"


@dataclass(frozen=True, slots=True)
class Reservation:
    """The reservation that a use opens or works on; callers give its id, the rest of the use follows from it.

    `ttl_ms` is how long to hold from now (None = the expiry stays). `hold` is what is known of it: as it is open or,
    with `is_expired`, as it was at its end. A Commit with `keep_open` settles a part.
    """

    action: Action
    id: str = ""
    ttl_ms: int | None = None
    keep_open: bool = False
    hold: Hold | None = None
    is_expired: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the reservation ends by it, so that it is done once, whatever key comes with it."""
        return self.action is Action.RELEASE or (self.action is Action.COMMIT and not self.keep_open)


@dataclass(frozen=True, slots=True)
class Use:
    """A request to use a feature: a Check, a Consume or, with `reservation`, what is done with one.

    `quantity` counts the feature's default meter (1 when it and `usage` are absent; negative only for gauges);
    `cost_micros` is for features with an external rate. A Check ignores the fields that only a burn has.
    """

    account: str
    feature: str
    subject: str = ""
    quantity: int | None = None
    usage: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    mode: Mode = Mode.ENFORCE
    idempotency_key: str = ""
    occurred_at: int | None = None
    cost_micros: int | None = None
    explain: bool = False
    reservation: Reservation | None = None


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """Where the tightest limit stands; `limit` -1 = unlimited; `resets_at` in ms, 0 = never."""

    limit: int
    used: int
    resets_at: int

    @property
    def remaining(self) -> int:
        """What may still be used; 0 when more than the limit was used."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an explanation."""

    kind: str
    key: str
    detail: str
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer to a `Use`: an allowance or a denial, with what it costs and what is left. Amounts in micros.

    `index` is the place of the `Use` in the operation that it was part of. Of a reservation, `released` is what it gave
    back and `reserved` what it holds now, until `expires_at` (ms).
    """

    allowed: bool
    reason: str
    message: str = ""
    feature: str = ""
    credit: str = ""
    charged: int = 0
    overage: int = 0
    shortfall: int = 0
    balances: Balances | None = None
    overage_used: int = 0
    limit: LimitStatus | None = None
    value: Json = None
    affordable: int = 0
    catalog_version: int = 0
    entry_id: str = ""
    sequence: int = 0
    allocations: tuple[tuple[str, int], ...] = ()
    replayed: bool = False
    explanation: tuple[Step, ...] = ()
    index: int = 0
    reservation_id: str = ""
    released: int = 0
    reserved: int = 0
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class Refund:
    """What to undo of an entry; `amount` in micros, None = all that is left of what it burned."""

    account: str
    entry_id: str
    amount: int | None
    idempotency_key: str
    reason: str = ""
