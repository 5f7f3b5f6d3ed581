"""What subscribing, and every change of a subscription, does to grants: pure, as ledger entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from creditd.domain.accounts import PendingPlan, Subscription, SubscriptionStatus
from creditd.domain.allowances import Books, ChangeMode, Slot, Terms, ends, lay, plan_slots, trial_slots
from creditd.domain.catalog import Plan
from creditd.domain.grants import Category, Grant, Recurrence, carried_until
from creditd.domain.periods import MS_MAX, Span, add_periods, anchored_window
from creditd.domain.state import GrantState


def begin(books: Books, terms: Terms) -> None:
    """Give what comes with a new subscription, or with one that starts anew after its end.

    One that starts in the future has its grants from then on.
    """
    subscription = terms.subscription
    starts = max(books.now, subscription.started_at)
    if subscription.status is SubscriptionStatus.TRIALING:
        for slot in trial_slots(terms):
            lay(books, subscription, slot, starts)
        starts = max(starts, subscription.trial_ends_at or 0)
    if not waits(subscription):
        for slot in plan_slots(terms):
            lay(books, subscription, slot, starts)


def waits(subscription: Subscription) -> bool:
    """Whether the plan's credits come with an activation only, not by themselves."""
    return subscription.pauses_after_trial and subscription.status in {
        SubscriptionStatus.TRIALING,
        SubscriptionStatus.PAUSED,
    }


def end(books: Books, subscription: Subscription) -> None:
    """End a subscription's recurring credits now; those granted once stay."""
    for held in books.all(subscription.id):
        if not held.active or _ends_with_subscription(held.grant):
            books.void(held, "subscription ends")


def _ends_with_subscription(grant: Grant) -> bool:
    return grant.recurrence is not None or grant.category in {Category.TRIAL, Category.ROLLOVER}


def activate_trial(books: Books, terms: Terms) -> None:
    """End a trial and begin the plan: what the trial left is gone, the allowances come now."""
    for held in books.held(terms.subscription.id):
        if not held.active or held.grant.category is Category.TRIAL:
            books.void(held, "trial ended")
    started_at = terms.subscription.started_at
    kept = {
        held.grant.slot for held in books.held(terms.subscription.id) if held.grant.effective_at >= started_at
    }
    for slot in plan_slots(terms):
        if slot.key not in kept:
            lay(books, terms.subscription, slot, books.now)


def align(books: Books, before: Subscription, terms: Terms) -> None:
    """Let a subscription's grants end when it does, and come as long as it lasts.

    `before` is the subscription as its grants are; `terms` as they are to be. What an earlier end had cut off comes
    back.
    """
    subscription = terms.subscription
    slots = {slot.key: slot for slot in (*plan_slots(terms), *trial_slots(terms))}
    for held in books.all(subscription.id):
        grant = held.grant
        ends_at = ends(subscription, grant.slot)
        if not held.active and grant.effective_at >= ends_at:
            books.void(held, "subscription ends")
        elif not held.active or _ends_with_subscription(grant):
            aligned = _aligned(books, grant, slots.get(grant.slot), subscription)
            if held.active and (aligned.expires_at or MS_MAX) <= books.now:
                books.void(held, "subscription ends")
            elif aligned != grant:
                books.redefine(aligned)
    waiting = {held.grant.slot for held in books.held(subscription.id) if not held.active}
    for key, slot in slots.items():
        starts = _next_start(subscription, slot, books.now)
        if starts is None or key in waiting:
            continue
        if ends(before, key) <= starts < ends(subscription, key):
            lay(books, subscription, slot, starts)


