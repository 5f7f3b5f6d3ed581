"""Refund: a change of the account like a grant, under the account's lock, so that parts never exceed the whole."""

from __future__ import annotations

from dataclasses import dataclass

from creditd.domain.entries import Entry
from creditd.domain.errors import FailedPrecondition, NotFound
from creditd.domain.grants import Grant
from creditd.domain.refunds import Undo, burned_by, refund
from creditd.engine.books import earlier_entry, write
from creditd.engine.heads import ruling_of
from creditd.engine.ids import NewId, fingerprint
from creditd.engine.load import Loader
from creditd.engine.requests import Refund, Ruling
from creditd.ledger.transaction import AccountTransaction


@dataclass(slots=True)
class Refunds:
    """Gives back what entries burned."""

    loader: Loader
    new_id: NewId

    async def refund(self, request: Refund) -> Ruling:
        """Give back all or a part of what an entry burned; the same key gives the first answer again.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            NotFound: no entry of the account that burned something has this id.
            FailedPrecondition: NOTHING_TO_REFUND, or REFUND_TOO_LARGE: less than asked is left of it.
            OutOfRange: the balance would go beyond 9e15 micros.
        """
        mark = fingerprint("refund", request.entry_id, request.amount)
        async with self.loader.change(request.account) as (tx, now):
            known = await earlier_entry(tx, request.idempotency_key, mark)
            if known is not None:
                return ruling_of(known, replayed=True)
            burned = await tx.find_burned(request.entry_id)
            if burned is None:
                raise NotFound("entry", request.entry_id, hint="give the id of a Consume or Commit")
            before = sum(_refunded(entry) for entry in await tx.refunds_of(burned.id))
            undo = Undo(
                burned=burned,
                before=before,
                amount=_amount(request, burned, burned_by(burned) - before),
                entry_id=self.new_id(),
                idempotency_key=request.idempotency_key,
                fingerprint=mark,
                note=request.reason,
            )
            entries = refund(tx.state, undo, await _definitions(tx, burned), now, self.new_id)
            await write(tx, entries)
        return ruling_of(entries[0], replayed=False)


def _refunded(entry: Entry) -> int:
    return 0 if entry.answer is None else entry.answer.released


def _amount(request: Refund, burned: Entry, left: int) -> int:
    if left <= 0:
        why = "all that it burned was refunded" if burned_by(burned) else "it burned nothing"
        raise FailedPrecondition(
            f"nothing of entry {burned.id!r} can be refunded: {why}",
            reason="NOTHING_TO_REFUND",
            metadata={"entryId": burned.id},
        )
    amount = left if request.amount is None else request.amount
    if amount > left:
        raise FailedPrecondition(
            f"{amount} micros were asked for, {left} are left of what entry {burned.id!r} burned",
            reason="REFUND_TOO_LARGE",
            metadata={"entryId": burned.id, "leftMicros": str(left)},
        )
    return amount


async def _definitions(tx: AccountTransaction, burned: Entry) -> dict[str, Grant]:
    """The grants that paid, as they were made."""
    found = {grant_id: await tx.get_grant(grant_id) for grant_id, _micros in burned.allocations}
    return {grant_id: grant for grant_id, pair in found.items() if pair is not None for grant in pair[:1]}
