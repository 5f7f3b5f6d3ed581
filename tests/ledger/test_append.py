"""Appends: what lands, what is turned away, and that doing it again is right."""

from __future__ import annotations

from typing import Any

import pytest
from tests.ledger.making import NONCE, burned, entry, granted, ids, new_account, unit

from creditd.domain.accounts import Epoch
from creditd.ledger import Duplicate, Fenced, Landed, Ledger, Refused
from creditd.ledger.append import append


async def test_entries_of_many_accounts_land_in_one_flight(ledger: Ledger) -> None:
    await new_account(ledger, "other")
    units = [unit(entry(1)), unit(entry(1, account="other")), unit(entry(2)), unit(entry(2, account="other"))]

    assert await ledger.append(units) == [Landed()] * 4
    assert await ids(ledger) == await ids(ledger, "other") == {1: "entry-1", 2: "entry-2"}


async def test_no_units_are_no_flight(ledger: Ledger) -> None:
    assert await ledger.append([]) == []


async def test_an_entry_is_read_back_as_it_was_appended(ledger: Ledger) -> None:
    original = granted(idempotency_key="k", fingerprint="f", occurred_at=5, metadata={"team": "red"})

    assert await ledger.append([unit(original)]) == [Landed()]
    assert await ledger.find_key("acme", "k") == original


async def test_entries_land_out_of_order(ledger: Ledger) -> None:
    assert await ledger.append([unit(entry(3))]) == [Landed()]
    assert await ledger.append([unit(entry(2)), unit(entry(1))]) == [Landed(), Landed()]
    assert await ids(ledger) == {1: "entry-1", 2: "entry-2", 3: "entry-3"}


async def test_the_same_entry_again_has_landed(ledger: Ledger) -> None:
    original = unit(entry(1, idempotency_key="k"))

    assert await ledger.append([original, original]) == [Landed(), Landed()]
    assert await ledger.append([original, unit(entry(2))]) == [Landed(), Landed()]
    assert await ids(ledger) == {1: "entry-1", 2: "entry-2"}


async def test_what_has_landed_stays_landed_in_a_later_epoch(ledger: Ledger) -> None:
    original = unit(entry(1))
    await ledger.append([original])
    async with ledger.change("acme"):
        pass

    assert await ledger.append([original]) == [Landed()]


async def test_another_entry_with_a_key_is_a_duplicate_of_the_first(ledger: Ledger) -> None:
    original = entry(1, idempotency_key="k", feature="chat")
    await ledger.append([unit(original)])

    again = unit(entry(2, id="again", idempotency_key="k"))
    assert await ledger.append([again]) == [Duplicate((original,))]
    assert await ids(ledger) == {1: "entry-1"}


async def test_a_duplicate_is_told_from_a_fence_in_an_old_epoch_too(ledger: Ledger) -> None:
    original = entry(1, idempotency_key="k")
    await ledger.append([unit(original)])
    async with ledger.change("acme"):
        pass

    again = unit(entry(2, id="again", idempotency_key="k"))
    assert await ledger.append([again]) == [Duplicate((original,))]


async def test_of_two_units_with_a_key_in_one_flight_one_lands(ledger: Ledger) -> None:
    first, second = entry(1, idempotency_key="k"), entry(2, idempotency_key="k")

    assert await ledger.append([unit(second), unit(first)]) == [Duplicate((first,)), Landed()]


async def test_a_key_belongs_to_its_account(ledger: Ledger) -> None:
    await new_account(ledger, "other")
    units = [unit(entry(1, idempotency_key="k")), unit(entry(1, account="other", idempotency_key="k"))]

    assert await ledger.append(units) == [Landed(), Landed()]


async def test_a_taken_place_turns_away(ledger: Ledger) -> None:
    await ledger.append([unit(entry(1))])

    assert await ledger.append([unit(entry(1, id="another"))]) == [Fenced()]
    assert await ids(ledger) == {1: "entry-1"}


@pytest.mark.parametrize("epoch", [Epoch(0, NONCE), Epoch(2, NONCE), Epoch(1, NONCE + 1)])
async def test_another_epoch_turns_away(ledger: Ledger, epoch: Epoch) -> None:
    assert await ledger.append([unit(entry(1), epoch=epoch), unit(entry(2))]) == [Fenced(), Landed()]


async def test_an_unknown_account_turns_away(ledger: Ledger) -> None:
    assert await ledger.append([unit(entry(1, account="nobody"))]) == [Fenced()]


class TestGroups:
    """Units of several entries."""

    async def test_a_group_lands_whole(self, ledger: Ledger) -> None:
        assert await ledger.append([unit(entry(1), entry(2)), unit(entry(3))]) == [Landed(), Landed()]
        assert list(await ids(ledger)) == [1, 2, 3]

    async def test_a_group_again_has_landed(self, ledger: Ledger) -> None:
        group = unit(entry(1, idempotency_key="k"), entry(2))

        assert await ledger.append([group]) == [Landed()]
        assert await ledger.append([group]) == [Landed()]

    async def test_a_taken_place_turns_the_whole_group_away(self, ledger: Ledger) -> None:
        await ledger.append([unit(entry(2, id="taken"))])

        assert await ledger.append([unit(entry(1), entry(2))]) == [Fenced()]
        assert await ids(ledger) == {2: "taken"}

    async def test_a_taken_key_turns_the_whole_group_away(self, ledger: Ledger) -> None:
        first, second = entry(1, idempotency_key="k"), entry(2, idempotency_key="l")
        await ledger.append([unit(first), unit(second)])

        group = unit(
            entry(3, idempotency_key="m"), entry(4, idempotency_key="l"), entry(5, idempotency_key="k")
        )
        assert await ledger.append([group]) == [Duplicate((second, first))]
        assert list(await ids(ledger)) == [1, 2]

    async def test_a_key_twice_in_a_group_lands_nothing(self, ledger: Ledger) -> None:
        group = unit(entry(1, idempotency_key="k"), entry(2, idempotency_key="k"))

        assert await ledger.append([group]) == [Fenced()]
        assert await ids(ledger) == {}

    async def test_an_old_epoch_turns_the_whole_group_away(self, ledger: Ledger) -> None:
        group = unit(entry(1), entry(2), epoch=Epoch(2, NONCE))

        assert await ledger.append([group]) == [Fenced()]
        assert await ids(ledger) == {}


