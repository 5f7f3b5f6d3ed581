"""What callers want: each intent is one operation, sent as often as it takes, and what they were told of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.simulator.catalog import CREDIT, catalog

from creditd.domain.decide import Mode
from creditd.domain.entries import Kind
from creditd.domain.errors import CreditdError, FailedPrecondition
from creditd.engine.control_types import EntryQuery, GrantDraft, SubscriptionChange, UsageReset
from creditd.engine.engine import Engine
from creditd.engine.requests import Action, Refund, Reservation, Ruling, Use

if TYPE_CHECKING:
    from tests.simulator.world import World

Send = Callable[[Engine], Awaitable[Any]]


@dataclass(slots=True)
class Intent:
    """One operation. `uses` has what the data plane is asked, one use for each item of a batch."""

    number: int
    name: str
    account: str
    send: Send
    keyed: bool = True
    uses: tuple[Use, ...] = ()
    atomic: bool = False
    key: str = ""
    grant: str = ""
    # What callers were told: an answer, a refusal, or nothing (unknown).
    answers: list[Any] = field(default_factory=list)
    refusals: list[CreditdError] = field(default_factory=list)
    unknown: int = 0

    @property
    def acked(self) -> bool:
        """Whether a caller was told that it is done."""
        return any(done(answer) for answer in self.answers)


def done(answer: Any) -> bool:
    """Whether an answer says that something was done."""
    if isinstance(answer, Ruling):
        return answer.allowed
    if isinstance(answer, list):
        return any(done(item) for item in answer)
    return not isinstance(answer, CreditdError)


@dataclass(slots=True)
class KnownHold:
    """A reservation that a caller was told of."""

    id: str
    account: str
    feature: str
    quantity: int
    ended: bool = False


class Wishes:
    """Draws intents from the seed. Each seed has its own mix of them."""

    def __init__(self, world: World, source: random.Random) -> None:
        self.world = world
        self.source = source
        self.all: list[Intent] = []
        self.holds: list[KnownHold] = []
        self.grants: list[tuple[str, str]] = []
        self.price = 2
        kinds: dict[Callable[[], Intent], float] = {
            self.consume: 10,
            self.batch: 2,
            self.reserve: 4,
            self.on_hold: 7,
            self.refund: 1.5,
            self.create_grant: 0.7,
            self.void_grant: 0.3,
            self.purchase: 0.4,
            self.redeem: 0.2,
            self.subscribe: 0.4,
            self.reset: 0.3,
            self.look: 1.5,
            self.reprice: 0.15,
        }
        self._makers = list(kinds)
        self._weights = [weight * source.choice((0.2, 1, 1, 3)) for weight in kinds.values()]
        self._keyless = source.choice((0.0, 0.1, 0.4))
        self._tags = source.random() < 0.5
        self._amount = source.choice((3, 6, 15))

    def next(self) -> Intent:
        """Another intent."""
        maker = self.source.choices(self._makers, self._weights)[0]
        return maker()

    def _keep(self, name: str, account: str, send: Send, **fields: Any) -> Intent:
        intent = Intent(len(self.all) + 1, name, account, send, **fields)
        self.all.append(intent)
        return intent

    @property
    def _number(self) -> int:
        return len(self.all) + 1

    def account(self) -> str:
        """One account is hot."""
        accounts = self.world.accounts
        return accounts[0] if self.source.random() < 0.6 else self.source.choice(accounts)

    def _use(self, account: str, tag: str, *, keyed: bool = True) -> Use:
        source = self.source
        feature = source.choices(
            ("chat", "metered", "tiered", "calls", "jobs", "sso", "secret"), (8, 2, 2, 2, 2, 0.3, 0.2)
        )[0]
        mode = source.choices((Mode.ENFORCE, Mode.PARTIAL, Mode.RECORD), (8, 2, 0.5))[0]
        quantity: int | None = 1 + source.randrange(self._amount)
        if feature == "jobs":
            quantity = source.choice((1, 1, 2, -1, -2))
        elif feature == "calls":
            quantity = source.choice((1, 1, 2, 5))
        elif feature in {"sso", "secret"}:
            quantity = 1
        if feature in {"calls", "jobs"} and mode is Mode.RECORD:
            mode = Mode.ENFORCE
        return Use(
            account,
            feature,
            subject=source.choice(("", "ann", "bob")),
            quantity=None if feature == "metered" else quantity,
            attributes={"model": "big"} if feature == "chat" and source.random() < 0.2 else {},
            metadata={"intent": tag},
            mode=mode,
            idempotency_key=f"k{tag}" if keyed else "",
            cost_micros=1 + source.randrange(self._amount * CREDIT) if feature == "metered" else None,
        )

    def consume(self) -> Intent:
        keyed = self.source.random() >= self._keyless
        use = self._use(self.account(), str(self._number), keyed=keyed)
        return self._keep(
            "consume",
            use.account,
            lambda engine: engine.consume(use),
            keyed=keyed,
            uses=(use,),
            key=use.idempotency_key,
        )

    def batch(self) -> Intent:
        account, number = self.account(), self._number
        atomic = self.source.random() < 0.7
        uses = tuple(
            self._use(account if atomic else self.account(), f"{number}.{place}")
            for place in range(2 + self.source.randrange(3))
        )
        return self._keep(
            "batch",
            account,
            lambda engine: engine.batch_consume(uses, atomic=atomic),
            uses=uses,
            atomic=atomic,
        )

    def reserve(self) -> Intent:
        use = self._use(self.account(), str(self._number))
        mode = Mode.PARTIAL if use.mode is Mode.PARTIAL else Mode.ENFORCE
        feature = use.feature if use.feature in {"chat", "metered", "jobs"} else "chat"
        quantity = abs(use.quantity or 1) if feature != "metered" else None
        ttl = self.source.choice((3_000, 20_000, 300_000))
        use = replace(
            use,
            feature=feature,
            mode=mode,
            quantity=quantity,
            cost_micros=use.cost_micros or CREDIT if feature == "metered" else None,
            reservation=Reservation(Action.RESERVE, ttl_ms=ttl),
        )
        return self._keep(
            "reserve",
            use.account,
            lambda engine: engine.reserve(use),
            uses=(use,),
            key=use.idempotency_key,
        )

    def on_hold(self) -> Intent:
        """Extend, settle a part of, commit or release a reservation that a caller knows; it may have ended."""
        if not self.holds:
            return self.reserve()
        source, tag = self.source, str(self._number)
        hold = source.choice(self.holds[-8:])
        kind = source.choice(("extend", "part", "commit", "commit", "release"))
        quantity: int | None = source.randrange(hold.quantity + 2)
        key = f"k{tag}"
        if kind == "release":
            reservation = Reservation(Action.RELEASE, hold.id)
        elif kind == "extend":
            quantity = source.choice((1, 2, hold.quantity))
            reservation = Reservation(Action.EXTEND, hold.id, ttl_ms=source.choice((None, 5_000, 60_000)))
        else:
            reservation = Reservation(Action.COMMIT, hold.id, keep_open=kind == "part")
        use = Use(
            hold.account,
            "",
            quantity=quantity,
            metadata={"intent": tag},
            idempotency_key=key,
            reservation=reservation,
        )
        if hold.feature == "metered" and kind != "release":
            use = replace(use, quantity=None, cost_micros=(quantity or 0) * CREDIT)
        return self._keep(
            kind,
            hold.account,
            lambda engine: engine.on_reservation(use),
            uses=(use,),
            key=key,
        )

    def refund(self) -> Intent:
        account, number = self.account(), self._number
        burns = [
            ruling
            for intent in self.all[-60:]
            if intent.account == account and intent.name in {"consume", "commit", "part"}
            for ruling in intent.answers
            if isinstance(ruling, Ruling) and ruling.allowed and ruling.charged
        ]
        if not burns:
            return self.consume()
        burn = self.source.choice(burns)
        amount = self.source.choice((None, 1, CREDIT, burn.charged // 2 or 1))
        request = Refund(account, burn.entry_id, amount, f"k{number}")
        return self._keep(
            "refund", account, lambda engine: engine.refund(request), key=request.idempotency_key
        )

    def create_grant(self) -> Intent:
        account, number, source = self.account(), self._number, self.source
        by_id = source.random() < 0.5
        now = self.world.wall_ms()
        draft = GrantDraft(
            account,
            f"g{number}" if by_id else "",
            "credits",
            (1 + source.randrange(30)) * CREDIT,
            effective_at=source.choice((None, None, now + 20_000)),
            expires_at=source.choice((None, now + 30_000, now + 3_600_000)),
            features=source.choice(((), (), ("chat",))),
        )
        key = f"k{number}" if not by_id or source.random() < 0.5 else ""
        if by_id:
            self.grants.append((account, draft.id))
        return self._keep(
            "create_grant",
            account,
            lambda engine: engine.create_grant(draft, idempotency_key=key),
            key=key,
            grant=draft.id,
        )

    def void_grant(self) -> Intent:
        if not self.grants:
            return self.create_grant()
        account, grant = self.source.choice(self.grants)
        return self._keep(
            "void_grant",
            account,
            lambda engine: engine.void_grant(account, grant, reason="simulated"),
            grant=grant,
        )

    def purchase(self) -> Intent:
        account, key = self.account(), f"k{self._number}"
        quantity = 1 + self.source.randrange(2)
        return self._keep(
            "purchase",
            account,
            lambda engine: engine.purchase_bundle(
                account, "pack", quantity=quantity, metadata={}, idempotency_key=key
            ),
            key=key,
        )

    def redeem(self) -> Intent:
        account, key = self.source.choice(self.world.accounts), f"k{self._number}"
        return self._keep(
            "redeem",
            account,
            lambda engine: engine.redeem_promotion(account, "welcome", code="HELLO", idempotency_key=key),
            key=key,
        )

    def subscribe(self) -> Intent:
        account, source = self.account(), self.source
        key = f"k{self._number}"
        change = SubscriptionChange(
            account,
            "sub",
            source.choice(("small", "big", "payg")),
            mode=source.choice(("", "CARRY_USAGE", "FRESH", "PRORATE", "AT_PERIOD_END")),
            idempotency_key=key,
        )
        return self._keep("subscribe", account, lambda engine: engine.put_subscription(change), key=key)

    def reset(self) -> Intent:
        account, key = self.account(), f"k{self._number}"
        wanted = UsageReset(
            account,
            feature=self.source.choice(("", "calls", "jobs")),
            credit=self.source.choice(("", "", "credits")),
            idempotency_key=key,
        )
        return self._keep("reset", account, lambda engine: engine.reset_usage(wanted), key=key)

    def look(self) -> Intent:
        """Something that changes nothing."""
        account = self.account()
        use = replace(self._use(account, ""), idempotency_key="", explain=self.source.random() < 0.2)
        sends: list[Send] = [
            lambda engine: engine.check(use),
            lambda engine: engine.get_balance(account, ""),
            lambda engine: engine.get_entitlements(account),
            lambda engine: engine.list_grants(account, credit="", include_inactive=True, limit=100, after=""),
            lambda engine: engine.list_entries(EntryQuery(account)),
        ]
        return self._keep("look", account, self.source.choice(sends))

    def reprice(self) -> Intent:
        """A catalog with another price."""
        self.price = 5 - self.price
        wanted = catalog(self.price)
        return self._keep(
            "reprice",
            "",
            lambda engine: engine.apply_catalog(
                wanted, dry_run=False, effective_at=None, expected_version=None, note=""
            ),
        )


def expected_refusal(intent: Intent, error: CreditdError) -> bool:
    """Whether a caller of the intent may be refused like this, whatever else is going on."""
    name, reason = intent.name, error.reason
    if name in {"extend", "part", "commit", "release"}:
        return isinstance(error, FailedPrecondition) and reason.startswith("RESERVATION_")
    if name == "refund":
        return reason in {"NOTHING_TO_REFUND", "REFUND_TOO_LARGE"}
    if name == "create_grant":
        # Its expiry may have passed on the way.
        return reason == "INVALID_ARGUMENT"
    if name == "void_grant":
        return reason == "GRANT_NOT_FOUND"
    if name == "redeem":
        return reason in {"PROMOTION_REDEEMED", "PROMOTION_USED_UP"}
    if name == "subscribe":
        return reason in {"INVALID_ARGUMENT", "FAILED_PRECONDITION"} or isinstance(error, FailedPrecondition)
    if name == "reprice":
        return reason == "VERSION_MISMATCH"
    return False


KINDS = {
    "consume": Kind.CONSUME,
    "batch": Kind.CONSUME,
    "reserve": Kind.RESERVE,
    "extend": Kind.RESERVE,
    "part": Kind.COMMIT,
    "commit": Kind.COMMIT,
    "release": Kind.RELEASE,
}
"""The kind of entry that an intent makes."""
