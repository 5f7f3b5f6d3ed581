"""What creditd should answer, written down a second time: plainly, from docs/concepts.md, sharing nothing with it.

Time is gone through instant by instant. A subscription's future is not laid down ahead: each thing happens when it
is due. Amounts are micros, instants ms. Credits are burned in `burn.py`.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

FOREVER = 2**60
ENTITLING = {"TRIALING", "ACTIVE", "PAST_DUE"}
PRIORITIES = {"TRIAL": 10, "PROMOTION": 10, "PLAN": 20, "ROLLOVER": 20}
_LENGTHS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(credits: float) -> int:
    """Credits of a catalog file as micros."""
    return round(credits * 1_000_000)


def period(text: str) -> tuple[int, str]:
    """`month` or `3 days` of a catalog file as a count and a unit."""
    count, _, unit = text.rpartition(" ")
    return int(count or 1), unit.removesuffix("s")


def to_datetime(ms: int) -> datetime:
    """An instant as a datetime."""
    return _EPOCH + timedelta(milliseconds=ms)


def to_ms(moment: datetime) -> int:
    """A datetime as an instant."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def later(anchor: int, text: str, times: int = 1) -> int:
    """The instant whole periods after an anchor; months keep to its day, clamped to their end."""
    count, unit = period(text)
    if unit in _LENGTHS:
        return anchor + _LENGTHS[unit] * count * times
    moment = to_datetime(anchor)
    months = moment.year * 12 + moment.month - 1 + count * times * (12 if unit == "year" else 1)
    year, month = months // 12, months % 12 + 1
    return to_ms(moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1])))


def window(anchor: int, text: str, now: int) -> tuple[int, int]:
    """The whole period from the anchor that an instant lies in."""
    count, unit = period(text)
    days = {"month": 32, "year": 367}.get(unit, 0)
    times = (now - anchor) // ((_LENGTHS.get(unit) or days * 86_400_000) * count) - 1
    while later(anchor, text, times + 1) <= now:
        times += 1
    while later(anchor, text, times) > now:
        times -= 1
    return later(anchor, text, times), later(anchor, text, times + 1)


def calendar(unit: str, now: int) -> tuple[int, int]:
    """The UTC day, week from Monday, or month that an instant lies in."""
    midnight = to_datetime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    first = {
        "day": midnight,
        "week": midnight - timedelta(days=midnight.weekday()),
        "month": midnight.replace(day=1),
    }[unit]
    return to_ms(first), later(to_ms(first), unit)


@dataclass
class Grant:
    """Credits given. `state` is waiting, active or gone."""

    id: str
    credit: str
    amount: int
    category: str
    priority: int
    effective_at: int
    created_at: int
    expires_at: int = FOREVER
    every: str = ""
    anchor: int = 0
    rollover: dict[str, Any] | None = None
    features: tuple[str, ...] = ()
    paid: bool = False
    source: str = ""
    subscription: str = ""
    slot: str = ""
    parent: str = ""
    rolled_until: int = FOREVER
    remaining: int = 0
    state: str = "waiting"
    filled_at: int = 0
    shrinks_to: int = 0
    prorated: int = 0
    known: bool = False

    @property
    def next_filling(self) -> int:
        """When it is filled again."""
        return window(self.anchor, self.every, self.filled_at)[1] if self.every else FOREVER


@dataclass
class Part:
    """What a hold has of a grant, and of which of its periods."""

    grant: Grant
    amount: int
    period: int

    @property
    def fits(self) -> bool:
        """Whether it may return: the period that it was taken from is still on."""
        return self.grant.state == "active" and self.grant.filled_at == self.period


@dataclass
class Share:
    """What is counted in one window of a counter; an end of 0 is never."""

    key: str
    start: int
    end: int
    amount: int


