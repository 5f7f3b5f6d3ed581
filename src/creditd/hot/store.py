"""`HotStore`: the calls that the engine makes to Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

from creditd.domain.accounts import Epoch
from creditd.domain.decide import Operation
from creditd.domain.entries import Entry
from creditd.domain.state import Hold, Segment
from creditd.hot import scripts
from creditd.hot.answers import Answer, Decided, OutboxUnit, decode_answer, decode_outbox
from creditd.hot.codec import (
    HotState,
    decode_hold,
    decode_state,
    encode_operation,
    encode_segment,
    hold_field,
    is_of_run,
    pack,
)
from creditd.hot.connection import Address, Connection, HotUnavailable, OnReply, Reply, into, open_connection
from creditd.hot.keys import BUCKETS, bucket_of, group_of, outbox_key, record_key, revision_key, state_key
from creditd.hot.scripts import Script

_log = logging.getLogger(__name__)

# Error replies of a server that can't decide now, though the call itself was right. It did not carry it out.
_AWAY = (
    "OOM",
    "READONLY",
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "TRYAGAIN",
)


@dataclass(frozen=True, slots=True)
class Item:
    """One draw's place in a unit: its idempotency key ("" = none), fingerprint (32 characters) and head."""

    key: str
    fingerprint: str
    head: bytes


@dataclass(frozen=True, slots=True)
class HotHold:
    """What the hot store knows of a hold. Not `is_warm`: there is no state of the account to tell."""

    is_warm: bool
    hold: Hold | None


