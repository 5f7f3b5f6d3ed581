"""Reservations: what a request on one means, given how the reservation stands.

A reservation is open in the account's state, or it has ended: then the ledger has the entry that ended it under a key
that only creditd makes. Callers name a reservation by its id; everything else about it is found here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from creditd.domain.decide import Mode, Operation
from creditd.domain.entries import INTERNAL_KEY, Entry, Kind, expiry_key, settle_key
from creditd.domain.errors import FailedPrecondition, IdempotencyKeyReused, NotFound
from creditd.domain.holds import Join
from creditd.domain.state import Hold
from creditd.engine.heads import Head, ruling_of
from creditd.engine.hold_draws import NO_SUCH
from creditd.engine.ids import fingerprint
from creditd.engine.lookup import KeyLookup
from creditd.engine.prepare import Prepared
from creditd.engine.requests import Action, Ruling, Use
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger
from creditd.ledger.transaction import AccountTransaction

_KINDS = {
    Action.RESERVE: Kind.RESERVE,
    Action.EXTEND: Kind.RESERVE,
    Action.COMMIT: Kind.COMMIT,
    Action.RELEASE: Kind.RELEASE,
}


@dataclass(slots=True)
class Reservations:
    """Completes the uses that name a reservation with what is known of it."""

    hot: HotStore
    ledger: Ledger
    lookup: KeyLookup
    _turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def turn(self, use: Use) -> AbstractAsyncContextManager[object]:
        """Waited for by what changes an open hold: of many at once in a process, only one could go ahead anyway."""
        reservation = use.reservation
        if reservation is None or not reservation.id or reservation.is_final:
            return nullcontext()
        return self._turns.setdefault((use.account, reservation.id), asyncio.Lock())

    async def completed(self, uses: Sequence[Use], marks: Sequence[str]) -> Sequence[Use] | Ruling | None:
        """The uses as they can be prepared; an answer when there is nothing to decide; None: load the account first.

        Raises:
            HotUnavailable: the hot store is away.
            FailedPrecondition: the reservation has ended.
        """
        use = uses[0]
        if use.reservation is None or use.reservation.action is Action.RESERVE:
            return uses
        found = await self.hot.find_hold(use.account, use.reservation.id)
        if found.epoch is None:
            return None
        if found.hold is not None:
            return [complete(use, found.hold)]
        keys = _keys(use)
        entries = await self.lookup.find(use.account, keys)
        known = {key: entry for key, entry in zip(keys, entries, strict=True) if entry is not None}
        ended = _ended(use, known, marks[0])
        # It may have ended just now and not be in the ledger yet: the script knows the key.
        return ended if isinstance(ended, Ruling) else [ended or _probe(use)]

    async def completed_in(
        self, tx: AccountTransaction, uses: Sequence[Use], marks: Sequence[str]
    ) -> Sequence[Use] | Ruling:
        """As `completed`, on the ledger's own state.

        Raises:
            NotFound: there never was such a reservation.
        """
        use = uses[0]
        if use.reservation is None or use.reservation.action is Action.RESERVE:
            return uses
        hold = tx.state.holds.get(use.reservation.id)
        if hold is not None:
            return [complete(use, hold)]
        known = {key: entry for key in _keys(use) if (entry := await tx.find_key(key)) is not None}
        ended = _ended(use, known, marks[0])
        if ended is None:
            raise NotFound("reservation", use.reservation.id)
        return ended if isinstance(ended, Ruling) else [ended]

    async def must_exist(self, use: Use, operation: Operation) -> bool:
        """Called when a hold was not as the operation took it to be; False when the hot state may lack it.

        Raises:
            NotFound: it was looked for everywhere.
            HotUnavailable: the hot store is away.
        """
        if use.reservation is None or not any(is_probe(draw.hold) for draw in operation.draws):
            return True
        reservation_id = use.reservation.id
        if await self.hot.knows_key(use.account, settle_key(reservation_id)):
            return True
        # A store that was promoted with writes missing, that is one side of a split, or that could not be told of a
        # change, knows nothing of it. Only reading, so that callers with wrong ids don't make an account load; with a
        # hole below the head only a load can tell.
        state = await self.ledger.read(use.account)
        if reservation_id in state.holds or await self.ledger.head_sequence(use.account) > state.sequence:
            return False
        if not any(
            await self.lookup.find(use.account, [settle_key(reservation_id), expiry_key(reservation_id)])
        ):
            raise NotFound("reservation", reservation_id)
        return True


def is_probe(step: object) -> bool:
    """Whether a draw's step only asks whether its key is known."""
    return isinstance(step, Join) and step.hold.sequence == NO_SUCH


def _probe(use: Use) -> Use:
    reservation = use.reservation
    if reservation is None:
        raise TypeError("not a use of a reservation")
    return replace(use, reservation=replace(reservation, hold=Hold(reservation.id, NO_SUCH, 0)))


