"""What callers ask and are told on the data plane, in the engine's own terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from creditd.domain.catalog import Json
from creditd.domain.decide import Mode
from creditd.domain.state import Balances


@dataclass(frozen=True, slots=True)
class Use:
    """A request to use a feature, for Check and Consume alike.

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

    `index` is the place of the `Use` in the operation that it was part of.
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
