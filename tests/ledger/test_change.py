"""Load transactions: holes become tombstones, checkpoints shorten the tail, all or nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import asyncpg
import pytest
from tests.ledger.making import NONCE, burned, entry, grant, granted, ids, new_account, unit

from creditd.domain.accounts import Account, Subscription, SubscriptionStatus
from creditd.domain.errors import AlreadyExists, NotFound
from creditd.domain.fold import BrokenLedger
from creditd.ledger import Landed, Ledger
from creditd.ledger.folding import write_checkpoint


@pytest.fixture
async def eager(database: str, ledger: Ledger) -> AsyncIterator[Ledger]:
    """A ledger that keeps a checkpoint whenever it read more than two entries."""
    eager = await Ledger.connect(database, nonce=lambda: NONCE, checkpoint_every=4)
    yield eager
    await eager.close()


async def test_an_unknown_account_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="nobody"):
        async with ledger.change("nobody"):
            pass


async def test_the_state_is_all_entries_folded(ledger: Ledger) -> None:
    await ledger.append([unit(granted()), unit(burned(2)), unit(burned(3))])

    async with ledger.change("acme") as tx:
        assert (tx.state.sequence, tx.state.grants["g"].remaining, tx.tail_length) == (3, 980, 3)


async def test_holes_below_the_head_become_tombstones(ledger: Ledger) -> None:
    await ledger.append([unit(entry(3)), unit(entry(6))])
    async with ledger.change("acme") as tx:
        assert tx.state.sequence == 6

    listed = list(reversed(await ledger.list_entries("acme", limit=10)))
    assert [each.sequence for each in listed] == [1, 2, 3, 4, 5, 6]
    assert [each.is_tombstone for each in listed] == [True, True, False, True, True, False]
    assert [each.at for each in listed] == [1_003, 1_003, 1_003, 1_003, 1_003, 1_006]
    assert len({each.id for each in listed}) == 6
    assert (await ledger.read("acme", from_start=True)).sequence == 6


async def test_a_tombstoned_entry_can_not_land_any_more(ledger: Ledger) -> None:
    late = unit(entry(1))
    await ledger.append([unit(entry(2))])
    async with ledger.change("acme"):
        pass

    assert await ledger.append([late]) != [Landed()]


async def test_appended_entries_are_folded_and_committed(ledger: Ledger) -> None:
    async with ledger.change("acme") as tx:
        await tx.append()
        await tx.append(granted(), burned(2, idempotency_key="k"))
        assert (tx.state.sequence, tx.state.grants["g"].remaining) == (2, 990)
        found = await tx.find_key("k")
        assert found is not None
        assert found.sequence == 2
        assert await tx.find_key("l") is None

    assert list(await ids(ledger)) == [1, 2]


async def test_an_entry_that_does_not_follow_is_refused(ledger: Ledger) -> None:
    with pytest.raises(BrokenLedger):
        async with ledger.change("acme") as tx:
            await tx.append(entry(2))

    assert await ids(ledger) == {}


async def test_a_taken_key_is_refused(ledger: Ledger) -> None:
    await ledger.append([unit(entry(1, idempotency_key="k"))])

    with pytest.raises(AlreadyExists):
        async with ledger.change("acme") as tx:
            await tx.append(entry(2, idempotency_key="k"))


async def test_a_transaction_with_a_swallowed_error_does_not_seem_to_commit(ledger: Ledger) -> None:
    await ledger.append([unit(entry(1, idempotency_key="k"))])

    async def change() -> None:
        async with ledger.change("acme") as tx:
            await tx.append(entry(2))
            with suppress(AlreadyExists):
                await tx.append(entry(3, idempotency_key="k"))

    with pytest.raises(RuntimeError, match="can't commit"):
        await change()

    assert list(await ids(ledger)) == [1]


async def test_a_long_tail_leaves_a_checkpoint(eager: Ledger) -> None:
    await eager.append([unit(granted()), *(unit(burned(sequence)) for sequence in range(2, 5))])
    async with eager.change("acme") as tx:
        await tx.append(burned(5))
        assert tx.tail_length == 4

    async with eager.change("acme") as tx:
        assert (tx.state.sequence, tx.state.grants["g"].remaining, tx.tail_length) == (5, 960, 0)


async def test_checkpoint_and_tail_are_the_same_as_all_entries(eager: Ledger) -> None:
    for start in range(1, 30, 3):
        first = granted() if start == 1 else burned(start)
        async with eager.change("acme") as tx:
            await tx.append(first, burned(start + 1, 3), entry(start + 2))
        assert await eager.read("acme") == await eager.read("acme", from_start=True) == tx.state


async def test_a_checkpoint_never_goes_backwards(ledger: Ledger, connection: asyncpg.Connection) -> None:
    """A process that was slow to write its own finds a later one there."""
    await ledger.append([unit(granted())])
    slow = await ledger.read("acme")
    await ledger.append([unit(burned(2))])
    assert await ledger.checkpoint("acme") == 2

    await write_checkpoint(connection, slow)
    async with ledger.change("acme") as tx:
        assert (tx.state.sequence, tx.tail_length) == (2, 0)


async def test_a_checkpoint_of_another_release_is_not_read(
    ledger: Ledger, connection: asyncpg.Connection
) -> None:
    await ledger.append([unit(granted())])
    await ledger.checkpoint("acme")
    await connection.execute("""UPDATE checkpoints SET state = '{"v": 99}'""")

    async with ledger.change("acme") as tx:
        assert (tx.state.sequence, tx.tail_length) == (1, 1)


async def test_a_checkpoint_stops_at_the_first_hole(ledger: Ledger) -> None:
    await ledger.append([unit(granted()), unit(entry(3))])

    assert await ledger.checkpoint("acme") == 1
    await ledger.append([unit(burned(2))])
    assert await ledger.checkpoint("acme") == 3


async def test_the_account_and_its_subscriptions_change_with_the_ledger(ledger: Ledger) -> None:
    second = Subscription("s2", "pro", 3, SubscriptionStatus.TRIALING, started_at=9, anchor=9, cancel_at=99)
    first = Subscription("s1", "free", 1, SubscriptionStatus.ACTIVE, started_at=5, anchor=5, seats=4)
    wanted = Account("acme", created_at=0, name="Acme", labels={"tier": "gold"}, suspended=True, revision=2)
    async with ledger.change("acme") as tx:
        await tx.put_subscription(second)
        await tx.put_subscription(first)
        await tx.put_account(wanted)
        await tx.put_subscription(replace(first, status=SubscriptionStatus.PAUSED))
    expected = replace(wanted, subscriptions=(replace(first, status=SubscriptionStatus.PAUSED), second))

    assert tx.account == expected
    assert await ledger.get_account("acme") == expected
    async with ledger.change("acme") as tx:
        assert tx.account == expected


async def test_a_grant_is_kept_with_its_fingerprint(ledger: Ledger) -> None:
    given = grant()
    async with ledger.change("acme") as tx:
        assert await tx.get_grant("g") is None
        await tx.insert_grant(given, "print")
        await tx.update_grant(replace(given, voided_at=5))
        assert await tx.get_grant("g") == (replace(given, voided_at=5), "print")

    assert await ledger.list_grants("acme") == [replace(given, voided_at=5)]


async def test_a_grant_id_is_taken_once_in_an_account(ledger: Ledger) -> None:
    await new_account(ledger, "other")
    async with ledger.change("acme") as tx:
        await tx.insert_grant(grant(), "one")
    async with ledger.change("other") as tx:
        await tx.insert_grant(grant(), "two")

    with pytest.raises(AlreadyExists):
        async with ledger.change("acme") as tx:
            await tx.insert_grant(grant(), "three")
    with pytest.raises(NotFound):
        async with ledger.change("acme") as tx:
            await tx.update_grant(grant("unknown"))


async def test_a_body_that_fails_passes_its_own_error(ledger: Ledger) -> None:
    async def change() -> None:
        async with ledger.change("acme") as tx:
            await tx.put_account(replace(tx.account, name="lost"))
            raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await change()

    account = await ledger.get_account("acme")
    assert account is not None
    assert account.name == ""


async def test_a_long_tail_is_read_in_pages(ledger: Ledger) -> None:
    count = 4_500
    for start in range(1, count, 1_500):
        await ledger.append([unit(entry(sequence)) for sequence in range(start, start + 1_500)])

    async with ledger.change("acme") as tx:
        assert (tx.state.sequence, tx.tail_length) == (count, count)
    assert tx.state == await ledger.read("acme")


async def test_many_changes_at_once_may_each_read_through_the_pool(database: str) -> None:
    """Were the whole pool lent to changes, each would wait for another's connection until all time out."""
    ledger = await Ledger.connect(database, nonce=lambda: NONCE, pool_max=2)
    accounts = [f"account-{number}" for number in range(8)]
    for account in accounts:
        await ledger.create_account(Account(account, created_at=1))

    async def change(account: str) -> Account | None:
        async with ledger.change(account):
            return await ledger.get_account(account)

    found = await asyncio.gather(*(change(account) for account in accounts))
    await ledger.close()

    assert [account.id for account in found if account is not None] == accounts
