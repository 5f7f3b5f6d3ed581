"""Reading the log and the tables beside it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.ledger.making import burned, entry, granted, unit

from creditd.domain.accounts import Account, Subscription, SubscriptionStatus, TestClock
from creditd.domain.entries import Kind
from creditd.domain.errors import AlreadyExists, FailedPrecondition, NotFound
from creditd.domain.state import AccountState
from creditd.ledger import Ledger


async def test_keys_are_found_in_their_account_only(ledger: Ledger) -> None:
    first, second = entry(1, idempotency_key="k"), entry(2, idempotency_key="l")
    await ledger.append([unit(first), unit(second)])

    assert await ledger.find_keys("acme", ["k", "l", "m"]) == {"k": first, "l": second}
    assert await ledger.find_key("acme", "m") is None
    assert await ledger.find_key("other", "k") is None


async def test_a_read_stops_at_the_first_hole_and_changes_nothing(ledger: Ledger) -> None:
    await ledger.append([unit(granted()), unit(burned(2)), unit(burned(4))])

    state = await ledger.read("acme")
    assert (state.sequence, state.grants["g"].remaining) == (2, 990)
    assert await ledger.head_sequence("acme") == 4
    async with ledger.change("acme") as tx:
        assert tx.epoch.number == 2


async def test_an_account_without_entries_reads_empty(ledger: Ledger) -> None:
    assert await ledger.read("acme") == AccountState("acme")
    assert await ledger.head_sequence("acme") == 0
    assert await ledger.checkpoint("acme") == 0


@pytest.mark.parametrize(
    ("filters", "sequences"),
    [
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"limit": 2}, [6, 5]),
        ({"limit": 2, "before_sequence": 5}, [4, 3]),
        ({"since": 1_003, "until": 1_005}, [4, 3]),
        ({"kinds": [Kind.GRANT, Kind.EXPIRE]}, [6, 1]),
        ({"feature": "chat"}, [3, 2]),
        ({"subject": "ann"}, [4, 3]),
        ({"credit": "images"}, [5]),
        ({"feature": "chat", "subject": "ann"}, [3]),
        ({"feature": "none"}, []),
    ],
)
async def test_entries_are_listed_newest_first_through_filters(
    ledger: Ledger, filters: dict[str, Any], sequences: list[int]
) -> None:
    await ledger.append(
        [
            unit(granted()),
            unit(entry(2, feature="chat")),
            unit(entry(3, feature="chat", subject="ann")),
            unit(entry(4, subject="ann")),
            unit(entry(5, credit="images")),
            unit(entry(6, kind=Kind.EXPIRE)),
        ]
    )

    listed = await ledger.list_entries("acme", **({"limit": 10} | filters))
    assert [each.sequence for each in listed] == sequences


async def test_creating_an_account_again_gives_the_first_one(ledger: Ledger) -> None:
    subscription = Subscription("s", "pro", 1, SubscriptionStatus.ACTIVE, started_at=1, anchor=1)
    account = Account("new", created_at=1, labels={"tier": "gold"}, subscriptions=(subscription,))

    assert await ledger.create_account(account) is account
    assert await ledger.create_account(Account("new", created_at=2)) == account
    assert await ledger.get_account("new") == account
    assert await ledger.get_account("nobody") is None


async def test_accounts_are_listed_by_id_in_pages(ledger: Ledger) -> None:
    names = ["a-1", "B", "a-2", "b", "ä"]
    for name in names:
        await ledger.create_account(Account(name, created_at=0, labels={"tier": name[:1], "all": "yes"}))

    everything = [each.id for each in await ledger.list_accounts(limit=10)]
    assert everything == ["B", "a-1", "a-2", "acme", "b", "ä"]
    assert [each.id for each in await ledger.list_accounts(limit=2, after_id="a-1")] == ["a-2", "acme"]
    assert [each.id for each in await ledger.list_accounts(limit=9, prefix="a-")] == ["a-1", "a-2"]
    found = await ledger.list_accounts(limit=9, labels={"tier": "a", "all": "yes"})
    assert [each.id for each in found] == ["a-1", "a-2"]


async def test_a_clock_only_moves_forwards(ledger: Ledger) -> None:
    await ledger.create_clock(TestClock("c", 100))

    assert await ledger.advance_clock("c", 200) == TestClock("c", 200)
    assert await ledger.advance_clock("c", 200) == TestClock("c", 200)
    with pytest.raises(FailedPrecondition) as caught:
        await ledger.advance_clock("c", 199)
    assert caught.value.reason == "CLOCK_BACKWARDS"
    assert await ledger.get_clock("c") == TestClock("c", 200)


async def test_clocks_that_are_not_there_or_there_already(ledger: Ledger) -> None:
    await ledger.create_clock(TestClock("c", 100))

    with pytest.raises(AlreadyExists):
        await ledger.create_clock(TestClock("c", 300))
    with pytest.raises(NotFound):
        await ledger.advance_clock("d", 1)
    with pytest.raises(NotFound):
        await ledger.delete_clock("d")
    assert await ledger.get_clock("d") is None


async def test_a_clock_is_deleted_only_without_accounts(ledger: Ledger) -> None:
    await ledger.create_clock(TestClock("c", 100))
    await ledger.create_clock(TestClock("d", 100))
    await ledger.create_account(Account("timed", created_at=0, test_clock="c"))

    await ledger.delete_clock("d")
    with pytest.raises(FailedPrecondition) as caught:
        await ledger.delete_clock("c")
    assert caught.value.reason == "CLOCK_IN_USE"


async def test_an_account_needs_a_clock_that_exists(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="test clock"):
        await ledger.create_account(Account("timed", created_at=0, test_clock="c"))
    with pytest.raises(NotFound, match="test clock"):
        async with ledger.change("acme") as tx:
            await tx.put_account(Account("acme", created_at=0, test_clock="c"))
