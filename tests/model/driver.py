"""One account of a real server and the model beside it: every operation on both, every answer compared."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from redis import Redis
from tests.model.burn import Answer, available, burn_order, consume, overage_used, reset_usage
from tests.model.model import FOREVER, PRIORITIES, Grant, Model, later, micros
from tests.model.subscribing import put

from creditd.cli.refusals import refusal_of
from creditd.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    catalog_pb2,
    entitlements_pb2,
    entitlements_pb2_grpc,
    grants_pb2,
    ledger_pb2,
    ledger_pb2_grpc,
    test_clocks_pb2,
    test_clocks_pb2_grpc,
)

_numbers = itertools.count(1)


def stamp(ms: int) -> Timestamp:
    """An instant as the protos have it."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def period_pb(text: str) -> dict[str, Any]:
    """`3 days` as the protos have it."""
    count, _, unit = text.rpartition(" ")
    return {"unit": f"UNIT_{unit.removesuffix('s').upper()}", "count": int(count or 1)}


def same(what: str, have: Any, wanted: Any) -> None:
    """Fail unless the server has what the model says."""
    assert have == wanted, f"{what}: the server has {have}, the model {wanted}"


@dataclass
class Pair:
    """An account and its model, at the same time of the same clock."""

    channel: grpc.Channel
    redis: Redis
    catalog: dict[str, Any]
    start: int
    keys: dict[str, tuple[Any, Answer]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        number = next(_numbers)
        self.account, self.clock = f"model-{number}", f"model-{number}"
        self.entitlements = entitlements_pb2_grpc.EntitlementsStub(self.channel)
        self.accounts = accounts_pb2_grpc.AccountsStub(self.channel)
        self.ledger = ledger_pb2_grpc.LedgerStub(self.channel)
        self.clocks = test_clocks_pb2_grpc.TestClocksStub(self.channel)
        clock = test_clocks_pb2.TestClock(id=self.clock, now=stamp(self.start))
        self.clocks.CreateTestClock(test_clocks_pb2.CreateTestClockRequest(test_clock=clock))
        account = accounts_pb2.Account(id=self.account, test_clock=self.clock)
        self.accounts.PutAccount(accounts_pb2.PutAccountRequest(account=account))
        self.model = Model(self.catalog, self.start, self.start)

    # Time and faults

    def advance(self, to: int) -> None:
        """Move the clock."""
        self.clocks.AdvanceTestClock(test_clocks_pb2.AdvanceTestClockRequest(id=self.clock, now=stamp(to)))
        self.model.advance(to)

    def forget_hot_state(self) -> None:
        """Lose everything that Redis has."""
        self.redis.flushdb()

    # Using

    def check(self, feature: str, quantity: int, subject: str) -> None:
        """A Check says what Consume would do now."""
        wanted = consume(deepcopy(self.model), feature, quantity, "ENFORCE", subject, check=True)
        answer = self.entitlements.Check(
            entitlements_pb2.CheckRequest(
                account=self.account, feature=feature, quantity=quantity, subject=subject
            )
        )
        have = (answer.allowed, self.reason(answer), answer.cost_micros, self.limit(answer))
        same("Check", have, (wanted.allowed, wanted.reason, wanted.cost, wanted.limit))

    def consume(
        self, feature: str, quantity: int, mode: str, subject: str, key: str
    ) -> tuple[Answer, str] | None:
        """Burn on both. The model's answer and the entry's id, of what was done now."""
        request = (feature, quantity, mode, subject)
        message = entitlements_pb2.ConsumeRequest(
            account=self.account,
            feature=feature,
            quantity=quantity,
            subject=subject,
            mode=f"MODE_{mode}",
            idempotency_key=key,
        )
        known = self.keys.get(key) if key else None
        if known is not None and known[0] != request:
            self.refused("IDEMPOTENCY_KEY_REUSED", self.entitlements.Consume, message)
            return None
        answer = self.entitlements.Consume(message)
        assert answer.replayed == (known is not None)
        wanted = known[1] if known else consume(self.model, *request)
        self.compare(wanted, answer)
        if key and wanted.allowed:
            self.keys[key] = (request, wanted)
        return None if known else (wanted, answer.entry_id)

    def compare(self, wanted: Answer, answer: Any) -> None:
        """Every part of the answer to a Consume."""
        have = Answer(
            answer.allowed,
            self.reason(answer),
            answer.charged_micros,
            answer.overage_micros,
            answer.shortfall_micros,
            [(item.grant_id, item.amount_micros) for item in answer.allocations],
            self.limit(answer),
            wanted.cost,
        )
        same("Consume", have, wanted)

    def reason(self, answer: Any) -> str:
        """The reason's name."""
        return entitlements_pb2.Reason.Name(answer.reason).removeprefix("REASON_")

    def limit(self, answer: Any) -> tuple[int, int] | None:
        """The limit's maximum and what it has counted."""
        if not answer.HasField("limit"):
            return None
        limit = answer.limit
        assert limit.remaining == max(0, limit.limit - limit.used)
        return limit.limit, limit.used

    def refused(self, reason: str, method: Any, request: Any) -> None:
        """The server refuses the request for this reason."""
        try:
            answer = method(request)
        except grpc.RpcError as error:
            assert refusal_of(error).reason == reason, refusal_of(error)
        else:
            raise AssertionError(f"expected {reason}, was answered {answer}")

    # Grants

    def create_grant(
        self,
        credit: str,
        amount: int,
        *,
        priority: int,
        starts_in: int,
        lasts: int,
        recurrence: dict[str, Any] | None,
        features: list[str],
        category: str,
    ) -> None:
        """Give credits on both."""
        now = self.model.now
        starts = now + starts_in
        grant = grants_pb2.Grant(
            account=self.account,
            id=f"g{len(self.model.grants):03}",
            credit=credit,
            amount_micros=amount,
            priority=priority,
            category=f"CATEGORY_{category}",
            effective_at=stamp(starts) if starts_in else None,
            expires_at=stamp(starts + lasts) if lasts else None,
            features=features,
        )
        rollover = None
        if recurrence:
            rollover = recurrence["rollover"]
            grant.recurrence.every.CopyFrom(ParseDict(period_pb(recurrence["every"]), catalog_pb2.Period()))
            grant.recurrence.anchor.CopyFrom(stamp(now + recurrence["anchor"]))
            if rollover is not None:
                grant.recurrence.rollover.CopyFrom(
                    catalog_pb2.Rollover(
                        max_micros=micros(rollover.get("max", 0)),
                        max_percent=rollover.get("max_percent", 0),
                        max_periods=rollover.get("max_periods", 0),
                    )
                )
        self.accounts.CreateGrant(accounts_pb2.CreateGrantRequest(grant=grant))
        self.model.give(
            Grant(
                grant.id,
                credit,
                amount,
                category,
                priority or PRIORITIES.get(category, 30),
                starts,
                now,
                starts + lasts if lasts else FOREVER,
                every=recurrence["every"] if recurrence else "",
                anchor=now + recurrence["anchor"] if recurrence else 0,
                rollover=rollover,
                features=tuple(features),
                known=True,
            )
        )

    def void(self, grant: Grant) -> None:
        """Take what is left of a grant away on both."""
        self.accounts.VoidGrant(accounts_pb2.VoidGrantRequest(account=self.account, id=grant.id))
        self.model.leave(grant)

    def purchase(self, bundle: str, quantity: int, key: str) -> None:
        """Buy a bundle."""
        request = accounts_pb2.PurchaseBundleRequest(
            account=self.account, bundle=bundle, quantity=quantity, idempotency_key=key
        )
        answer = self.accounts.PurchaseBundle(request)
        assert self.accounts.PurchaseBundle(request) == answer
        item = self.model.item("bundles", bundle)
        self._give(item, quantity, "PURCHASE", f"bundle/{bundle}", answer.id, paid=True)

    def redeem(self, promotion: str, key: str) -> None:
        """Redeem a promotion: once."""
        item = self.model.item("promotions", promotion)
        request = accounts_pb2.RedeemPromotionRequest(
            account=self.account, code=item["code"], idempotency_key=key
        )
        if any(grant.source == f"promotion/{promotion}" for grant in self.model.grants):
            self.refused("PROMOTION_REDEEMED", self.accounts.RedeemPromotion, request)
            return
        answer = self.accounts.RedeemPromotion(request)
        self._give(item, 1, "PROMOTION", f"promotion/{promotion}", answer.id, paid=False)

    def _give(
        self, item: dict[str, Any], quantity: int, category: str, source: str, grant_id: str, *, paid: bool
    ) -> None:
        now, lasts = self.model.now, item.get("expires_after")
        self.model.give(
            Grant(
                grant_id,
                item["credit"],
                micros(item["amount"]) * quantity,
                category,
                PRIORITIES.get(category, 30),
                now,
                now,
                later(now, lasts) if lasts else FOREVER,
                paid=paid,
                source=source,
                known=True,
            )
        )

    # Subscriptions

    def subscribe(self, key: str, plan: str, *, preview: bool, **wanted: Any) -> None:
        """Put a subscription; a preview says beforehand exactly what comes of it, and changes nothing."""
        cancel_at = wanted.get("cancel_at", FOREVER)
        request = accounts_pb2.PutSubscriptionRequest(
            account=self.account,
            subscription=accounts_pb2.Subscription(
                id=key,
                plan=plan,
                seats=wanted.get("seats", 0),
                add_ons=[
                    accounts_pb2.AddOnItem(add_on=name, quantity=count)
                    for name, count in wanted.get("add_ons", {}).items()
                ],
                status=f"STATUS_{wanted['status']}" if wanted.get("status") else None,
                cancel_at=stamp(cancel_at) if cancel_at < FOREVER else None,
            ),
            mode=f"CHANGE_MODE_{wanted['mode']}" if wanted.get("mode") else None,
        )
        previewed = None
        if preview:
            request.preview = True
            previewed = self.accounts.PutSubscription(request)
            request.preview = False
            self.compare_state()
        answer = self.accounts.PutSubscription(request)
        assert previewed is None or previewed == answer, f"previewed {previewed}, was {answer}"
        put(self.model, key, plan, **wanted)

    # Exceptions

    def override(self, feature: str, limit: dict[str, Any] | None) -> None:
        """Put or delete the override of a limit."""
        if limit is None:
            request = accounts_pb2.DeleteOverrideRequest(account=self.account, feature=feature)
            if self.model.overrides.pop(feature, None) is None:
                self.refused("OVERRIDE_NOT_FOUND", self.accounts.DeleteOverride, request)
            else:
                self.accounts.DeleteOverride(request)
            return
        given = catalog_pb2.Entitlement(feature=feature, limit=catalog_pb2.Limit(max=limit["max"]))
        if "per" in limit:
            given.limit.per.CopyFrom(ParseDict(period_pb(limit["per"]), catalog_pb2.Period()))
            given.limit.window = f"WINDOW_{limit.get('window', 'anchored').upper()}"
        self.accounts.PutOverride(
            accounts_pb2.PutOverrideRequest(
                override=accounts_pb2.Override(account=self.account, entitlement=given)
            )
        )
        self.model.overrides[feature] = limit

    def budget(self, key: str, rule: dict[str, Any] | None) -> None:
        """Put or delete a budget."""
        if rule is None:
            request = accounts_pb2.DeleteBudgetRequest(account=self.account, id=key)
            if self.model.budgets.pop(key, None) is None:
                self.refused("BUDGET_NOT_FOUND", self.accounts.DeleteBudget, request)
            else:
                self.accounts.DeleteBudget(request)
            return
        given = catalog_pb2.BudgetRule(
            credit=rule["credit"], cap_micros=micros(rule["cap"]), features=rule.get("features", [])
        )
        if "per" in rule:
            given.per.CopyFrom(ParseDict(period_pb(rule["per"]), catalog_pb2.Period()))
            given.window = f"WINDOW_{rule.get('window', 'anchored').upper()}"
        self.accounts.PutBudget(
            accounts_pb2.PutBudgetRequest(
                budget=accounts_pb2.Budget(
                    account=self.account,
                    id=key,
                    scope=rule["scope"],
                    scope_value=rule.get("scope_value", ""),
                    rule=given,
                )
            )
        )
        self.model.budgets[key] = rule

    def reset_usage(self) -> None:
        """Support's button."""
        self.accounts.ResetUsage(accounts_pb2.ResetUsageRequest(account=self.account))
        reset_usage(self.model)

    def suspend(self, *, suspended: bool) -> None:
        """Suspend the account or bring it back."""
        account = accounts_pb2.Account(id=self.account, test_clock=self.clock, suspended=suspended)
        self.accounts.PutAccount(accounts_pb2.PutAccountRequest(account=account))
        self.model.suspended = suspended

    # Comparing

    def compare_state(self) -> None:
        """All balances and grants; the model takes over the ids that the server has made."""
        listed = self.accounts.ListGrants(
            accounts_pb2.ListGrantsRequest(account=self.account, page_size=1000)
        )
        assert not listed.next_page_token
        have = sorted(self.shown(item) for item in listed.grants)
        want = sorted(self.expected(grant) for grant in self.model.active())
        missing = [grant for grant in want if grant not in have]
        same(f"grants at {self.model.now}", [grant for grant in have if grant not in want], missing)
        same("how often", have, want)
        self.adopt(listed.grants)
        answer = self.entitlements.GetBalance(entitlements_pb2.GetBalanceRequest(account=self.account))
        for balance in answer.balances:
            active = self.model.active(balance.credit)
            seen = (
                balance.available_micros,
                balance.granted_micros,
                balance.debt_micros,
                balance.overage_micros,
                balance.held_micros,
            )
            holds = self.model.holds.values()
            wanted = (
                available(self.model, balance.credit),
                sum(grant.amount for grant in active),
                self.model.debts.get(balance.credit, 0),
                overage_used(self.model, balance.credit),
                sum(hold.micros for hold in holds if self.model.credit_of(hold.feature) == balance.credit),
            )
            same(f"balance of {balance.credit}", seen, wanted)
        orders = [grant for balance in answer.balances for grant in burn_order(self.model, balance.credit)]
        same("order of ListGrants", [item.grant.id for item in listed.grants], [grant.id for grant in orders])
        drawable = [grant for grant in orders if grant.remaining]
        same(
            "order of GetBalance", [item.grant.id for item in answer.grants], [grant.id for grant in drawable]
        )
        have = sorted(self.shown(item) for item in answer.grants)
        same("grants of GetBalance", have, sorted(self.expected(grant) for grant in drawable))

    def shown(self, item: Any) -> tuple[Any, ...]:
        """A grant of the server in the terms in which both are compared."""
        grant = item.grant
        return (
            grant.credit,
            grant.amount_micros,
            grants_pb2.Grant.Category.Name(grant.category).removeprefix("CATEGORY_"),
            grant.priority,
            grant.effective_at.ToMilliseconds(),
            grant.expires_at.ToMilliseconds() if grant.HasField("expires_at") else FOREVER,
            grant.source,
            tuple(grant.features),
            item.remaining_micros,
        )

    def expected(self, grant: Grant) -> tuple[Any, ...]:
        """A grant of the model in the same terms."""
        return (
            grant.credit,
            grant.amount,
            grant.category,
            grant.priority,
            grant.effective_at,
            self.model.ends(grant),
            grant.source,
            grant.features,
            grant.remaining,
        )

    def adopt(self, listed: Any) -> None:
        """Give the model's new grants the ids of the server's that look the same."""
        known = {grant.id for grant in self.model.active() if grant.known}
        for item in listed:
            if item.grant.id in known:
                continue
            twin = next(
                grant
                for grant in self.model.active()
                if not grant.known and self.expected(grant) == self.shown(item)
            )
            for child in self.model.grants:
                if child.parent == twin.id:
                    child.parent = item.grant.id
            twin.id, twin.created_at, twin.known = item.grant.id, item.grant.created_at.ToMilliseconds(), True

    def verify(self) -> None:
        """The folded ledger is the hot state."""
        verified = self.ledger.VerifyAccount(ledger_pb2.VerifyAccountRequest(account=self.account))
        assert verified.consistent, list(verified.differences)