@dataclass
class Hold:
    """A reservation that is open: units, and what they take."""

    id: str
    feature: str
    subject: str
    expires_at: int
    units: int = 0
    parts: list[Part] = field(default_factory=list)
    overage: list[Share] = field(default_factory=list)
    limits: list[Share] = field(default_factory=list)
    budgets: list[Share] = field(default_factory=list)

    @property
    def micros(self) -> int:
        """What it holds in all."""
        return sum(part.amount for part in self.parts) + sum(share.amount for share in self.overage)


@dataclass
class Subscription:
    """A subscription as it stands."""

    id: str
    plan: str
    status: str
    started_at: int
    anchor: int
    seats: int
    add_ons: dict[str, int]
    trial_ends_at: int = FOREVER
    waits: bool = False
    cancel_at: int = FOREVER
    pending: tuple[str, int] | None = None


@dataclass
class Model:
    """One account. `counters` have the start of their window, its end, and what it has counted."""

    catalog: dict[str, Any]
    now: int
    created_at: int
    grants: list[Grant] = field(default_factory=list)
    debts: dict[str, int] = field(default_factory=dict)
    counters: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    budgets: dict[str, dict[str, Any]] = field(default_factory=dict)
    suspended: bool = False
    holds: dict[str, Hold] = field(default_factory=dict)
    expired: dict[str, tuple[Hold, int]] = field(default_factory=dict)

    def item(self, kind: str, key: str) -> dict[str, Any]:
        """A feature, plan, add-on ... of the catalog."""
        found: dict[str, Any] = next(item for item in self.catalog[kind] if item["key"] == key)
        return found

    def credit_of(self, feature: str) -> str:
        """What a feature burns; "" for a limit."""
        return str(self.item("features", feature).get("credit", ""))

    # Time

    def advance(self, to: int) -> None:
        """Let everything happen until an instant, that included."""
        while (instant := min(self.instants(), default=FOREVER)) <= to:
            self.now = instant
            self._happen()
        self.now = to

    def instants(self) -> list[int]:
        """When something happens by itself; FOREVER for what never does."""
        found = [hold.expires_at for hold in self.holds.values()]
        for grant in self.grants:
            if grant.state == "waiting":
                found.append(grant.effective_at)
            elif grant.state == "active":
                found += [self.ends(grant), grant.next_filling]
        for item in self.subscriptions.values():
            if item.status != "CANCELED":
                found += [item.cancel_at, item.pending[1] if item.pending else FOREVER]
                found += [item.trial_ends_at] if item.trial_ends_at > self.now else []
        return found

    def _happen(self) -> None:
        """At one instant: holds end first, then what expires, then what is filled, then what becomes active."""
        for hold in [self.holds[key] for key in sorted(self.holds)]:
            if hold.expires_at <= self.now:
                self.expired[hold.id] = (hold, self.give_back(hold))
        by_id = sorted(self.grants, key=lambda grant: grant.id)
        for grant in by_id:
            if grant.state == "active" and self.ends(grant) <= self.now:
                self.leave(grant)
        for item in self.subscriptions.values():
            self._happen_to(item)
        for grant in by_id:
            if grant.state == "active" and grant.next_filling <= self.now:
                self._fill(grant)
        for grant in sorted(self.grants, key=lambda grant: grant.id):
            if grant.state == "waiting" and grant.effective_at <= self.now:
                self.activate(grant)

    def ends(self, grant: Grant) -> int:
        """When a grant ends: by its own expiry, or with its subscription."""
        item = self.subscriptions.get(grant.subscription)
        if item is None or (not grant.every and grant.category not in {"TRIAL", "ROLLOVER"}):
            return grant.expires_at
        ends = min(grant.expires_at, item.cancel_at)
        if grant.category == "TRIAL":
            ends = min(ends, item.trial_ends_at)
        elif grant.category != "ROLLOVER" and grant.slot.startswith("plan/") and item.pending:
            ends = min(ends, item.pending[1])
        return ends

    def _happen_to(self, item: Subscription) -> None:
        """What a subscription does by itself."""
        if item.status == "CANCELED":
            return
        if item.cancel_at <= self.now:
            item.status, item.pending = "CANCELED", None
            return
        changes = item.pending is not None and item.pending[1] <= self.now
        if changes and item.pending:
            item.plan, item.pending = item.pending[0], None
            self.tried.add(item.plan)
        if item.trial_ends_at == self.now:
            if item.status == "TRIALING":
                item.status = "PAUSED" if item.waits else "ACTIVE"
            if not item.waits:
                self.lay(item, self.plan_slots(item))
        elif changes and not (item.waits and item.status == "PAUSED"):
            self.lay(item, {k: v for k, v in self.plan_slots(item).items() if k.startswith("plan/")})

    def _fill(self, grant: Grant) -> None:
        """Fill a grant up; of the rest, what may be carried over becomes a grant of its own."""
        rest, carried = grant.remaining, 0
        at = grant.next_filling
        if grant.shrinks_to:
            grant.amount, grant.shrinks_to = grant.shrinks_to, 0
        if grant.rollover is not None:
            carried = rest
            if share := grant.rollover.get("max_percent"):
                carried = rest * share // 100
            if most := grant.rollover.get("max"):
                earlier = [old for old in self.grants if old.parent == grant.id and old.state == "active"]
                carried = min(carried, max(0, micros(most) - sum(old.remaining for old in earlier)))
        if carried and grant.rollover is not None:
            lasts = grant.rollover.get("max_periods")
            until = FOREVER
            if lasts:
                until = window(grant.anchor, grant.every, at)[0]
                for _ in range(lasts):
                    until = self._following(grant, until)
            own = grant.expires_at
            self.grants.append(
                Grant(
                    f"{grant.id}/{at}",
                    grant.credit,
                    carried,
                    "ROLLOVER",
                    grant.priority,
                    at,
                    at,
                    min(until, own),
                    features=grant.features,
                    source=grant.source,
                    subscription=grant.subscription,
                    slot=grant.slot,
                    parent=grant.id,
                    remaining=carried,
                    state="active",
                )
            )
        grant.remaining, grant.filled_at = grant.amount, at
        self.pay_debt(grant, grant.amount - rest)

    def _following(self, grant: Grant, instant: int) -> int:
        return window(grant.anchor, grant.every, instant)[1]

    # Grants

    def give(self, grant: Grant, withheld: int = 0) -> None:
        """Take a new grant in; it is active from its effective_at on."""
        self.grants.append(grant)
        if grant.effective_at <= self.now:
            self.activate(grant, withheld)
            grant.filled_at = self.now

    def activate(self, grant: Grant, withheld: int = 0) -> None:
        """From now on it can be drawn; it pays the debt first."""
        grant.state, grant.remaining, grant.filled_at = "active", grant.amount - withheld, grant.effective_at
        self.pay_debt(grant, grant.remaining)

    def leave(self, grant: Grant) -> None:
        """What is left of it is gone."""
        grant.state, grant.remaining = "gone", 0

    def pay_debt(self, grant: Grant, fresh: int) -> None:
        """Fresh credits pay what is owed."""
        paid = max(0, min(fresh, self.debts.get(grant.credit, 0)))
        grant.remaining -= paid
        self.debts[grant.credit] = self.debts.get(grant.credit, 0) - paid

    def held_of(self, grant: Grant) -> int:
        """What open reservations may still give back to a grant."""
        parts = [part for hold in self.holds.values() for part in hold.parts]
        return sum(part.amount for part in parts if part.grant is grant and part.fits)

    # Holds

    def correct(self, shares: list[Share], amount: int, *, keep_open: bool) -> None:
        """Counters of a hold become what was used: the earlier window covers first, the last has what is beyond."""
        for key in dict.fromkeys(share.key for share in shares):
            mine = [share for share in shares if share.key == key]
            left = amount
            for share in mine:
                covered = min(left, share.amount)
                share.amount, left = share.amount - covered, left - covered
                delta = left if share is mine[-1] else 0
                self.move(share, delta - (0 if keep_open else share.amount))

    def move(self, share: Share, delta: int) -> None:
        """Count in a window that may be over: then nothing changes."""
        start, _end, have = self.counters.get(share.key, (-1, 0, 0))
        if not delta or (share.end and share.end <= self.now) or start > share.start:
            return
        have = have if start == share.start else 0
        self.counters[share.key] = (share.start, share.end, max(0, have + delta))

    def give_back(self, hold: Hold, *, is_counted: bool = True) -> int:
        """End a hold; what is left goes to the debt, then to grants whose period is still on."""
        released = sum(part.amount for part in hold.parts) + sum(share.amount for share in hold.overage)
        for part in hold.parts:
            if part.fits:
                part.grant.remaining += part.amount
                self.pay_debt(part.grant, part.amount)
        for share in hold.overage:
            self.move(share, -share.amount)
        if is_counted:
            self.correct(hold.limits, 0, keep_open=False)
            self.correct(hold.budgets, 0, keep_open=False)
        self.holds.pop(hold.id, None)
        return released

    def active(self, credit: str = "") -> list[Grant]:
        """The active grants, of one credit or all."""
        return [g for g in self.grants if g.state == "active" and credit in {"", g.credit}]

    def mine(self, item: Subscription) -> list[Grant]:
        """The subscription's active grants, what was carried over left out."""
        return [g for g in self.active() if g.subscription == item.id and g.category != "ROLLOVER"]

    # Allowances

    def plan_slots(self, item: Subscription) -> dict[str, tuple[dict[str, Any], int, str]]:
        """The allowances of the plan and the add-ons: each with its amount and source."""
        slots = self._slots(item, "plan", self.item("plans", item.plan), 1, f"plan/{item.plan}")
        for key, quantity in item.add_ons.items():
            slots |= self._slots(item, f"add_on/{key}", self.item("add_ons", key), quantity, f"add_on/{key}")
        return slots

    def trial_slots(self, item: Subscription) -> dict[str, tuple[dict[str, Any], int, str]]:
        """The allowances of the plan's trial."""
        trial = self.item("plans", item.plan).get("trial", {})
        return self._slots(item, "trial", trial, 1, f"plan/{item.plan}")

    def _slots(
        self, item: Subscription, prefix: str, owner: dict[str, Any], quantity: int, source: str
    ) -> dict[str, tuple[dict[str, Any], int, str]]:
        return {
            f"{prefix}/{index}": (
                allowance,
                micros(allowance["amount"]) * quantity * (item.seats if allowance.get("per_seat") else 1),
                source,
            )
            for index, allowance in enumerate(owner.get("allowances", ()))
        }

    def lay(
        self,
        item: Subscription,
        slots: dict[str, tuple[dict[str, Any], int, str]],
        withheld: dict[str, int] | None = None,
        prorated: dict[str, int] | None = None,
    ) -> None:
        """Give a subscription's allowances now."""
        for key, (allowance, amount, source) in slots.items():
            category = "TRIAL" if key.startswith("trial/") else "PLAN"
            lasts = allowance.get("expires_after")
            less = (prorated or {}).get(key, 0)
            grant = Grant(
                f"{item.id}/{key}/{len(self.grants)}",
                allowance["credit"],
                amount,
                category,
                allowance.get("priority") or PRIORITIES[category],
                self.now,
                self.now,
                later(self.now, lasts) if lasts else FOREVER,
                every=allowance.get("every", ""),
                anchor=item.anchor,
                rollover=allowance.get("rollover"),
                source=source,
                subscription=item.id,
                slot=key,
                prorated=less,
            )
            self.give(grant, less + (withheld or {}).get(key, 0))
