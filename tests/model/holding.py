"""The model's reservations and refunds: what is held, settled and given back."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.model.burn import (
    Answer,
    budgets_of,
    burn_order,
    consume,
    limits_of,
    overage_terms,
    overage_used,
    overage_window,
    used,
)
from tests.model.model import FOREVER, Grant, Hold, Model, Part, Share, micros

Burns = list[tuple[Grant, int]]


@dataclass
class Settled:
    """What a Commit or Release did: micros burned, given back, burned as overage, owed; and which grants paid."""

    charged: int = 0
    released: int = 0
    overage: int = 0
    burned: Burns = field(default_factory=list)
    limit: tuple[int, int] | None = None


@dataclass
class Burned:
    """What an entry burned, for its refunds: of a debt, as overage by window, of grants in burn order."""

    entry_id: str
    credit: str
    charged: int
    at: int
    owed: int
    overage: list[Share]
    grants: Burns
    budgets: list[Share]
    refunded: int = 0


def price(model: Model, feature: str, quantity: int) -> int:
    """What so many units cost, in micros."""
    definition = model.item("features", feature)
    return (
        micros(definition["rates"][0]["prices"][0]["credits"]) * quantity if definition.get("credit") else 0
    )


def hold_more(model: Model, hold: Hold, quantity: int) -> Answer:
    """Decide as a Consume would; what it takes joins the hold."""
    credit = model.item("features", hold.feature).get("credit", "")
    cost = price(model, hold.feature, quantity)
    answer = consume(model, hold.feature, quantity, "ENFORCE", hold.subject)
    if not answer.allowed:
        return answer
    by_id = {grant.id: grant for grant in model.grants}
    for grant_id, amount in answer.allocations:
        grant = by_id[grant_id]
        part = next((p for p in hold.parts if p.grant is grant and p.fits), None)
        if part is None:
            hold.parts.append(Part(grant, amount, grant.filled_at))
        else:
            part.amount += amount
    if answer.overage:
        _join(hold.overage, Share(f"overage {credit}", *overage_window(model, credit), answer.overage))
    for counter in limits_of(model, hold.feature, quantity):
        _join(hold.limits, Share(counter.key, *counter.span, quantity))
    if credit:
        for counter in budgets_of(model, hold.feature, credit, hold.subject, cost):
            _join(hold.budgets, Share(counter.key, *counter.span, cost))
    hold.units += quantity
    return answer


def _join(shares: list[Share], new: Share) -> None:
    for old in shares:
        if (old.key, old.start) == (new.key, new.start):
            old.amount += new.amount
            return
    shares.append(new)


def commit(model: Model, hold: Hold, quantity: int | None, *, keep_open: bool) -> tuple[Settled, Burned]:
    """Burn what was used, of the hold first; then what of it is left returns, unless it stays open."""
    units = hold.units if quantity is None else quantity
    feature = model.item("features", hold.feature)
    credit = feature.get("credit", "")
    cost = left = price(model, hold.feature, units)
    done = Settled(charged=cost)
    entry = Burned("", credit, cost, model.now, 0, [], done.burned, [])
    for part in hold.parts:
        taken = min(left, part.amount)
        part.amount, left = part.amount - taken, left - taken
        _paid(done.burned, part.grant, taken)
    for share in hold.overage:
        taken = min(left, share.amount)
        share.amount, left = share.amount - taken, left - taken
        done.overage += taken
        if taken:
            entry.overage.append(Share(share.key, share.start, share.end, taken))
    hold.parts = [part for part in hold.parts if part.amount]
    hold.overage = [share for share in hold.overage if share.amount]
    entry.budgets = _counted(hold.budgets, cost)
    model.correct(hold.limits, units, keep_open=keep_open)
    model.correct(hold.budgets, cost, keep_open=keep_open)
    hold.units = max(0, hold.units - units)
    if left:
        _burn_beyond(model, hold, credit, left, done, entry)
    if not keep_open:
        done.released = model.give_back(hold, is_counted=False)
    done.limit = tightest(model, hold.feature)
    return done, entry


def _burn_beyond(model: Model, hold: Hold, credit: str, left: int, done: Settled, entry: Burned) -> None:
    """More than was held: grants, then overage, then debt."""
    for grant in burn_order(model, credit):
        taken = min(left, grant.remaining)
        if taken and (not grant.features or hold.feature in grant.features):
            grant.remaining, left = grant.remaining - taken, left - taken
            _paid(done.burned, grant, taken)
    terms = overage_terms(model, credit)
    if left and terms and terms.get("allowed"):
        room = micros(terms["cap"]) - overage_used(model, credit) if terms.get("cap") else FOREVER
        beyond = min(left, max(0, room))
        if beyond:
            share = Share(f"overage {credit}", *overage_window(model, credit), beyond)
            model.move(share, beyond)
            entry.overage.append(share)
            done.overage, left = done.overage + beyond, left - beyond
    model.debts[credit] = model.debts.get(credit, 0) + left
    entry.owed = left


def _paid(burned: Burns, grant: Grant, amount: int) -> None:
    """One line for each grant."""
    for place, (other, before) in enumerate(burned):
        if other is grant and amount:
            burned[place] = (grant, before + amount)
            return
    if amount:
        burned.append((grant, amount))


def tightest(model: Model, feature: str) -> tuple[int, int] | None:
    """The limit with the least room now."""
    states = [(counter.cap, used(model, counter)) for counter in limits_of(model, feature, 0)]
    return min(states, key=lambda state: max(0, state[0] - state[1])) if states else None


def burned_now(model: Model, entry_id: str, feature: str, subject: str, cost: int, answer: Answer) -> Burned:
    """What a Consume has burned just now."""
    credit = model.item("features", feature).get("credit", "")
    by_id = {grant.id: grant for grant in model.grants}
    grants = [(by_id[grant_id], amount) for grant_id, amount in answer.allocations]
    overage = []
    if answer.overage:
        overage = [Share(f"overage {credit}", *overage_window(model, credit), answer.overage)]
    counters = budgets_of(model, feature, credit, subject, cost) if credit else []
    return Burned(
        entry_id,
        credit,
        answer.charged,
        model.now,
        answer.charged - answer.overage - sum(amount for _grant, amount in grants),
        overage,
        grants,
        [Share(counter.key, *counter.span, answer.charged) for counter in counters],
    )


def _counted(shares: list[Share], cost: int) -> list[Share]:
    """How a cost is spread over the windows of each budget: what was held there first, the rest in the last."""
    spread = []
    for key in dict.fromkeys(share.key for share in shares):
        mine, left = [share for share in shares if share.key == key], cost
        for share in mine:
            amount = left if share is mine[-1] else min(left, share.amount)
            left -= amount
            spread.append(Share(share.key, share.start, share.end, amount))
    return spread


def refund_budgets(model: Model, entry: Burned, amount: int) -> None:
    """Out of each budget, of its last window first."""
    for key in dict.fromkeys(share.key for share in entry.budgets):
        skip, left = entry.refunded, amount
        for share in reversed([share for share in entry.budgets if share.key == key]):
            skipped = min(skip, share.amount)
            taken = min(left, share.amount - skipped)
            skip, left = skip - skipped, left - taken
            model.move(share, -taken)


def refund(model: Model, entry: Burned, amount: int) -> None:
    """Undo some of it: debt first, then overage, then the grants that paid, the last first."""
    layers: list[tuple[int, Share | Grant | None]] = [(entry.owed, None)]
    layers += [(share.amount, share) for share in reversed(entry.overage)]
    layers += [(paid, grant) for grant, paid in reversed(entry.grants)]
    skip, left = entry.refunded, amount
    refund_budgets(model, entry, amount)
    entry.refunded += amount
    anew: list[tuple[int, tuple[str, ...]]] = []
    fits: Burns = []
    for size, source in layers:
        skipped = min(skip, size)
        taken = min(left, size - skipped)
        skip, left = skip - skipped, left - taken
        if not taken:
            continue
        if source is None:
            lowered = min(taken, model.debts.get(entry.credit, 0))
            model.debts[entry.credit] = model.debts.get(entry.credit, 0) - lowered
            anew += [(taken - lowered, ())] if taken > lowered else []
        elif isinstance(source, Share):
            model.move(source, -taken)
        else:
            room = 0
            if source.state == "active" and source.filled_at <= entry.at:
                room = max(0, source.amount - source.remaining - model.held_of(source))
            fits += [(source, min(room, taken))] if room else []
            anew += [(taken - min(room, taken), source.features)] if taken > room else []
    for grant, fitting in fits:
        grant.remaining += fitting
        model.pay_debt(grant, fitting)
    for rest, features in anew:
        number = len(model.grants)
        model.give(
            Grant(
                f"refund/{number}",
                entry.credit,
                rest,
                "REFUND",
                30,
                model.now,
                model.now,
                features=features,
                source="refund",
            )
        )
