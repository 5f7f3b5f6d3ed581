"""What must be true at the end: of the ledger by itself, of the hot state, and of what callers were told."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.scenarios.conservation import conserved
from tests.simulator.catalog import CALLS_MAX, JOBS_MAX, OVERAGE_MAX, PROMOTIONS_MAX
from tests.simulator.intents import KINDS, Intent, done
from tests.simulator.replica import Replica

from creditd.domain.decide import Mode
from creditd.domain.entries import Entry, Kind, expiry_key
from creditd.domain.errors import CreditdError, Unavailable
from creditd.domain.fold import BrokenLedger, fold_all
from creditd.domain.state import AccountState
from creditd.engine.heads import ruling_of
from creditd.engine.requests import Ruling
from creditd.ledger.rows import to_entry

if TYPE_CHECKING:
    from tests.simulator.world import World

SETTLED_S = 120.0


class Verdict:
    """Judges a world that has healed; what is wrong goes to its violations."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wrong = world.violation

    async def judge(self) -> None:
        """Let all come to rest, then look."""
        world = self.world
        await world.wait_for(world.loop.create_task(self._settle()), "settling", SETTLED_S)
        if world.violations:
            return
        await self._look()
        if world.violations:
            return
        await self._replay()
        await world.wait_for(world.loop.create_task(self._settle()), "settling again", SETTLED_S)
        await self._look()

    def _replicas(self) -> list[Replica]:
        return [replica for replica in self.world.replicas if replica.serves]

    async def _settle(self) -> None:
        """All replicas serve, no unit is on its way, no outbox has any."""
        world = self.world
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(0.5)
            ready = len(self._replicas()) == len(world.replicas)
            for replica in self._replicas():
                await self._in(replica, replica.reap_now)
            busy = [
                replica.name
                for replica in self._replicas()
                if replica.engine is not None
                and (replica.engine.committer.depth or replica.engine.committer._side_tasks)
            ]
            left = sum(world.nodes[0].ask("HLEN", key) for key in world.nodes[0].keys(b":outbox"))
            quiet = quiet + 1 if ready and not busy and not left else 0

    async def _in(self, replica: Replica, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The result of something done in a replica's process; it may first have to find out which connections died."""
        for _ in range(20):
            try:
                return await replica.process.spawn(work())
            except Unavailable:
                await asyncio.sleep(1.0)
        return await replica.process.spawn(work())

    def entries(self, account: str) -> list[Entry]:
        """The account's ledger, read past all code but the codec."""
        record = self.world.postgres.records[account]
        return [to_entry(record.entries[sequence]) for sequence in sorted(record.entries)]

    async def _look(self) -> None:
        world = self.world
        books: dict[str, list[Entry]] = {}
        for account in world.accounts:
            replica = world.source.choice(self._replicas())
            if replica.engine is None:
                raise TypeError("not a replica that serves")
            # Fills holes, as the next touch of a lost account would.
            await self._in(replica, partial(replica.engine.loader.load, account))
            books[account] = self.entries(account)
            try:
                state = fold_all(AccountState(account), books[account])
                conserved(books[account], state)
            except (BrokenLedger, AssertionError) as error:
                self.wrong(f"{account}: {error}")
                continue
            self._check_bounds(account, books[account], state)
            self._check_holds(account, books[account], state)
            for other in self._replicas():
                if other.engine is None:
                    continue
                found = await self._in(other, partial(other.engine.verify_account, account, repair=False))
                if not found.consistent:
                    self.wrong(f"{account}, verified by {other.name}: {'; '.join(found.differences)}")
        redeemed = sum(
            entry.kind is Kind.GRANT
            and entry.effects.put is not None
            and entry.effects.put.source == "promotion/welcome"
            for entries in books.values()
            for entry in entries
        )
        if redeemed > PROMOTIONS_MAX:
            self.wrong(f"a promotion was redeemed {redeemed} times")
        self._check_callers(books)

    def _check_bounds(self, account: str, entries: list[Entry], state: AccountState) -> None:
        """Limits, overage and debt stay where enforced requests must keep them."""
        keys = Counter(entry.idempotency_key for entry in entries if entry.idempotency_key is not None)
        for key, times in keys.items():
            if times > 1:
                self.wrong(f"{account}: key {key!r} is there {times} times")
        most = {"l:calls": CALLS_MAX, "l:jobs": JOBS_MAX, "o:credits": OVERAGE_MAX}
        used: dict[tuple[str, int], int] = defaultdict(int)
        for entry in entries:
            for change in entry.effects.counters:
                used[change.key, change.start] += change.delta
                for prefix, maximum in most.items():
                    beyond = used[change.key, change.start] > maximum
                    enforced = entry.kind in {Kind.CONSUME, Kind.RESERVE} and change.delta > 0
                    if change.key.startswith(prefix) and beyond and enforced:
                        self.wrong(f"{account}: {change.key} at {used[change.key, change.start]}")
        modes = {
            use.metadata.get("intent"): use.mode for intent in self.world.wishes.all for use in intent.uses
        }
        for entry in entries:
            enforced = modes.get(entry.metadata.get("intent")) in {Mode.ENFORCE, Mode.PARTIAL}
            if entry.kind in {Kind.CONSUME, Kind.RESERVE} and enforced and entry.effects.debt > 0:
                self.wrong(f"{account}: entry {entry.sequence} made a debt of {entry.effects.debt}")
        if any(counter.used < 0 for counter in state.counters.values()):
            self.wrong(f"{account}: a counter below zero: {state.counters}")

    def _check_holds(self, account: str, entries: list[Entry], state: AccountState) -> None:
        """A hold ends once; those that callers know are open or have ended; those ended for a caller are not open."""
        ends = Counter(entry.effects.closed for entry in entries if entry.effects.closed)
        for hold, times in ends.items():
            if times > 1:
                self.wrong(f"{account}: hold {hold} ended {times} times")
        made = {
            entry.id for entry in entries if entry.kind is Kind.RESERVE and entry.reservation_id == entry.id
        }
        expired = {entry.idempotency_key for entry in entries}
        for known in self.world.wishes.holds:
            if known.account != account:
                continue
            if known.id not in made:
                self.wrong(f"{account}: hold {known.id} was promised and is not in the ledger")
            if known.id not in state.holds and known.id not in ends and expiry_key(known.id) not in expired:
                self.wrong(f"{account}: hold {known.id} is neither open nor ended")
            if known.ended and known.id in state.holds:
                self.wrong(f"{account}: hold {known.id} is open, though a caller was told that it ended")

    def _check_callers(self, books: dict[str, list[Entry]]) -> None:
        by_id = {account: {entry.id: entry for entry in entries} for account, entries in books.items()}
        made: dict[str, list[Entry]] = defaultdict(list)
        keyed: dict[tuple[str, str], Entry] = {}
        for account, entries in books.items():
            for entry in entries:
                tag = entry.metadata.get("intent")
                # The entry by which a hold expires repeats what the hold was for.
                if tag and entry.kind in set(KINDS.values()):
                    made[tag].append(entry)
                if entry.idempotency_key:
                    keyed[account, entry.idempotency_key] = entry
        for intent in self.world.wishes.all:
            if intent.uses:
                self._check_uses(intent, by_id, made)
            elif intent.name == "refund":
                self._check_refund(intent, by_id, keyed)
            elif intent.key and intent.acked and (intent.account, intent.key) not in keyed:
                self.wrong(f"intent {intent.number} ({intent.name}): acknowledged, and its key is not there")
            if intent.name in {"create_grant", "purchase"} and intent.acked:
                self._check_grant(intent, books)

    def _check_uses(
        self, intent: Intent, by_id: dict[str, dict[str, Entry]], made: dict[str, list[Entry]]
    ) -> None:
        landed = 0
        for place, use in enumerate(intent.uses):
            told = [answer[place] if isinstance(answer, list) else answer for answer in intent.answers]
            yes = [each for each in told if isinstance(each, Ruling) and each.allowed]
            entries = self._own(intent, made[use.metadata["intent"]])
            landed += bool(entries)
            name = f"intent {intent.number} ({intent.name}, item {place})"
            if len(entries) > 1:
                self.wrong(f"{name}: {len(entries)} entries {[entry.sequence for entry in entries]}")
            if len({_core(each) for each in yes}) > 1:
                self.wrong(f"{name}: answers differ: {[_core(each) for each in yes]}")
            for ruling in yes:
                entry = by_id[use.account].get(ruling.entry_id)
                if entry is None:
                    self.wrong(f"{name}: acknowledged, not in the ledger: {ruling.entry_id}")
                elif _core(ruling_of(entry, replayed=False)) != _core(ruling):
                    self.wrong(
                        f"{name}: the ledger says {_core(ruling_of(entry, replayed=False))}, not {_core(ruling)}"
                    )
            denied = any(isinstance(each, (Ruling, CreditdError)) and not done(each) for each in told)
            if any(isinstance(each, Unavailable) for each in told):
                continue
            final = use.reservation is not None and use.reservation.is_final
            if entries and not yes and not intent.unknown and (denied or intent.refusals) and not final:
                self.wrong(f"{name}: denied or refused, and in the ledger at {entries[0].sequence}")
        if intent.atomic and landed not in {0, len(intent.uses)}:
            self.wrong(f"intent {intent.number}: {landed} of {len(intent.uses)} of an atomic batch landed")

    def _own(self, intent: Intent, entries: Iterable[Entry]) -> list[Entry]:
        """The entries that an intent has made; those that end its hold at its expiry carry its tag, too."""
        kind = KINDS[intent.name]
        return [
            entry
            for entry in entries
            if entry.kind is kind
            and not (entry.idempotency_key or "").startswith("\x01expired/")
            and (entry.kind is not Kind.RELEASE or intent.name == "release")
        ]

    def _check_refund(
        self, intent: Intent, by_id: dict[str, dict[str, Entry]], keyed: dict[tuple[str, str], Entry]
    ) -> None:
        if len({_core(each) for each in intent.answers}) > 1:
            self.wrong(f"intent {intent.number} (refund): answers differ")
        for ruling in intent.answers:
            entry = keyed.get((intent.account, intent.key))
            if entry is None or entry.id != ruling.entry_id or ruling.entry_id not in by_id[intent.account]:
                self.wrong(f"intent {intent.number} (refund): acknowledged, not in the ledger")

    def _check_grant(self, intent: Intent, books: dict[str, list[Entry]]) -> None:
        for grant in {answer.id for answer in intent.answers}:
            given = [
                entry
                for entry in books[intent.account]
                if entry.kind is Kind.GRANT and entry.grant_id == grant and entry.effects.grants
            ]
            laid = [
                entry
                for entry in books[intent.account]
                if entry.effects.put is not None and entry.effects.put.id == grant
            ]
            if not laid or len(given) > 1:
                self.wrong(
                    f"intent {intent.number}: grant {grant} given {len(given)} times, laid {len(laid)}"
                )

    async def _replay(self) -> None:
        """A sample of what was acknowledged, sent once more: the first answer, and nothing new in the ledger."""
        world = self.world
        acked = [intent for intent in world.wishes.all if intent.acked and intent.keyed and intent.uses]
        sample = world.source.sample(acked, min(len(acked), 25))
        if world.source.random() < 0.5:
            world.nodes[0].ask("FLUSHDB")
        for intent in sample:
            await world.carry_out("late", intent, attempts=1)


def _core(ruling: Ruling) -> Any:
    """What every answer to the same operation has in common."""
    if not isinstance(ruling, Ruling):
        return ruling
    return replace(ruling, replayed=False, index=0, message="", explanation=())
