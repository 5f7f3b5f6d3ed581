"""`due`: the entries that time itself owes an account.

They are holds released, expiries, fillings, activations, and debts paid by new credits.

Nothing here needs a cron job: the entries are laid down on the next touch, each with the instant at which it
took effect. Many boundaries passed at once give the same state as each touched in its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum

from creditd.domain.amounts import AMOUNT_MAX
from creditd.domain.entries import Effects, Entry, GrantChange, Kind
from creditd.domain.fold import fold, fold_all
from creditd.domain.grants import Grant, carried_over, rolled_over, successor
from creditd.domain.holds import expire
from creditd.domain.state import AccountState, GrantState, Hold, balance, held_of, returnable

NewId = Callable[[], str]


class _Event(IntEnum):
    """What time does to a hold or a grant, in the order in which it is done at one instant.

    What a hold gives back is in its grant before that expires or is filled. What expires can't pay a debt any more,
    and makes room for what a filling carries over.
    """

    RELEASE = 0
    EXPIRY = 1
    FILLING = 2
    ACTIVATION = 3


def due(state: AccountState, now: int, new_id: NewId) -> list[Entry]:
    """The entries that take effect up to and including `now`, in the order of their instants."""
    entries: list[Entry] = []
    while (found := _next(state, now)) is not None:
        event, held = found
        if isinstance(held, Hold):
            fresh = [expire(state, held, new_id())]
        elif event is _Event.EXPIRY:
            fresh = [_expire(state, held, new_id)]
        elif event is _Event.FILLING:
            fresh = _fill(state, held, now, new_id)
        else:
            fresh = activate(state, held.grant, new_id)
        state = fold_all(state, fresh)
        entries.extend(fresh)
    return entries


def _next(state: AccountState, now: int) -> tuple[_Event, GrantState | Hold] | None:
    best: tuple[tuple[bool, int, _Event, str], GrantState | Hold] | None = None
    for hold in state.holds.values():
        first = (False, hold.expires_at, _Event.RELEASE, hold.id)
        if hold.expires_at <= now and (best is None or first < best[0]):
            best = (first, hold)
    for held in state.grants.values():
        for event, instant in _events(held):
            if instant is None or instant > now:
                continue
            # Fillings that do nothing are one entry at the last of them, which must not come before what happens
            # until then.
            idle = event is _Event.FILLING and _is_idle(state, held)
            key = (idle, instant, event, held.grant.id)
            if best is None or key < best[0]:
                best = (key, held)
    return None if best is None else (best[0][2], best[1])


def _events(held: GrantState) -> tuple[tuple[_Event, int | None], ...]:
    if not held.active:
        return ((_Event.ACTIVATION, held.grant.effective_at),)
    return ((_Event.EXPIRY, held.grant.expires_at), (_Event.FILLING, held.next_filling))


def _fill(state: AccountState, held: GrantState, now: int, new_id: NewId) -> list[Entry]:
    """The entries that fill a recurring grant at its next instant, or at the last one when all between do nothing."""
    grant, recurrence, at = held.grant, held.grant.recurrence, held.next_filling
    if recurrence is None or at is None:
        raise ValueError(f"grant {grant.id!r} is never filled again")
    if grant.shrinks_to:
        shrunk = _shrink(state, held, at, new_id())
        state = fold(state, shrunk)
        return [shrunk, *_fill(state, state.grants[grant.id], now, new_id)]
    missing = grant.amount - held.remaining
    carried, _lasting = _carry(state, held)
    if _is_idle(state, held):
        until = now if grant.expires_at is None else min(now, grant.expires_at - 1)
        until = min([until, *(hold.expires_at for hold in state.holds.values())])
        at = recurrence.last_until(until)
    changes = [GrantChange(grant.id, missing)] if missing else []
    rest = rolled_over(grant, at, carried) if carried else None
    if rest is not None:
        changes.append(GrantChange(rest.id, carried))
    entry = Entry(
        id=new_id(),
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.REFILL,
        at=max(at, state.at),
        credit=grant.credit,
        amount=missing + carried,
        balance_after=balance(state, grant.credit) + missing + carried,
        allocations=() if rest is None else ((rest.id, carried),),
        grant_id=grant.id,
        effects=Effects(
            grants=tuple(changes),
            put=rest,
            activated="" if rest is None else rest.id,
            filled_at=at,
        ),
    )
    return [entry, *pay_debt(fold(state, entry), grant, missing, entry, new_id)]


def refill(state: AccountState, held: GrantState, now: int, new_id: NewId) -> list[Entry]:
    """The entries that fill a recurring grant up to its amount now, out of turn; its next filling stays where it is.

    What is held of it counts as there: it may come back.
    """
    grant = held.grant
    missing = max(0, grant.amount - held.remaining - held_of(state, grant.id))
    if not missing:
        return []
    entry = Entry(
        id=new_id(),
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.REFILL,
        at=max(now, state.at),
        credit=grant.credit,
        amount=missing,
        balance_after=balance(state, grant.credit) + missing,
        grant_id=grant.id,
        note="reset",
        effects=Effects(grants=(GrantChange(grant.id, missing),)),
    )
    return [entry, *pay_debt(fold(state, entry), grant, missing, entry, new_id)]


def _carry(state: AccountState, held: GrantState) -> tuple[int, bool]:
    """How much a filling carries over, and whether nothing but burning can change that at later ones."""
    recurrence = held.grant.recurrence
    if recurrence is None or recurrence.rollover is None:
        return 0, True
    earlier = [
        other for other in state.grants.values() if other.active and other.grant.parent == held.grant.id
    ]
    outstanding = sum(other.remaining for other in earlier)
    credit = held.grant.credit
    room = AMOUNT_MAX - balance(state, credit) - returnable(state, credit)
    room -= held.grant.amount - held.remaining
    carried = carried_over(recurrence.rollover, held.remaining, outstanding)
    return max(0, min(carried, room)), all(other.grant.expires_at is None for other in earlier)


def _is_idle(state: AccountState, held: GrantState) -> bool:
    """Whether a grant is full with nothing to carry over, now and at every later filling unless it is burned from."""
    carried, lasting = _carry(state, held)
    return held.remaining == held.grant.amount and not held.grant.shrinks_to and not carried and lasting


def _shrink(state: AccountState, held: GrantState, at: int, entry_id: str) -> Entry:
    """The entry by which a grant becomes what it is filled up to from this filling on."""
    grant = held.grant
    return Entry(
        id=entry_id,
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.ADJUST,
        at=max(at, state.at),
        credit=grant.credit,
        balance_after=balance(state, grant.credit),
        grant_id=grant.id,
        note="subscription changed",
        effects=Effects(put=replace(grant, amount=grant.shrinks_to, shrinks_to=0)),
    )


def _expire(state: AccountState, held: GrantState, new_id: NewId) -> Entry:
    grant = held.grant
    return _leave(state, held, Kind.EXPIRE, grant.expires_at or 0, new_id())


def void(state: AccountState, held: GrantState, at: int, entry_id: str, note: str) -> Entry:
    """The entry that takes what is left of a grant away at `at`."""
    return _leave(state, held, Kind.VOID, at, entry_id, note)


def _leave(
    state: AccountState, held: GrantState, kind: Kind, at: int, entry_id: str, note: str = ""
) -> Entry:
    grant = held.grant
    gone = held.remaining if held.active else 0
    return Entry(
        id=entry_id,
        account=state.account,
        sequence=state.sequence + 1,
        kind=kind,
        at=max(at, state.at),
        credit=grant.credit,
        amount=-gone,
        balance_after=balance(state, grant.credit) - gone,
        grant_id=grant.id,
        note=note,
        effects=Effects(
            grants=(GrantChange(grant.id, -held.remaining),) if held.remaining else (), ended=grant.id
        ),
    )


def give(
    state: AccountState,
    grant: Grant,
    now: int,
    new_id: NewId,
    *,
    idempotency_key: str | None = None,
    fingerprint: str = "",
    withheld: int = 0,
) -> list[Entry]:
    """The entries that give a new grant at `now`: it is drawable at once, or later by `due`.

    `withheld` micros of one that is drawable at once count as used already.
    """
    if grant.effective_at <= now:
        return activate(
            state,
            grant,
            new_id,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            at=now,
            withheld=withheld,
        )
    return [_put(state, grant, now, new_id(), idempotency_key=idempotency_key, fingerprint=fingerprint)]


def activate(
    state: AccountState,
    grant: Grant,
    new_id: NewId,
    *,
    idempotency_key: str | None = None,
    fingerprint: str = "",
    at: int | None = None,
    withheld: int = 0,
) -> list[Entry]:
    """The entries by which a grant becomes drawable, and pays the account's debt first."""
    entry = Entry(
        id=new_id(),
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.GRANT,
        at=max(grant.effective_at if at is None else at, state.at),
        credit=grant.credit,
        amount=grant.amount,
        balance_after=balance(state, grant.credit) + grant.amount,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
        grant_id=grant.id,
        effects=Effects(
            grants=(GrantChange(grant.id, grant.amount),),
            put=None if grant.id in state.grants else grant,
            activated=grant.id,
            # Its fillings go on from its own instant, however late anybody looks.
            filled_at=grant.effective_at if at is None and grant.recurrence is not None else 0,
        ),
    )
    entries = [entry]
    after = fold(state, entry)
    if withheld:
        held_back = _hold_back(after, grant, withheld, entry.at, new_id())
        entries.append(held_back)
        after = fold(after, held_back)
    following = successor(grant)
    if following is not None:
        waiting = _put(after, following, entry.at, new_id())
        entries.append(waiting)
        after = fold(after, waiting)
    return [*entries, *pay_debt(after, grant, grant.amount - withheld, entry, new_id)]