class HotStore:
    """Decides on hot states; one connection per process, opened again when it is lost."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        record_ttl_ms: int,
        idle_ttl_ms: int,
        wall_ms: Callable[[], int],
    ) -> None:
        self._address = Address.parse(url)
        self._timeout_s = timeout_s
        self._record_ttl_ms = record_ttl_ms
        self._idle_ttl_ms = idle_ttl_ms
        self._wall_ms = wall_ms
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._closed = False

    async def connect(self) -> None:
        """Open the connection now; raises HotUnavailable when the server is not there."""
        await self._connected()

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.close()

    async def check(self, account: str, operation: Operation, revision: int) -> Answer:
        """Decide without changing anything."""
        connection = await self._connected()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        keys = [state_key(account), revision_key(bucket_of(account))]
        packed = encode_operation(operation, connection.run_id, revision)
        self._run(connection, _answer_into(future), scripts.CHECK, keys, packed)
        return await future

    async def decide(
        self,
        account: str,
        operation: Operation,
        revision: int,
        unit_id: str,
        items: Sequence[Item],
        on_decided: Callable[[Decided], None],
        *,
        again: bool = False,
    ) -> Answer:
        """Decide and take. `on_decided` runs as soon as the reply is read, even if the caller is gone by then.

        `again` asks whether an earlier call with the same unit id, whose reply was lost, was carried out.
        """
        connection = await self._connected()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        bucket = bucket_of(account)
        keys = [state_key(account), revision_key(bucket), outbox_key(bucket)]
        keys += [record_key(account, item.key) for item in items if item.key]
        arguments: list[str | bytes | int] = [
            encode_operation(operation, connection.run_id, revision),
            f"{self._wall_ms():013d}",
            unit_id,
            self._record_ttl_ms,
            "1" if again else "0",
        ]
        for item in items:
            arguments += (item.fingerprint if item.key else "", item.head)
        self._run(connection, _answer_into(future, on_decided), scripts.DECIDE, keys, *arguments)
        return await future

    async def put(self, account: str, epoch: Epoch, segment: Segment, revision: int) -> bool:
        """Put a loaded state, unless one of a higher epoch is there."""
        connection = await self._connected()
        keys = [state_key(account), revision_key(bucket_of(account))]
        fields = encode_segment(segment, epoch, connection.run_id)
        reply = await self._script(
            scripts.PUT, keys, connection.run_id, epoch.number, revision, self._idle_ttl_ms, *fields
        )
        return bool(reply)

    async def drop(self, account: str, epoch: Epoch, unit_id: str, idempotency_keys: Iterable[str]) -> None:
        """Forget a fenced unit and the state that it was decided on."""
        keys = self._unit_keys(account, idempotency_keys)
        await self._script(scripts.DROP, keys, epoch.number, unit_id)

    async def forget(self, account: str) -> None:
        """Drop an account's hot state, whatever it is: the next call loads it from the ledger."""
        connection = await self._connected()
        await connection.call("UNLINK", state_key(account))

    async def give_back(self, account: str, epoch: Epoch, unit_id: str, entries: Sequence[Entry]) -> None:
        """Undo in the hot state what a late replay took; `entries` are the ones that did not land."""
        connection = await self._connected()
        keys = self._unit_keys(account, (entry.idempotency_key for entry in entries if entry.idempotency_key))
        await self._script(
            scripts.GIVE_BACK,
            keys,
            connection.run_id,
            epoch.number,
            str(epoch.nonce),
            unit_id,
            pack(_taken(entries)),
        )

    async def read(self, account: str) -> HotState | None:
        """The hot state of an account; None when it is cold, or of another run of the server."""
        connection = await self._connected()
        state = decode_state(dict(_pairs(await connection.call("HGETALL", state_key(account)))))
        return state if state is not None and state.run_id == connection.run_id else None

    async def marks(self, accounts: Sequence[str]) -> list[bytes | None]:
        """For each account the fence and sequence of its hot state, opaque: it differs after every change."""
        connection = await self._connected()
        return list(
            await asyncio.gather(*(connection.call("HGET", state_key(account), "m") for account in accounts))
        )

    async def find_hold(self, account: str, hold_id: str) -> HotHold:
        """An open hold as the hot state has it, without reading the rest."""
        connection = await self._connected()
        packed, value = await connection.call("HMGET", state_key(account), "m", hold_field(hold_id))
        if not is_of_run(packed, connection.run_id):
            return HotHold(is_warm=False, hold=None)
        return HotHold(is_warm=True, hold=None if value is None else decode_hold(hold_id, value))

    async def knows_key(self, account: str, key: str) -> bool:
        """Whether the record of an idempotency key is there."""
        connection = await self._connected()
        return bool(await connection.call("EXISTS", record_key(account, key)))

    async def clear(self, bucket: int, unit_ids: Sequence[str]) -> None:
        """Take units that are durable out of an outbox."""
        await self._command("HDEL", outbox_key(bucket), *unit_ids)

    async def outbox_depths(self) -> list[int]:
        """How many units each bucket's outbox holds."""
        return list(
            await asyncio.gather(*(self._command("HLEN", outbox_key(bucket)) for bucket in range(BUCKETS)))
        )

    async def outbox(self, bucket: int) -> list[OutboxUnit]:
        """The units in a bucket's outbox."""
        pairs = _pairs(await self._command("HGETALL", outbox_key(bucket)))
        return [decode_outbox(unit_id.decode(), value) for unit_id, value in pairs]

    async def raise_revision(self, revision: int) -> None:
        """Tell every bucket that a catalog revision is out."""
        await asyncio.gather(
            *(self._script(scripts.REVISE, [revision_key(bucket)], revision) for bucket in range(BUCKETS))
        )

    def _unit_keys(self, account: str, idempotency_keys: Iterable[str]) -> list[str]:
        keys = [state_key(account), outbox_key(bucket_of(account))]
        return keys + [record_key(account, key) for key in idempotency_keys]

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        if self._closed:
            raise HotUnavailable("the hot store is closed", sent=False)
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        # Shielded: a caller that goes away must not take the connection from the others.
        return await asyncio.shield(self._opening)

    async def _open(self) -> Connection:
        connection = await open_connection(self._address, self._timeout_s)
        for script in scripts.ALL:
            await connection.call("SCRIPT", "LOAD", script.text)
        self._connection = connection
        return connection

    async def _command(self, *command: str | int) -> Any:
        connection = await self._connected()
        try:
            return await connection.call(*command)
        except hiredis.ReplyError as error:
            if str(error).startswith(_AWAY):
                raise HotUnavailable(f"the hot store refused the call: {error}", sent=False) from error
            raise

    async def _script(self, script: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        connection = await self._connected()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._run(connection, into(future), script, keys, *arguments)
        return await future

    def _run(
        self,
        connection: Connection,
        on_reply: OnReply,
        script: Script,
        keys: Sequence[str],
        *arguments: str | bytes | int,
    ) -> None:
        def settle(reply: Reply) -> None:
            if not isinstance(reply, hiredis.ReplyError):
                on_reply(reply)
            elif str(reply).startswith("NOSCRIPT"):
                # The script cache was flushed: nothing ran, so the text can be sent instead.
                try:
                    connection.send(on_reply_or_away, "EVAL", script.text, len(keys), *keys, *arguments)
                except HotUnavailable as error:
                    on_reply(error)
            else:
                on_reply_or_away(reply)

        def on_reply_or_away(reply: Reply) -> None:
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(_AWAY):
                if str(reply).startswith("READONLY"):
                    connection.close("the hot store has become a replica")
                on_reply(HotUnavailable(f"the hot store refused the call: {reply}", sent=False))
            else:
                on_reply(reply)

        connection.send(settle, "EVALSHA", script.digest, len(keys), *keys, *arguments)


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """HGETALL's reply: field, value, field, value."""
    return zip(flat[::2], flat[1::2], strict=True)


def _answer_into(
    future: asyncio.Future[Answer], on_decided: Callable[[Decided], None] | None = None
) -> OnReply:
    def settle(reply: Reply) -> None:
        answer = reply if isinstance(reply, Exception) else decode_answer(reply)
        if on_decided is not None and isinstance(answer, Decided):
            on_decided(answer)
        give(answer)

    give = into(future)
    return settle


def _taken(entries: Sequence[Entry]) -> list[Any]:
    credits: list[Any] = []
    counters: list[Any] = []
    holds: list[Any] = []
    for entry in entries:
        effects = entry.effects
        if entry.credit:
            changes = [part for item in effects.grants for part in (item.grant_id, -item.remaining)]
            credits.append([entry.credit, -entry.amount, effects.debt, changes, effects.held])
        counters += [[item.key, group_of(item.key), item.start, item.delta] for item in effects.counters]
        if effects.hold is not None:
            holds.append([effects.hold.id, entry.sequence])
    return [credits, counters, holds]
