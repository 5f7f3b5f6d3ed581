"""`due`: the entries that time itself owes an account: activations, expiries, debts paid by new credits.

Nothing here needs a cron job: the entries are laid down on the next touch, each with the instant at which it
took effect.
"""

from __future__ import annotations

from collections.abc import Callable

from creditd.domain.entries import Effects, Entry, GrantChange, Kind
from creditd.domain.fold import fold
from creditd.domain.grants import Grant
from creditd.domain.state import AccountState, GrantState, balance

NewId = Callable[[], str]


def due(state: AccountState, now: int, new_id: NewId) -> list[Entry]:
    """The entries that take effect up to and including `now`, in the order of their instants.

    At one instant expiries come before activations, so that what expires can't pay a debt any more.
    """
    entries: list[Entry] = []
    while (event := _next(state, now)) is not None:
        held, expires = event
        fresh = [_expire(state, held, new_id)] if expires else activate(state, held.grant, new_id)
        for entry in fresh:
            state = fold(state, entry)
        entries.extend(fresh)
    return entries


def _next(state: AccountState, now: int) -> tuple[GrantState, bool] | None:
    best: tuple[tuple[int, bool, str], GrantState, bool] | None = None
    for held in state.grants.values():
        expires = held.active
        instant = held.grant.expires_at if expires else held.grant.effective_at
        if instant is None or instant > now:
            continue
        key = (instant, not expires, held.grant.id)
        if best is None or key < best[0]:
            best = (key, held, expires)
    return None if best is None else (best[1], best[2])


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
) -> list[Entry]:
    """The entries that give a new grant at `now`: it is drawable at once, or later by `due`."""
    if grant.effective_at <= now:
        return activate(
            state, grant, new_id, idempotency_key=idempotency_key, fingerprint=fingerprint, at=now
        )
    return [
        Entry(
            id=new_id(),
            account=state.account,
            sequence=state.sequence + 1,
            kind=Kind.GRANT,
            at=max(now, state.at),
            credit=grant.credit,
            balance_after=balance(state, grant.credit),
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            grant_id=grant.id,
            effects=Effects(put=grant),
        )
    ]


def activate(
    state: AccountState,
    grant: Grant,
    new_id: NewId,
    *,
    idempotency_key: str | None = None,
    fingerprint: str = "",
    at: int | None = None,
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
        ),
    )
    after = fold(state, entry)
    paid = min(after.debts.get(grant.credit, 0), grant.amount)
    if paid <= 0:
        return [entry]
    payment = Entry(
        id=new_id(),
        account=state.account,
        sequence=entry.sequence + 1,
        kind=Kind.ADJUST,
        at=entry.at,
        credit=grant.credit,
        balance_after=entry.balance_after,
        allocations=((grant.id, paid),),
        grant_id=grant.id,
        note="debt",
        effects=Effects(grants=(GrantChange(grant.id, -paid),), debt=-paid),
    )
    return [entry, payment]
