"""Giving credits and taking what is left of them away."""

from __future__ import annotations

from dataclasses import dataclass, replace

from creditd.domain.errors import AlreadyExists, InvalidArgument, NotFound, Violation
from creditd.domain.grants import ROLLOVER_UNITS, Category, Grant, Recurrence, default_priority
from creditd.domain.roll import give, void
from creditd.engine.books import earlier_entry, write
from creditd.engine.catalogs import Catalogs
from creditd.engine.control_types import GrantDraft
from creditd.engine.ids import NewId, fingerprint
from creditd.engine.load import Loader
from creditd.engine.subscriptions import must_fit
from creditd.ledger.transaction import AccountTransaction


@dataclass(slots=True)
class GrantsControl:
    """Use cases on grants."""

    catalogs: Catalogs
    loader: Loader
    new_id: NewId

    async def create(self, draft: GrantDraft, *, idempotency_key: str) -> Grant:
        """Give credits once: the same key, or the same grant id, gives the same grant again.

        Raises:
            InvalidArgument: neither key nor id, or instants that contradict each other.
            IdempotencyKeyReused: the key belongs to another request.
            AlreadyExists: the id belongs to another grant.
            NotFound: the account, credit or a feature does not exist.
            OutOfRange: the balance would go beyond 9e15.
        """
        if not idempotency_key and not draft.id:
            problem = "is required when the grant has no id of yours: without one, a retry would grant twice"
            raise InvalidArgument(violations=(Violation("idempotency_key", problem),))
        mark = _mark(draft)
        async with self.loader.change(draft.account) as (tx, now):
            existing = await _existing(tx, draft, idempotency_key, mark)
            if existing is not None:
                return existing
            grant_id = draft.id or fingerprint("grant", draft.account, idempotency_key)
            grant = _grant(draft, grant_id, now)
            await self._check(draft, grant, now)
            must_fit(tx.state, grant)
            await write(
                tx,
                give(
                    tx.state,
                    grant,
                    now,
                    self.new_id,
                    idempotency_key=idempotency_key or None,
                    fingerprint=mark,
                ),
            )
            return grant

    async def void(self, account_id: str, grant_id: str, *, reason: str) -> Grant:
        """Take what is left of a grant away now; what was burned stays burned. Voiding again changes nothing."""
        async with self.loader.change(account_id) as (tx, now):
            found = await tx.get_grant(grant_id)
            if found is None:
                raise NotFound("grant", grant_id)
            # A grant that brings others forth ends for good: the one that waits for its turn goes as well.
            ending = [
                held
                for held in tx.state.grants.values()
                if held.grant.id == grant_id or (held.grant.parent == grant_id and not held.active)
            ]
            for held in ending:
                await write(tx, [void(tx.state, held, now, self.new_id(), reason)])
            voided = await tx.get_grant(grant_id)
            return found[0] if voided is None else voided[0]

    async def _check(self, draft: GrantDraft, grant: Grant, now: int) -> None:
        index, _until = await self.catalogs.in_force(now)
        hint = f"catalog version {index.version} is in force"
        if draft.credit not in index.orders:
            raise NotFound("credit", draft.credit, hint=hint)
        violations = _recurrence_faults(grant)
        for place, feature in enumerate(draft.features):
            known = index.features.get(feature)
            if known is None:
                raise NotFound("feature", feature, hint=hint)
            if known.credit != draft.credit:
                problem = f"burns {known.credit or 'no credit'}, not {draft.credit}"
                violations.append(Violation(f"grant.features[{place}]", problem))
        if grant.expires_at is not None and grant.expires_at <= max(grant.effective_at, now):
            violations.append(
                Violation(
                    "grant.expires_at", "must be later than now and than effective_at, or absent for never"
                )
            )
        if violations:
            raise InvalidArgument(violations=violations)


def _recurrence_faults(grant: Grant) -> list[Violation]:
    recurrence = grant.recurrence
    if recurrence is None or recurrence.rollover is None or recurrence.every.unit in ROLLOVER_UNITS:
        return []
    problem = "is shorter than a day, with credits that are carried over; expected days or more"
    return [Violation("grant.recurrence.every", problem)]


def _mark(draft: GrantDraft) -> str:
    price = draft.price
    recurrence = draft.recurrence
    return fingerprint(
        "grant",
        draft.id,
        draft.credit,
        draft.amount,
        draft.priority,
        draft.category.value if draft.category else "",
        draft.effective_at,
        draft.expires_at,
        None if price is None else [price.currency, str(price.nanos)],
        list(draft.features),
        *([] if recurrence is None else [_recurrence_mark(recurrence)]),
    )


def _recurrence_mark(recurrence: Recurrence) -> list[object]:
    rollover = recurrence.rollover
    return [
        recurrence.every.unit.value,
        recurrence.every.count,
        recurrence.anchor,
        None if rollover is None else [rollover.max_micros, rollover.max_percent, rollover.max_periods],
    ]


async def _existing(tx: AccountTransaction, draft: GrantDraft, key: str, mark: str) -> Grant | None:
    entry = await earlier_entry(tx, key, mark)
    if entry is not None:
        found = await tx.get_grant(entry.grant_id)
        return None if found is None else found[0]
    found = await tx.get_grant(draft.id) if draft.id else None
    if found is None:
        return None
    if found[1] != mark:
        raise AlreadyExists(
            f"grant {draft.id!r} exists and is another one; use a new id",
            metadata={"kind": "grant", "key": draft.id},
        )
    return found[0]


def _grant(draft: GrantDraft, grant_id: str, now: int) -> Grant:
    category = draft.category or Category.ADJUSTMENT
    effective_at = now if draft.effective_at is None else draft.effective_at
    recurrence = draft.recurrence
    if recurrence is not None and recurrence.anchor < 0:
        recurrence = replace(recurrence, anchor=effective_at)
    return Grant(
        id=grant_id,
        credit=draft.credit,
        amount=draft.amount,
        category=category,
        priority=draft.priority or default_priority(category),
        effective_at=effective_at,
        recurrence=recurrence,
        created_at=now,
        expires_at=draft.expires_at,
        price=draft.price,
        metadata=draft.metadata,
        source=draft.source,
        features=draft.features,
    )