def _hold_back(state: AccountState, grant: Grant, withheld: int, at: int, entry_id: str) -> Entry:
    """The entry that takes out of a new grant what its subscription has burned, or had, before it."""
    return Entry(
        id=entry_id,
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.ADJUST,
        at=at,
        credit=grant.credit,
        amount=-withheld,
        balance_after=balance(state, grant.credit) - withheld,
        allocations=((grant.id, withheld),),
        grant_id=grant.id,
        note="withheld",
        effects=Effects(grants=(GrantChange(grant.id, -withheld),)),
    )


def _put(
    state: AccountState,
    grant: Grant,
    at: int,
    entry_id: str,
    *,
    idempotency_key: str | None = None,
    fingerprint: str = "",
) -> Entry:
    """The entry that lays a grant down for the future."""
    return Entry(
        id=entry_id,
        account=state.account,
        sequence=state.sequence + 1,
        kind=Kind.GRANT,
        at=max(at, state.at),
        credit=grant.credit,
        balance_after=balance(state, grant.credit),
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
        grant_id=grant.id,
        effects=Effects(put=grant),
    )


def pay_debt(state: AccountState, grant: Grant, fresh: int, cause: Entry, new_id: NewId) -> list[Entry]:
    """The entry by which `fresh` new micros of a grant pay the account's debt; nothing without one."""
    paid = min(state.debts.get(grant.credit, 0), fresh)
    if paid <= 0:
        return []
    return [
        Entry(
            id=new_id(),
            account=state.account,
            sequence=state.sequence + 1,
            kind=Kind.ADJUST,
            at=cause.at,
            credit=grant.credit,
            balance_after=balance(state, grant.credit),
            allocations=((grant.id, paid),),
            grant_id=grant.id,
            note="debt",
            effects=Effects(grants=(GrantChange(grant.id, -paid),), debt=-paid),
        )
    ]
