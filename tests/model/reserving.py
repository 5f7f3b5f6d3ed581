"""Reservations and refunds on the server and the model: every answer compared, every one asked for again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration
from tests.model.burn import Answer, available, consume, overage_used
from tests.model.driver import Pair, same
from tests.model.holding import Burned, burned_now, commit, hold_more, price, refund
from tests.model.model import Hold

from creditd.v1 import entitlements_pb2 as pb


@dataclass
class Reserving:
    """The reservations and what was burned of one account. `ended` tells how; `first` are answers to be had again."""

    pair: Pair
    opened: list[Hold] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    first: list[tuple[Any, Any, Any]] = field(default_factory=list)
    finals: dict[str, Any] = field(default_factory=dict)
    burns: list[Burned] = field(default_factory=list)

    def reserve(self, feature: str, quantity: int, subject: str, ttl_ms: int, key: str) -> None:
        """Reserve on both."""
        model = self.pair.model
        hold = Hold("", feature, subject, model.now + ttl_ms)
        wanted = hold_more(model, hold, quantity)
        answer = self._twice(
            self.pair.entitlements.Reserve,
            pb.ReserveRequest(
                account=self.pair.account,
                feature=feature,
                quantity=quantity,
                subject=subject,
                ttl=duration(ttl_ms),
                idempotency_key=key,
            ),
        )
        if wanted.allowed:
            hold.id = answer.reservation_id
            model.holds[hold.id] = hold
            self.opened.append(hold)
        self._compare_held("Reserve", wanted, answer, hold)

    def extend(self, place: int, quantity: int | None, ttl_ms: int | None, key: str) -> None:
        """Hold more, or for longer."""
        hold, model = self.opened[place % len(self.opened)], self.pair.model
        request = pb.ExtendRequest(
            account=self.pair.account,
            reservation_id=hold.id,
            quantity=quantity,
            ttl=None if ttl_ms is None else duration(ttl_ms),
            idempotency_key=key,
        )
        if why := self._closed(hold):
            self.pair.refused(why, self.pair.entitlements.Extend, request)
            return
        wanted = Answer(True, "") if quantity is None else hold_more(model, hold, quantity)
        if wanted.allowed and ttl_ms is not None:
            hold.expires_at = model.now + ttl_ms
        self._compare_held("Extend", wanted, self._twice(self.pair.entitlements.Extend, request), hold)

    def commit(self, place: int, quantity: int | None, key: str, *, keep_open: bool) -> None:
        """Settle all or a part, in time or too late."""
        hold, model = self.opened[place % len(self.opened)], self.pair.model
        method = self.pair.entitlements.Commit
        request = pb.CommitRequest(
            account=self.pair.account,
            reservation_id=hold.id,
            quantity=quantity,
            keep_open=keep_open,
            idempotency_key=key,
        )
        if hold.id in self.finals and not keep_open:
            self._again(method, request, self.finals[hold.id])
            return
        if hold.id in self.ended:
            self.pair.refused(f"RESERVATION_{self.ended[hold.id]}", method, request)
            return
        if hold.id in model.holds:
            done, entry = commit(model, hold, quantity, keep_open=keep_open)
            burned = [(grant.id, amount) for grant, amount in done.burned]
            wanted = (done.charged, done.released, done.overage, burned, done.limit)
        else:
            units = hold.units if quantity is None else quantity
            answer = consume(model, hold.feature, units, "RECORD", hold.subject)
            cost = price(model, hold.feature, units)
            entry = burned_now(model, "", hold.feature, hold.subject, cost, answer)
            wanted = (answer.charged, 0, answer.overage, answer.allocations, answer.limit)
        have = self._twice(method, request)
        allocations = [(item.grant_id, item.amount_micros) for item in have.allocations]
        seen = (have.charged_micros, have.released_micros, have.overage_micros, allocations)
        same("Commit", (*seen, self.pair.limit(have)), wanted)
        self._compare_balance("Commit", have.balance)
        entry.entry_id = have.entry_id
        self.burns += [entry] if entry.charged else []
        if not keep_open:
            self.ended[hold.id], self.finals[hold.id] = "COMMITTED", have

    def release(self, place: int) -> None:
        """Give all back."""
        hold, model = self.opened[place % len(self.opened)], self.pair.model
        method = self.pair.entitlements.Release
        request = pb.ReleaseRequest(account=self.pair.account, reservation_id=hold.id)
        if self.ended.get(hold.id) == "COMMITTED":
            self.pair.refused("RESERVATION_COMMITTED", method, request)
        elif hold.id in model.holds:
            released = model.give_back(hold)
            answer = self._twice(method, request)
            same("Release", answer.released_micros, released)
            self._compare_balance("Release", answer.balance)
            self.ended[hold.id] = "RELEASED"
        elif hold.id not in self.ended:
            answer = method(request)
            same("late Release", (answer.released_micros, answer.replayed), (model.expired[hold.id][1], True))

    def refund(self, place: int, percent: int, key: str) -> None:
        """Undo some of what was burned; never more than is left."""
        entry = self.burns[place % len(self.burns)]
        left = entry.charged - entry.refunded
        amount = None if percent == 100 else left * percent // 100 or 1
        request = pb.RefundRequest(
            account=self.pair.account, entry_id=entry.entry_id, amount_micros=amount, idempotency_key=key
        )
        if not left:
            self.pair.refused("NOTHING_TO_REFUND", self.pair.entitlements.Refund, request)
        elif amount is not None and amount > left:
            self.pair.refused("REFUND_TOO_LARGE", self.pair.entitlements.Refund, request)
        else:
            refund(self.pair.model, entry, left if amount is None else amount)
            answer = self._twice(self.pair.entitlements.Refund, request)
            same("Refund", answer.refunded_micros, left if amount is None else amount)
            self._compare_balance("Refund", answer.balance)

    def ask_again(self, place: int) -> None:
        """What was done once is answered as at first, however late."""
        if self.first:
            self._again(*self.first[place % len(self.first)])

    def consumed(self, feature: str, subject: str, wanted: Answer, entry_id: str) -> None:
        """Remember what a Consume has burned."""
        if wanted.charged:
            entry = burned_now(self.pair.model, entry_id, feature, subject, wanted.cost, wanted)
            self.burns.append(entry)

    def _closed(self, hold: Hold) -> str:
        if hold.id in self.pair.model.holds:
            return ""
        return f"RESERVATION_{self.ended.get(hold.id, 'EXPIRED')}"

    def _twice(self, method: Any, request: Any) -> Any:
        """Call, and call again; a denial is not remembered, and what has no key is not known again."""
        answer = method(request)
        assert not answer.replayed
        is_final = isinstance(request, pb.CommitRequest) and not request.keep_open
        known = is_final or isinstance(request, pb.ReleaseRequest) or request.idempotency_key
        if known and getattr(answer, "allowed", True):
            self.first.append((method, request, answer))
            self._again(method, request, answer)
        return answer

    def _again(self, method: Any, request: Any, first: Any) -> None:
        again = method(request)
        assert again.replayed
        again.replayed = False
        assert again == first, f"first {first}, then {again}"

    def _compare_held(self, what: str, wanted: Answer, answer: Any, hold: Hold) -> None:
        same(what, (answer.allowed, answer.shortfall_micros), (wanted.allowed, wanted.shortfall))
        if wanted.reason:
            same(f"{what}: reason", self.pair.reason(answer), wanted.reason)
            same(f"{what}: limit", self.pair.limit(answer), wanted.limit)
        if wanted.allowed:
            seen = (answer.held_micros, answer.expires_at.ToMilliseconds(), answer.reservation_id)
            same(what, seen, (hold.micros, hold.expires_at, hold.id))
            self._compare_balance(what, answer.balance)

    def _compare_balance(self, what: str, balance: Any) -> None:
        if credit := balance.credit:
            model = self.pair.model
            held = sum(
                hold.micros for hold in model.holds.values() if model.credit_of(hold.feature) == credit
            )
            seen = (
                balance.available_micros,
                balance.held_micros,
                balance.debt_micros,
                balance.overage_micros,
            )
            wanted = (
                available(model, credit),
                held,
                model.debts.get(credit, 0),
                overage_used(model, credit),
            )
            same(f"{what}: balance", seen, wanted)


def duration(ms: int) -> Duration:
    """A length of time as the protos have it."""
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)