def _aligned(books: Books, grant: Grant, slot: Slot | None, subscription: Subscription) -> Grant:
    """A grant with the ends that it has in the subscription as it is now."""
    cancelled = subscription.cancel_at or MS_MAX
    over, recurrence = ends(subscription, grant.slot), grant.recurrence
    if recurrence is not None and recurrence.lasts is not None:
        # What a period has brought outlasts a change of plan, not the subscription.
        natural = add_periods(grant.effective_at, recurrence.lasts, 1)
        return replace(
            grant,
            expires_at=min(natural, cancelled),
            ends_at=None if over == MS_MAX else over,
            until=subscription.cancel_at,
        )
    if grant.category is Category.ROLLOVER:
        parent = books.state.grants.get(grant.parent)
        if parent is None:
            expires_at = min(grant.expires_at or MS_MAX, cancelled)
        else:
            expires_at = min(carried_until(parent.grant, grant.effective_at) or MS_MAX, cancelled)
    elif recurrence is not None:
        expires_at = over
    else:
        lasts = None if slot is None else slot.allowance.expires_after
        natural = MS_MAX if lasts is None else add_periods(grant.effective_at, lasts, 1)
        expires_at = min(natural, over if grant.category is Category.TRIAL else MS_MAX)
    return replace(grant, expires_at=None if expires_at == MS_MAX else expires_at)


def _next_start(subscription: Subscription, slot: Slot, now: int) -> int | None:
    """The instant at which the slot's next grant is to begin, if one has to wait for it."""
    trialing = subscription.status is SubscriptionStatus.TRIALING
    begins = max(subscription.started_at, subscription.trial_ends_at or 0 if trialing else 0)
    if slot.category is Category.TRIAL:
        return subscription.started_at if subscription.started_at > now else None
    if waits(subscription):
        return None
    if begins > now:
        return begins
    allowance = slot.allowance
    if allowance.every is None or allowance.expires_after is None:
        return None
    return Recurrence(allowance.every, subscription.anchor).next_after(now)


def settle(
    books: Books,
    before: Terms,
    after: Terms,
    scheduled: Plan | None,
    *,
    mode: ChangeMode | None,
    anchor: int | None,
    period: Span,
) -> Subscription:
    """Change a subscription that lasts: what it becomes is returned, what that does to grants is in the books.

    `scheduled` is the plan that it changes to by itself. `mode` and `anchor` are those that were asked for; a mode
    with the present plan takes a scheduled change back. `period` is the subscription's present one.
    """
    was, wanted = before.subscription, after.subscription
    changed = (was.plan, was.plan_version) != (wanted.plan, wanted.plan_version)
    if was.started_at > books.now:
        end(books, was)
        wanted = replace(wanted, pending=None)
        begin(books, replace(after, subscription=wanted))
        return wanted
    if wanted == was and mode is None:
        return wanted
    unscheduled = replace(was, pending=None)
    if was.pending is not None:
        take_up(books, was, was.pending.at)
        align(books, was, replace(before, subscription=unscheduled))
    if _is_activated(was, wanted, books.now):
        if scheduled is not None and not changed:
            after = replace(after, plan=scheduled)
        wanted = _activated(after, anchor, books.now)
        activate_trial(books, replace(after, subscription=wanted))
        return wanted
    if wanted.anchor != was.anchor:
        reanchor(books, wanted.anchor, subscription=was.id)
    if changed and mode is not ChangeMode.AT_PERIOD_END:
        wanted = replace(wanted, pending=None)
        after = replace(after, subscription=wanted)
        change_plan(books, after, mode=mode or ChangeMode.CARRY_USAGE, period=period)
        resize(books, before, after, slots="add_on/")
        align(books, unscheduled, after)
        return wanted
    pending = None if mode is not None else was.pending
    if changed:
        pending, scheduled = PendingPlan(wanted.plan, wanted.plan_version, period.end), after.plan
    wanted = replace(
        wanted,
        plan=was.plan,
        plan_version=was.plan_version,
        pauses_after_trial=was.pauses_after_trial,
        pending=pending,
    )
    present = replace(after, subscription=wanted, plan=before.plan)
    resize(books, before, present)
    align(books, unscheduled, present)
    if pending is not None and scheduled is not None and not waits(wanted):
        lay_plan(books, replace(present, plan=scheduled), pending.at)
    return wanted


def _is_activated(was: Subscription, wanted: Subscription, now: int) -> bool:
    """Whether a trial, or the wait after one, ends by this change."""
    trial_ends_at = was.trial_ends_at or 0
    waited = was.status is SubscriptionStatus.TRIALING or (
        was.status is SubscriptionStatus.PAUSED and (was.pauses_after_trial or trial_ends_at > now)
    )
    return waited and wanted.status in {SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE}


