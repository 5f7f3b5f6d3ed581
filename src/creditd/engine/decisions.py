"""Check, Consume and what is done with reservations: prepare, decide in the hot store, land in the ledger, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, cast

from creditd.domain.accounts import Account
from creditd.domain.decide import Decision, Drawn, Operation, decide
from creditd.domain.decide import Outcome as Verdict
from creditd.domain.entries import INTERNAL_KEY, Entry
from creditd.domain.errors import CreditdError, IdempotencyKeyReused, InvalidArgument, OutOfRange, Unavailable
from creditd.domain.state import Segment, SegmentGrant
from creditd.engine import failpoints
from creditd.engine.catalogs import Catalogs
from creditd.engine.commit import Committer
from creditd.engine.explain import explain, explain_not_entitled
from creditd.engine.fence import Fence
from creditd.engine.heads import Head, entry_of, ruling_of
from creditd.engine.hold_entries import settles_of
from creditd.engine.ids import NewId
from creditd.engine.load import LoadCause, Loader
from creditd.engine.lookup import KeyLookup
from creditd.engine.once import certain, landing_once, told
from creditd.engine.policies import Policies
from creditd.engine.prepare import Prepared, not_entitled, ruling_of_drawn
from creditd.engine.requests import Ruling, Use
from creditd.engine.reservations import Reservations, closed, fingerprints, head_of
from creditd.engine.tiers import TierCounts
from creditd.hot.answers import (
    Again,
    Answer,
    Code,
    Decided,
    Denied,
    OutboxUnit,
    Record,
    Replayed,
    Reused,
    Undecided,
    decode_outbox,
)
from creditd.hot.connection import HotUnavailable
from creditd.hot.keys import bucket_of
from creditd.hot.store import HotStore, Item
from creditd.ledger.append import Duplicate, Fenced, Landed, Outcome, Refused, Unit
from creditd.ledger.store import Ledger

ATTEMPTS_MAX: Final = 30
"""Rounds of load-and-decide-again before an operation gives up as UNAVAILABLE: only a storm of control-plane changes
on one account, or a failing store, can use them up."""


class Retry(Exception):
    """The operation was not decided, or was turned away; decide again."""


@dataclass(slots=True)
class _Attempt:
    """What the rounds of one operation hand on to each other."""

    uses: Sequence[Use]
    fingerprints: list[str]
    late_at: int = 0
    unit_id: str = ""
    unknown: bool = False
    doubtful: bool = False
    revision: int = 0


@dataclass(slots=True)
class Decisions:
    """The data plane's use cases."""

    ledger: Ledger
    hot: HotStore
    policies: Policies
    catalogs: Catalogs
    loader: Loader
    committer: Committer
    lookup: KeyLookup
    new_id: NewId
    tiers: TierCounts = field(default_factory=TierCounts)
    reservations: Reservations = field(init=False)
    fence: Fence = field(init=False)

    def __post_init__(self) -> None:
        self.fence = Fence(self.ledger, self.hot, self.loader)
        self.reservations = Reservations(self.hot, self.ledger, self.lookup)

    async def check(self, use: Use) -> Ruling:
        """May this be used now? Changes nothing."""
        late_at = 0
        for _ in range(ATTEMPTS_MAX):
            account = await self.policies.account(use.account)
            now = max(await self.policies.now(account), late_at)
            revision = self.catalogs.revision
            try:
                policy = await self.policies.resolve(account, now)
                prepared = self.tiers.prepare((use,), policy, now)[0]
            except CreditdError:
                if await self._is_current(account, now, revision, binding=False):
                    raise
                continue
            if prepared.denied:
                if await self._is_current(account, now, revision, binding=False):
                    steps = explain_not_entitled(prepared) if use.explain else ()
                    return replace(not_entitled(prepared), explanation=steps)
                continue
            operation = Operation(now, account.policy_version, (prepared.draw,))
            try:
                answer = await self.hot.check(use.account, operation, revision)
                if not isinstance(answer, Denied):
                    late_at = await self._make_ready(account.id, operation, answer, late_at)
                    continue
            except HotUnavailable:
                return await self._check_on_ledger(account, operation, prepared)
            ruling = ruling_of_drawn(prepared, answer.drawn[0], for_check=True)
            if not use.explain:
                return ruling
            grants = _grants_of(prepared, await self.loader.hot_segment(account.id))
            return replace(ruling, explanation=explain(prepared, answer.drawn[0], grants))
        raise _gave_up()

    async def consume(self, use: Use) -> Ruling:
        """Burn, or say why not."""
        return (await self.consume_all((use,)))[0]

    async def consume_all(self, uses: Sequence[Use]) -> list[Ruling]:
        """Burn for several uses of one account, all or none.

        A denial of any is told by one denied ruling, whose `index` names the use.
        """
        attempt = _Attempt([landing_once(use, self.new_id) for use in uses], fingerprints(uses))
        async with self.reservations.turn(uses[0]):
            for _ in range(ATTEMPTS_MAX):
                try:
                    return await self._consume_once(attempt)
                except Retry:
                    continue
        raise _gave_up()

    async def _consume_once(self, attempt: _Attempt) -> list[Ruling]:
        self.committer.admit()
        account = await self.policies.account(attempt.uses[0].account)
        now = max(await self.policies.now(account), attempt.late_at)
        # Of the catalogs that the price is worked out from: others may learn of newer ones meanwhile.
        attempt.revision = self.catalogs.revision
        policy = await self.policies.resolve(account, now)
        try:
            uses = await self.reservations.completed(attempt.uses, attempt.fingerprints)
            if uses is None:
                await self.loader.load(account.id)
                raise Retry
            if isinstance(uses, Ruling):
                return [uses]
        except HotUnavailable as error:
            return await self._without_answer(attempt, HotUnavailable(str(error), sent=False))
        try:
            prepared = self.tiers.prepare(uses, policy, now)
        except CreditdError:
            # What was applied is answered as it was, whatever the catalog says now.
            replay = await self._replay_from_ledger(attempt)
            if replay is not None:
                return replay
            if await self._is_current(account, now, attempt.revision):
                raise
            raise Retry from None
        for index, item in enumerate(prepared):
            if item.denied:
                if not await self._is_current(account, now, attempt.revision):
                    raise Retry
                denial = replace(not_entitled(item), charged=0, index=index)
                return await self._replay_from_ledger(attempt) or [certain(denial, doubtful=attempt.doubtful)]
        if not attempt.unknown:
            attempt.unit_id = self.new_id()
        heads = self._heads(attempt, prepared, attempt.unit_id)
        operation = Operation(now, account.policy_version, tuple(head.draw for head in heads))
        try:
            return await self._decide(attempt, account.id, operation, prepared, heads)
        except HotUnavailable as error:
            return await self._without_answer(attempt, error)

    async def _decide(
        self,
        attempt: _Attempt,
        account_id: str,
        operation: Operation,
        prepared: list[Prepared],
        heads: list[Head],
    ) -> list[Ruling]:
        landing: list[asyncio.Future[Outcome]] = []
        units: list[Unit] = []

        def on_decided(decided: Decided) -> None:
            failpoints.reach(failpoints.AFTER_SCRIPT)
            unit = _unit(heads, decided)
            units.append(unit)
            landing.append(self.committer.submit(unit))

        items = [Item(told(head.idempotency_key), head.fingerprint, head.pack()) for head in heads]
        failpoints.reach(failpoints.BEFORE_SCRIPT)
        answer = await self.hot.decide(
            account_id,
            operation,
            attempt.revision,
            attempt.unit_id,
            items,
            on_decided,
            again=attempt.unknown,
        )
        attempt.unknown = False
        if isinstance(answer, Decided):
            self.tiers.landed(account_id, operation.draws)
            return await self._landed(attempt, units[0], landing[0])
        try:
            return await self._not_decided(attempt, operation, prepared, answer)
        except HotUnavailable as error:
            # The decision was answered: whatever got lost after it was none.
            raise HotUnavailable(str(error), sent=False) from error

    async def _not_decided(
        self, attempt: _Attempt, operation: Operation, prepared: list[Prepared], answer: Answer
    ) -> list[Ruling]:
        """What follows from an answer by which nothing was taken now."""
        if isinstance(answer, Again):
            unit = unit_of(decode_outbox(attempt.unit_id, answer.outbox))
            return await self._landed(attempt, unit, self.committer.submit(unit))
        if isinstance(answer, Replayed):
            return await self._replayed(attempt, answer)
        if isinstance(answer, Reused):
            raise await self._reused(attempt.uses[answer.index])
        if isinstance(answer, Denied):
            return await self._denied(attempt, prepared, answer)
        account_id = attempt.uses[0].account
        if isinstance(answer, Undecided) and answer.code is Code.HOLD:
            for use in attempt.uses:
                if not await self.reservations.must_exist(use, operation):
                    await self.loader.load(account_id)
            raise Retry
        attempt.late_at = await self._make_ready(account_id, operation, answer, attempt.late_at)
        raise Retry

    async def _reused(self, use: Use) -> CreditdError:
        """The key is another request's. A reservation's own key tells that it has ended, once that is in the ledger."""
        if not use.idempotency_key.startswith(INTERNAL_KEY):
            return IdempotencyKeyReused(use.idempotency_key)
        entry = (await self.lookup.find(use.account, [use.idempotency_key]))[0]
        if entry is None:
            # Whoever decided it, here or in another process, has yet to land it.
            await self._land_outbox(use.account)
            raise Retry
        return closed(entry)

    async def _land_outbox(self, account_id: str) -> None:
        """Wait until what is decided for the account is in the ledger; another process may land it, too."""
        left = await self.hot.outbox(bucket_of(account_id))
        units = [unit for unit in map(unit_of, left) if unit.account == account_id]
        await asyncio.gather(*(asyncio.shield(self.committer.submit(unit)) for unit in units))

    async def _denied(self, attempt: _Attempt, prepared: list[Prepared], answer: Denied) -> list[Ruling]:
        """A denial binds only when the operation was not applied before under the same key, on the newest state."""
        replay = await self._replay_from_ledger(attempt)
        if replay is not None:
            return replay
        if not await self.fence.holds(attempt.uses[0].account, answer.epoch):
            raise Retry
        return [certain(_denial(prepared, answer.drawn), doubtful=attempt.doubtful)]

    async def _landed(self, attempt: _Attempt, unit: Unit, landing: asyncio.Future[Outcome]) -> list[Ruling]:
        outcome = await asyncio.shield(landing)
        if isinstance(outcome, Refused):
            raise InvalidArgument(f"the ledger can't store the request: {outcome.problem}")
        if isinstance(outcome, Fenced):
            # For good only once the epoch is raised: until then a reaper elsewhere could still land it.
            with suppress(HotUnavailable):
                await self.loader.load(unit.account, LoadCause.FENCED)
            outcome = (await self.ledger.append([unit]))[0]
        failpoints.reach(failpoints.BEFORE_ANSWER)
        if isinstance(outcome, Landed):
            return [ruling_of(entry, replayed=False) for entry in unit.entries]
        if isinstance(outcome, Duplicate):
            return _first_answers(attempt, outcome.entries)
        raise Retry

    async def _replayed(self, attempt: _Attempt, answer: Replayed) -> list[Ruling]:
        """A replay is answered once the original is durable, not before."""
        if answer.outbox is not None:
            unit = unit_of(decode_outbox(answer.records[0].unit_id, answer.outbox))
            outcome = await asyncio.shield(self.committer.submit(unit))
            if isinstance(outcome, Duplicate):
                return _first_answers(attempt, outcome.entries)
            if not isinstance(outcome, Landed):
                raise Retry
        return [ruling_of(_entry_of_record(record), replayed=True) for record in answer.records]

    async def _replay_from_ledger(self, attempt: _Attempt) -> list[Ruling] | None:
        """The first answers when the ledger knows every key; None when it knows none of them."""
        keys = [use.idempotency_key for use in attempt.uses]
        if not all(map(told, keys)) and not attempt.doubtful:
            return None
        found = [
            entry for entry in await self.lookup.find(attempt.uses[0].account, keys) if entry is not None
        ]
        return _first_answers(attempt, found) if found else None

    async def _without_answer(
        self,
        attempt: _Attempt,
        error: HotUnavailable,
    ) -> list[Ruling]:
        """The hot store is away. It may have decided before it went: then only a key, or the store itself, can tell."""
        if error.sent and not attempt.unknown:
            attempt.unknown = attempt.doubtful = True
            raise Retry from error
        return await self._decide_on_ledger(attempt)

    async def _decide_on_ledger(self, attempt: _Attempt) -> list[Ruling]:
        """A load whose entries are appended in the same transaction: slower, equally right."""
        account_id = attempt.uses[0].account
        async with self.loader.change(account_id) as (tx, now):
            keyed = [use.idempotency_key for use in attempt.uses if use.idempotency_key]
            found = [entry for key in keyed if (entry := await tx.find_key(key))]
            if found:
                return _first_answers(attempt, found)
            uses = await self.reservations.completed_in(tx, attempt.uses, attempt.fingerprints)
            if isinstance(uses, Ruling):
                return [uses]
            # Nobody else tells this replica that it is behind: the script that does so is not asked.
            await self.catalogs.refresh()
            policy = await self.policies.resolve(tx.account, now)
            segment = await self.loader.segment(tx, now)
            prepared = self.tiers.prepare(uses, policy, now)
            for index, item in enumerate(prepared):
                if item.denied:
                    return [
                        certain(
                            replace(not_entitled(item), charged=0, index=index), doubtful=attempt.doubtful
                        )
                    ]
            # Other ids than what the hot store may have decided: the two must not be taken for each other.
            heads = self._heads(attempt, prepared, self.new_id())
            operation = Operation(now, tx.account.policy_version, tuple(head.draw for head in heads))
            decision = decide(segment, operation)
            if decision.outcome is Verdict.PRICE:
                self.tiers.correct(account_id, operation.draws, decision.tiers_used)
            if decision.outcome is Verdict.DENIED:
                return [certain(_denial(prepared, decision.drawn), doubtful=attempt.doubtful)]
            _must_be_decided(decision)
            entries = _entries(heads, decision.at, tx.state.sequence + 1, decision.drawn)
            await tx.append(*entries)
        return [ruling_of(entry, replayed=False) for entry in entries]

    async def _check_on_ledger(self, account: Account, operation: Operation, prepared: Prepared) -> Ruling:
        _state, segment = await self.loader.peek(account, operation.now)
        decision = decide(segment, operation)
        if decision.outcome is Verdict.PRICE:
            self.tiers.correct(account.id, operation.draws, decision.tiers_used)
            policy = await self.policies.resolve(account, operation.now)
            prepared = self.tiers.prepare((prepared.use,), policy, operation.now)[0]
            decision = decide(segment, replace(operation, draws=(prepared.draw,)))
        if decision.outcome not in {Verdict.DECIDED, Verdict.DENIED}:
            _must_be_decided(decision)
        ruling = ruling_of_drawn(prepared, decision.drawn[0], for_check=True)
        if not prepared.use.explain:
            return ruling
        steps = explain(prepared, decision.drawn[0], _grants_of(prepared, segment))
        return replace(ruling, explanation=steps)

    async def catch_up(self, account_id: str) -> None:
        """Learn what other replicas have changed for the account, the catalog included, up to now."""
        for _ in range(ATTEMPTS_MAX):
            account = await self.policies.account(account_id)
            revision = self.catalogs.revision
            if await self._is_current(account, await self.policies.now(account), revision):
                return
        raise _gave_up()

    async def _is_current(self, account: Account, now: int, revision: int, *, binding: bool = True) -> bool:
        """Whether the account's policy and the catalogs up to `revision` are still the newest.

        Asked before a refusal that needs no decision: what goes ahead is compared inside the script anyway. When
        they are not current, they are afterwards. What is `binding` is not said by the hot store alone.
        """
        nothing = Operation(now, account.policy_version, ())
        try:
            answer = await self.hot.check(account.id, nothing, revision)
            if isinstance(answer, Denied):
                return not binding or await self.fence.holds(account.id, answer.epoch)
            await self._make_ready(account.id, nothing, answer, now)
        except HotUnavailable:
            await self.catalogs.refresh()
            self.policies.forget(account.id)
            known = await self.policies.account(account.id)
            return self.catalogs.revision == revision and known.revision == account.revision
        return False

    async def _make_ready(self, account_id: str, operation: Operation, answer: Answer, late_at: int) -> int:
        """Do what an undecided answer asks for; returns the instant to decide at, at the earliest."""
        if not isinstance(answer, Undecided):
            raise TypeError(f"not an answer to make ready for: {answer!r}")
        if answer.code is Code.RANGE:
            raise _out_of_range()
        if answer.code is Code.LATE:
            return answer.at
        if answer.code is Code.PRICE:
            self.tiers.correct(account_id, operation.draws, answer.tiers_used)
        elif answer.code is Code.POLICY:
            self.policies.forget(account_id)
        elif answer.code is Code.CATALOG:
            await self.catalogs.refresh()
        else:
            cause = LoadCause.COLD if answer.code is Code.COLD else LoadCause.ROLLED
            await self.loader.load(account_id, cause)
        return late_at

    def _heads(self, attempt: _Attempt, prepared: list[Prepared], unit_id: str) -> list[Head]:
        """A unit goes by the id of its first entry."""
        ids = [unit_id, *(self.new_id() for _ in prepared[1:])]
        return [
            head_of(entry_id, item, mark)
            for entry_id, item, mark in zip(ids, prepared, attempt.fingerprints, strict=True)
        ]