@pytest.mark.parametrize("needs", ["depends", "settles"])
class TestDependence:
    """Units that depend on an earlier entry."""

    async def test_it_lands_after_what_it_depends_on(self, ledger: Ledger, needs: str) -> None:
        await ledger.append([unit(entry(1))])

        units = [unit(entry(2), **{needs: 1}), unit(entry(3), entry(4), **{needs: 1})]
        assert await ledger.append(units) == [Landed(), Landed()]

    async def test_it_is_turned_away_when_that_is_missing(self, ledger: Ledger, needs: str) -> None:
        units = [unit(entry(2), **{needs: 1}), unit(entry(3), entry(4), **{needs: 1})]

        assert await ledger.append(units) == [Fenced(), Fenced()]
        assert await ids(ledger) == {}

    async def test_another_account_does_not_count(self, ledger: Ledger, needs: str) -> None:
        await new_account(ledger, "other")
        await ledger.append([unit(entry(1, account="other"))])

        assert await ledger.append([unit(entry(2), **{needs: 1})]) == [Fenced()]

    async def test_a_tombstone_does_not_count(self, ledger: Ledger, needs: str) -> None:
        await ledger.append([unit(entry(2))])
        async with ledger.change("acme") as tx:
            epoch = tx.epoch

        units = [unit(entry(3), epoch=epoch, **{needs: 1}), unit(entry(4), epoch=epoch, **{needs: 2})]
        assert await ledger.append(units) == [Fenced(), Landed()]

    async def test_both_may_fly_together_in_any_order(self, ledger: Ledger, needs: str) -> None:
        units = [
            unit(entry(6), **{needs: 4}),
            unit(entry(3), entry(4), **{needs: 2}),
            unit(entry(2), **{needs: 1}),
            unit(entry(5)),
            unit(entry(1)),
        ]

        assert await ledger.append(units) == [Landed()] * 5
        assert list(await ids(ledger)) == [1, 2, 3, 4, 5, 6]

    async def test_what_depends_on_a_unit_turned_away_is_turned_away(
        self, ledger: Ledger, needs: str
    ) -> None:
        await ledger.append([unit(entry(1, idempotency_key="k"))])

        units = [unit(entry(2, id="again", idempotency_key="k")), unit(entry(3), **{needs: 2})]
        outcomes = await ledger.append(units)
        assert isinstance(outcomes[0], Duplicate)
        assert outcomes[1] == Fenced()


async def test_a_unit_that_depends_on_two_entries_needs_both(ledger: Ledger) -> None:
    """As a Commit does: on what made room for it, and on the Reserve whose hold it settles."""
    units = [
        unit(entry(2)),
        unit(entry(5), depends=2, settles=1),
        unit(entry(6), depends=1, settles=2),
        unit(entry(7), depends=2, settles=3),
        unit(entry(3), settles=2),
    ]

    assert await ledger.append(units) == [Landed(), Fenced(), Fenced(), Landed(), Landed()]
    assert list(await ids(ledger)) == [2, 3, 7]


@pytest.mark.parametrize(
    "fields",
    [
        {"note": "nul \x00"},
        {"metadata": {"k": "nul \x00"}},
        {"feature": "half a pair \ud800"},
        {"metadata": {"k": "half a pair \ud800"}},
        {"amount": 2**63},
        {"usage": {"tokens": 2**64}},
    ],
)
async def test_an_entry_that_can_not_be_stored_harms_no_other(ledger: Ledger, fields: dict[str, Any]) -> None:
    bad = entry(3, **fields)
    units = [unit(entry(1)), unit(entry(2)), unit(bad), unit(entry(4)), unit(entry(5))]

    outcomes = await ledger.append(units)
    assert [type(outcome) for outcome in outcomes] == [Landed, Landed, Refused, Landed, Landed]
    assert isinstance((await ledger.append([unit(entry(6), bad)]))[0], Refused)


async def test_a_sequence_below_one_is_refused(ledger: Ledger) -> None:
    outcomes = await ledger.append([unit(entry(0)), unit(entry(1))])

    assert [type(outcome) for outcome in outcomes] == [Refused, Landed]


async def test_a_big_flight_of_one_account_lands_dense(ledger: Ledger) -> None:
    units = [unit(granted(amount=10_000)), *(unit(burned(sequence)) for sequence in range(2, 1_001))]

    assert await ledger.append(units) == [Landed()] * 1_000
    state = await ledger.read("acme")
    assert (state.sequence, state.grants["g"].remaining) == (1_000, 10)


async def test_an_append_uses_keys_only_however_empty_the_tables_are(ledger: Ledger) -> None:
    """A plan made while the tables were empty is kept: it must not be one that scans them."""
    plans: list[str] = []
    async with ledger._line.use() as connection:
        connection.add_log_listener(lambda _connection, message: plans.append(message.message))
        await connection.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET client_min_messages = log"
        )
        await append(connection, [unit(entry(1))])

    plan = next(plan for plan in plans if "INSERT INTO entries" in plan)
    assert "Seq Scan" not in plan
    assert "account_heads_pkey" in plan