def _activated(terms: Terms, anchor: int | None, now: int) -> Subscription:
    return replace(
        terms.subscription,
        plan=terms.plan.key,
        plan_version=terms.plan.version,
        anchor=now if anchor is None else anchor,
        trial_ends_at=None,
        pauses_after_trial=False,
        pending=None,
    )


def resize(books: Books, before: Terms, after: Terms, *, slots: str = "") -> None:
    """Follow other seats or add-ons. More comes at once; less comes with the next filling.

    What an add-on that is gone had granted once stays; what it fills again and again is taken away. `slots` is what
    the keys of the slots looked at begin with.
    """
    subscription = after.subscription
    old = {slot.key: slot for slot in _all_slots(before) if slot.key.startswith(slots)}
    new = {slot.key: slot for slot in _all_slots(after) if slot.key.startswith(slots)}
    for held in books.all(subscription.id):
        gone = held.grant.slot in old.keys() - new.keys()
        if gone and (not held.active or _ends_with_subscription(held.grant)):
            books.void(held, "no longer subscribed to")
    for key, slot in new.items():
        mine = [held for held in books.held(subscription.id) if held.grant.slot == key]
        if key not in old:
            starts = _starts(subscription, slot, books.now)
            more = slot.amount - _given_once(slot, mine)
            if starts is not None and more > 0:
                lay(books, subscription, slot, starts, amount=more)
        elif slot.allowance.every is None:
            _resize_once(books, subscription, slot, slot.amount - old[key].amount, mine)
        else:
            _resize_recurring(books, slot, mine)


def _all_slots(terms: Terms) -> list[Slot]:
    return [*plan_slots(terms), *trial_slots(terms)]


def _starts(subscription: Subscription, slot: Slot, now: int) -> int | None:
    """When a slot that is new to a subscription begins; None while that waits for an activation."""
    trialing = subscription.status is SubscriptionStatus.TRIALING
    if slot.category is Category.TRIAL:
        return max(now, subscription.started_at) if trialing else None
    if waits(subscription):
        return None
    return max(now, subscription.started_at, subscription.trial_ends_at or 0 if trialing else 0)


def _resize_once(
    books: Books, subscription: Subscription, slot: Slot, more: int, mine: list[GrantState]
) -> None:
    """What is granted once never shrinks; more of it is another grant, unless it has not begun.

    Seats that are given back and taken again grant nothing twice, while what they had granted has not expired.
    """
    more = min(more, slot.amount - _given_once(slot, mine))
    waiting = [held for held in mine if not held.active]
    if waiting:
        if waiting[0].grant.amount != slot.amount:
            books.redefine(replace(waiting[0].grant, amount=slot.amount))
    elif more > 0:
        starts = _starts(subscription, slot, books.now)
        if starts == books.now:
            lay(books, subscription, slot, books.now, amount=more)


def _given_once(slot: Slot, mine: list[GrantState]) -> int:
    """What a slot that is granted once has granted and what has not expired, in micros; 0 for recurring slots."""
    return sum(held.grant.amount for held in mine if held.active) if slot.allowance.every is None else 0


def _resize_recurring(books: Books, slot: Slot, mine: list[GrantState]) -> None:
    """The present period's credits grow at once and never shrink; those to come are as large as the slot.

    Seats that are given back and taken again within a period grant nothing twice: a grant keeps its amount until its
    next filling.
    """
    present = max((held.grant.effective_at for held in mine if held.active), default=0)
    for held in mine:
        grant, more = held.grant, slot.amount - held.grant.amount
        if not held.active:
            resized = replace(grant, amount=slot.amount)
        elif grant.effective_at < present:
            continue
        elif more >= 0:
            resized = replace(grant, amount=slot.amount, shrinks_to=0)
        elif grant.recurrence is not None and grant.recurrence.lasts is None:
            resized = replace(grant, shrinks_to=slot.amount)
        else:
            continue
        if resized != grant:
            books.redefine(resized, max(0, more) if held.active else 0)