def _grants_of(prepared: Prepared, segment: Segment | None) -> tuple[SegmentGrant, ...]:
    """The grants that a decision on the segment would try, in burn order."""
    credit = None if segment is None else segment.credits.get(prepared.draw.credit)
    return () if credit is None else credit.grants


def _denial(prepared: list[Prepared], drawn: tuple[Drawn, ...]) -> Ruling:
    """The last draw is the one that was denied, and with it the whole operation."""
    index = len(drawn) - 1
    return replace(ruling_of_drawn(prepared[index], drawn[index], for_check=False), index=index)


def unit_of(outbox: OutboxUnit) -> Unit:
    """The ledger unit of a unit that lies in the outbox."""
    heads = [Head.unpack(head) for head in outbox.heads]
    entries = _entries(heads, outbox.at, outbox.first, outbox.drawn)
    settles = settles_of([head.draw for head in heads])
    return Unit(entries[0].account, outbox.epoch, outbox.depends, entries, settles)


def _unit(heads: list[Head], decided: Decided) -> Unit:
    entries = _entries(heads, decided.at, decided.first, decided.drawn)
    settles = settles_of([head.draw for head in heads])
    return Unit(entries[0].account, decided.epoch, decided.depends, entries, settles)


def _entries(heads: list[Head], at: int, first: int, drawn: tuple[Drawn, ...]) -> tuple[Entry, ...]:
    return tuple(
        entry_of(head, at, first + offset, result)
        for offset, (head, result) in enumerate(zip(heads, drawn, strict=True))
    )