def _keys(use: Use) -> list[str]:
    """Where the ledger may know the reservation, or this very request, from."""
    if use.reservation is None:
        return []
    keys = [settle_key(use.reservation.id), expiry_key(use.reservation.id)]
    return [*keys, use.idempotency_key] if use.idempotency_key not in {"", *keys} else keys


def complete(use: Use, hold: Hold, *, is_expired: bool = False) -> Use:
    """A use of a reservation with all that follows from how that stands."""
    reservation = use.reservation
    if reservation is None:
        raise TypeError("not a use of a reservation")
    usage = use.usage
    if reservation.action is Action.COMMIT and use.quantity is None and not usage:
        usage = dict(hold.usage)
    return replace(
        use,
        feature=hold.feature,
        subject=hold.subject,
        usage=usage,
        mode=Mode.ENFORCE if reservation.action is Action.EXTEND else Mode.RECORD,
        attributes=use.attributes or dict(hold.attributes),
        metadata={**hold.metadata, **use.metadata},
        reservation=replace(reservation, hold=hold, is_expired=is_expired),
    )


def _ended(use: Use, known: Mapping[str, Entry], mark: str) -> Use | Ruling | None:
    """What to do about a reservation that is not open; None when nothing is known of it."""
    reservation = use.reservation
    if reservation is None:
        return None
    own = known.get(use.idempotency_key) if use.idempotency_key else None
    if own is not None and own.fingerprint == mark:
        return ruling_of(own, replayed=True)
    if own is not None and not use.idempotency_key.startswith(INTERNAL_KEY):
        raise IdempotencyKeyReused(use.idempotency_key)
    settled = known.get(settle_key(reservation.id))
    if settled is not None:
        raise closed(settled)
    expired = known.get(expiry_key(reservation.id))
    if expired is None:
        return None
    if reservation.action is Action.RELEASE:
        return ruling_of(expired, replayed=True)
    if reservation.action is Action.COMMIT:
        return complete(use, _as_it_was(expired), is_expired=True)
    raise FailedPrecondition(
        f"reservation {reservation.id!r} has expired; reserve anew",
        reason="RESERVATION_EXPIRED",
        metadata={"reservationId": reservation.id},
    )


def _as_it_was(expired: Entry) -> Hold:
    """What a reservation was for, from the entry by which it expired."""
    return Hold(
        id=expired.reservation_id,
        sequence=expired.sequence,
        expires_at=expired.at,
        credit=expired.credit,
        feature=expired.feature,
        subject=expired.subject,
        usage=expired.usage,
        attributes=expired.attributes,
        metadata=expired.metadata,
    )


def closed(entry: Entry) -> FailedPrecondition:
    """Why nothing can be done with a reservation that the entry ended."""
    how = "released" if entry.kind is Kind.RELEASE else "committed"
    return FailedPrecondition(
        f"reservation {entry.reservation_id!r} was {how}",
        reason=f"RESERVATION_{how.upper()}",
        metadata={"reservationId": entry.reservation_id},
    )


def keyed(use: Use) -> Use:
    """A use with the key that it is done once under: what ends a reservation has the reservation's own."""
    if use.reservation is None or not use.reservation.is_final:
        return use
    return replace(use, idempotency_key=settle_key(use.reservation.id))


def fingerprints(uses: Sequence[Use]) -> list[str]:
    """What each key stands for. In a group every key stands for the whole group as well: all or none of it.

    Metadata is left out: a retry may carry another trace id.
    """
    each = [_fingerprint(use) for use in uses]
    return each if len(each) == 1 else [fingerprint(one, each) for one in each]


def _fingerprint(use: Use) -> str:
    reservation = use.reservation
    if reservation is not None and reservation.is_final:
        return fingerprint("settle", reservation.action.value, reservation.id)
    marks = [
        use.feature,
        use.subject,
        use.quantity,
        use.usage,
        use.attributes,
        use.mode.value,
        use.cost_micros,
        use.occurred_at,
    ]
    if reservation is not None:
        marks += [reservation.action.value, reservation.id, reservation.ttl_ms]
    return fingerprint(*marks)


def head_of(entry_id: str, item: Prepared, mark: str) -> Head:
    """The head of a prepared use; a hold that it opens goes by the entry's id."""
    use, draw, reservation = item.use, item.draw, item.use.reservation
    if isinstance(draw.hold, Join) and not draw.hold.hold.id:
        draw = replace(draw, hold=Join(replace(draw.hold.hold, id=entry_id)))
    return Head(
        id=entry_id,
        account=use.account,
        draw=draw,
        type=item.policy.feature.type,
        subject=use.subject,
        idempotency_key=use.idempotency_key,
        fingerprint=mark,
        usage=item.usage,
        attributes=use.attributes,
        metadata=use.metadata,
        occurred_at=use.occurred_at,
        catalog_version=item.catalog_version,
        cost=item.cost,
        kind=Kind.CONSUME if reservation is None else _KINDS[reservation.action],
        reservation_id="" if reservation is None else reservation.id or entry_id,
    )
