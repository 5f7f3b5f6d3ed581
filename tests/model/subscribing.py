"""The model's subscriptions: beginning, changing, ending."""

from __future__ import annotations

from dataclasses import replace

from tests.model.model import FOREVER, Model, Subscription, later, window


def put(
    model: Model,
    key: str,
    plan: str,
    *,
    status: str = "",
    seats: int = 0,
    add_ons: dict[str, int] | None = None,
    cancel_at: int = FOREVER,
    mode: str = "",
) -> None:
    """PutSubscription: what it leaves out stays as it is, but for add-ons and cancel_at."""
    item = model.subscriptions.get(key)
    if item is None or item.status == "CANCELED":
        if status != "CANCELED":
            _begin(model, key, plan, seats or 1, add_ons or {}, cancel_at)
        return
    if status == "CANCELED":
        _end(model, item, cancel_at)
        item.plan, item.add_ons = plan, dict(add_ons or {})
        return
    before = replace(item, add_ons=dict(item.add_ons))
    moved = plan != item.plan
    now_moved = moved and mode != "AT_PERIOD_END"
    period_end = _period(item, model.now)[1]
    item.cancel_at, item.seats, item.add_ons = cancel_at, seats or item.seats, dict(add_ons or {})
    trialing = item.status == "TRIALING"
    target = model.item("plans", plan)
    wanted = status or item.status
    if now_moved and trialing:
        if "trial" in target:
            item.waits = target["trial"].get("require_activation", False)
        elif not status:
            wanted = "ACTIVE"
    waited = trialing or (item.status == "PAUSED" and (item.waits or item.trial_ends_at > model.now))
    if waited and wanted in {"ACTIVE", "PAST_DUE"}:
        _activate(model, item, plan, wanted)
        return
    item.status = wanted
    if now_moved:
        _change_plan(model, before, item, plan, mode)
        _resize(model, before, item, "add_on/")
        return
    if moved:
        item.pending = (plan, period_end)
    elif mode:
        item.pending = None
    _resize(model, before, item, "")


def _period(item: Subscription, now: int) -> tuple[int, int]:
    if item.status == "TRIALING":
        return item.started_at, item.trial_ends_at
    return window(item.anchor, "month", now)


def _begin(model: Model, key: str, plan: str, seats: int, add_ons: dict[str, int], cancel_at: int) -> None:
    """An account has one trial of a plan."""
    trial = None if plan in model.tried else model.item("plans", plan).get("trial")
    model.tried.add(plan)
    ends = later(model.now, trial["length"]) if trial else FOREVER
    item = Subscription(
        key,
        plan,
        "TRIALING" if trial else "ACTIVE",
        model.now,
        ends if trial else model.now,
        seats,
        dict(add_ons),
        ends,
        bool(trial and trial.get("require_activation")),
        cancel_at,
    )
    _forget(model, key)
    model.subscriptions[key] = item
    model.lay(item, model.trial_slots(item) if trial else model.plan_slots(item))


def _forget(model: Model, key: str) -> None:
    """What an ended subscription has left behind is no part of the new one under its id."""
    for grant in model.grants:
        if grant.subscription == key and grant.state == "active":
            grant.expires_at = model.ends(grant)


def _end(model: Model, item: Subscription, cancel_at: int) -> None:
    for grant in model.active():
        if grant.subscription == item.id and (grant.every or grant.category in {"TRIAL", "ROLLOVER"}):
            model.leave(grant)
    item.status, item.pending, item.cancel_at = "CANCELED", None, cancel_at


def _activate(model: Model, item: Subscription, plan: str, status: str) -> None:
    """A trial, or the wait after it, ends now; the plan, or the one that was to follow, begins."""
    if plan == item.plan and item.pending:
        plan = item.pending[0]
    for grant in model.mine(item):
        if grant.category == "TRIAL":
            model.leave(grant)
    item.plan, item.status, item.anchor = plan, status, model.now
    item.trial_ends_at, item.waits, item.pending = FOREVER, False, None
    model.tried.add(plan)
    have = {grant.slot for grant in model.mine(item) if grant.effective_at >= item.started_at}
    model.lay(item, {k: v for k, v in model.plan_slots(item).items() if k not in have})


def _change_plan(model: Model, before: Subscription, item: Subscription, plan: str, mode: str) -> None:
    """The old plan's grants are voided; the new plan's come, less what the mode holds back."""
    span = _period(before, model.now)
    trialing = item.status == "TRIALING"
    burned: dict[str, int] = {}
    for grant in model.mine(item):
        if grant.slot.startswith("add_on/"):
            continue
        if grant.category == ("TRIAL" if trialing else "PLAN"):
            never_given = grant.prorated if grant.filled_at <= grant.effective_at else 0
            used = max(0, grant.amount - grant.remaining - never_given)
            burned[grant.credit] = burned.get(grant.credit, 0) + used
        model.leave(grant)
    item.plan, item.pending = plan, None
    model.tried.add(plan)
    if item.waits and item.status == "PAUSED":
        return
    if item.status != "TRIALING" and item.trial_ends_at < FOREVER and item.trial_ends_at > model.now:
        return
    slots = model.trial_slots(item) if trialing else model.plan_slots(item)
    slots = {key: slot for key, slot in slots.items() if not key.startswith("add_on/")}
    withheld: dict[str, int] = {}
    prorated: dict[str, int] = {}
    for key, (allowance, amount, _source) in slots.items():
        if mode in {"", "CARRY_USAGE"}:
            withheld[key] = min(amount, burned.get(allowance["credit"], 0))
            burned[allowance["credit"]] = burned.get(allowance["credit"], 0) - withheld[key]
        elif mode == "PRORATE":
            start, end = window(item.anchor, allowance["every"], model.now) if "every" in allowance else span
            prorated[key] = amount * (model.now - start) // (end - start)
    model.lay(item, slots, withheld, prorated)


def _resize(model: Model, before: Subscription, item: Subscription, prefix: str) -> None:
    """More comes at once, less with the next filling; the recurring credits of an add-on that is gone go with it."""
    trialing = item.status == "TRIALING"
    old = {**model.plan_slots(before), **model.trial_slots(before)}
    new = {**model.plan_slots(item), **model.trial_slots(item)}
    old, new = ({key: slot for key, slot in slots.items() if key.startswith(prefix)} for slots in (old, new))
    for grant in model.active():
        gone = grant.subscription == item.id and grant.slot in old.keys() - new.keys()
        if gone and (grant.every or grant.category in {"TRIAL", "ROLLOVER"}):
            model.leave(grant)
    for key, slot in new.items():
        allowance, amount, _source = slot
        if key.startswith("trial/") != trialing or (item.waits and item.status == "PAUSED"):
            continue
        # Given back and taken again grants nothing twice, while what it had granted has not expired.
        mine = [grant for grant in model.active() if (grant.subscription, grant.slot) == (item.id, key)]
        given = 0 if "every" in allowance else sum(grant.amount for grant in mine)
        if key not in old:
            if amount > given:
                model.lay(item, {key: (allowance, amount - given, slot[2])})
        elif "every" not in allowance:
            more = min(amount - old[key][1], amount - given)
            if more > 0:
                model.lay(item, {key: (allowance, more, slot[2])})
        else:
            for grant in (grant for grant in model.mine(item) if grant.slot == key):
                more = amount - grant.amount
                grant.shrinks_to = amount if more < 0 else 0
                if more > 0:
                    grant.amount += more
                    grant.remaining += more
                    model.pay_debt(grant, more)