def _entry_of_record(record: Record) -> Entry:
    return entry_of(Head.unpack(record.head), record.at, record.sequence, record.drawn)


def _first_answers(attempt: _Attempt, found: Sequence[Entry]) -> list[Ruling]:
    by_key = {entry.idempotency_key: entry for entry in found}
    rulings: list[Ruling] = []
    for use, mark in zip(attempt.uses, attempt.fingerprints, strict=True):
        entry = by_key.get(use.idempotency_key) if use.idempotency_key else None
        if entry is None or entry.fingerprint != mark:
            if entry is not None and use.idempotency_key.startswith(INTERNAL_KEY):
                raise closed(entry)
            reused = use.idempotency_key if entry is not None else cast("str", found[0].idempotency_key)
            raise IdempotencyKeyReused(reused)
        rulings.append(ruling_of(entry, replayed=bool(told(use.idempotency_key))))
    return rulings


def _must_be_decided(decision: Decision) -> None:
    if decision.outcome is Verdict.RANGE:
        raise _out_of_range()
    if decision.outcome is not Verdict.DECIDED:
        raise Retry


def _out_of_range() -> OutOfRange:
    return OutOfRange(
        "a balance or counter would go beyond 9e15 micros or units", reason="BALANCE_OUT_OF_RANGE"
    )


def _gave_up() -> Unavailable:
    return Unavailable(
        "the account changes faster than the operation can be decided; retry with the same idempotency key",
        reason="CONTENTION",
    )