def reanchor(books: Books, anchor: int, *, credit: str = "", subscription: str = "") -> None:
    """Let recurring grants count their periods from another instant.

    Those of a credit, of a subscription, or ("") of all. What waits for the next period comes with the next one of
    the new anchor.
    """
    for held in list(books.state.grants.values()):
        grant, recurrence = held.grant, held.grant.recurrence
        if recurrence is None or (credit and grant.credit != credit):
            continue
        if subscription and grant.subscription != subscription:
            continue
        moved = replace(grant, recurrence=replace(recurrence, anchor=anchor))
        if held.active:
            filled_at = 0 if recurrence.lasts is not None else books.now
            books.redefine(moved, filled_at=filled_at)
        elif grant.parent and recurrence.lasts is not None:
            starts = replace(recurrence, anchor=anchor).next_after(books.now)
            if starts >= (grant.ends_at or MS_MAX):
                books.void(held, "periods moved")
                continue
            lasts_until = min(add_periods(starts, recurrence.lasts, 1), grant.until or MS_MAX)
            books.redefine(replace(moved, effective_at=starts, expires_at=lasts_until))
        else:
            books.redefine(moved)


def change_plan(books: Books, after: Terms, *, mode: ChangeMode, period: Span) -> None:
    """Change the plan now; `period` is the subscription's present one.

    What is left of the old plan's grants for the present period is voided, and the new plan's are given, less what the
    mode holds back. What earlier periods have left, carried over or lasting, stays.
    """
    subscription = after.subscription
    trialing = subscription.status is SubscriptionStatus.TRIALING
    paying = Category.TRIAL if trialing else Category.PLAN
    burned: dict[str, int] = {}
    for held in _present(books.held(subscription.id), books.now):
        grant = held.grant
        if held.active and grant.category is paying:
            withheld = grant.prorated if held.filled_at <= grant.effective_at else 0
            used = max(0, grant.amount - held.remaining - withheld)
            burned[grant.credit] = burned.get(grant.credit, 0) + used
        books.void(held, f"changed to plan {after.plan.key}")
    for slot in _all_slots(after):
        starts = None if slot.key.startswith("add_on/") else _starts(subscription, slot, books.now)
        if starts is None:
            continue
        withheld = 0
        if starts == books.now and mode is ChangeMode.CARRY_USAGE:
            withheld = min(slot.amount, burned.get(slot.allowance.credit, 0))
            burned[slot.allowance.credit] = burned.get(slot.allowance.credit, 0) - withheld
        prorated = 0
        if starts == books.now and mode is ChangeMode.PRORATE:
            span = period
            if slot.allowance.every is not None:
                span = anchored_window(subscription.anchor, slot.allowance.every, books.now)
            # Rounded in the customer's favour.
            prorated = slot.amount * (books.now - span.start) // (span.end - span.start)
        lay(books, subscription, slot, starts, withheld=withheld, prorated=prorated)


def _present(mine: list[GrantState], now: int) -> list[GrantState]:
    """Those of the plan and the trial, but for what earlier periods of lasting allowances have left."""
    latest: dict[str, int] = {}
    for held in mine:
        if held.active:
            slot = held.grant.slot
            latest[slot] = max(latest.get(slot, 0), held.grant.effective_at)
    return [
        held
        for held in mine
        if not held.grant.slot.startswith("add_on/") and not _is_left_over(held, latest, now)
    ]


def _is_left_over(held: GrantState, latest: Mapping[str, int], now: int) -> bool:
    grant = held.grant
    if not held.active or grant.recurrence is None or grant.recurrence.lasts is None:
        return False
    return grant.effective_at < latest[grant.slot] or (grant.ends_at or MS_MAX) <= now


def lay_plan(books: Books, terms: Terms, at: int) -> None:
    """Lay a plan's credits down for the instant `at`, at which it takes over."""
    for slot in plan_slots(terms):
        if not slot.key.startswith("add_on/"):
            lay(books, terms.subscription, slot, at)


def take_up(books: Books, subscription: Subscription, at: int) -> None:
    """Take up again what `lay_plan` has laid down for `at`."""
    for held in books.held(subscription.id):
        if not held.active and held.grant.effective_at >= at and held.grant.slot.startswith("plan/"):
            books.void(held, "another change of plan")
