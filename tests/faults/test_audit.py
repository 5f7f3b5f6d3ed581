"""The audit of the fault suite finds what it is there to find: each kind of damage, planted in a sound ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.faults.audit import Row, audit
from tests.faults.journal import ACKED, DENIED, UNKNOWN, Attempt, Journal, Op

from creditd.v1 import entitlements_pb2 as pb

GRANT = {"i": "g", "a": 100}


def attempt(outcome: str, began: float = 0.0, **facts: object) -> Attempt:
    return Attempt(began, began + 0.1, "server0", "OK", outcome, dict(facts), wall=began)


def op(kind: str, key: str, *attempts: Attempt, **asked: object) -> Op:
    return Op(kind, "a", key, dict(asked), attempts=list(attempts))


def burned(sequence: int, key: str, micros: int) -> Row:
    effects = {"g": [["g", -micros]]}
    after = 100 - 10 * (sequence - 1)
    return Row(
        *("a", sequence, f"e{sequence}", "CONSUME", "credits", -micros, after),
        key=key,
        detail={"e": effects},
    )


def ledger() -> list[Row]:
    """A grant of 100; 10 burned, twice; 10 held; the hold committed with 4."""
    put = {"e": {"p": GRANT, "a": "g", "g": [["g", 100]]}}
    hold = {"h": {"i": "e4", "p": [["g", 10, 0]]}, "v": 10, "g": [["g", -10]]}
    settled = {"s": "e4", "v": -10, "g": [["g", 6]]}
    answer = ["COVERED", 4, *[0] * 12, 6]
    return [
        Row("a", 1, "e1", "GRANT", "credits", 100, 100, key="grant", grant_id="g", detail=put),
        burned(2, "one", 10),
        burned(3, "two", 10),
        Row(
            *("a", 4, "e4", "RESERVE", "credits", -10, 70),
            key="held",
            reservation_id="e4",
            detail={"e": hold},
        ),
        Row(
            *("a", 5, "e5", "COMMIT", "credits", 6, 76),
            key="\x01settle/e4",
            reservation_id="e4",
            detail={"e": settled, "w": answer},
        ),
    ]


def journal() -> Journal:
    known = {"micros": 10, "mode": pb.MODE_ENFORCE}
    return Journal(
        [
            op("grant", "grant", attempt(ACKED, grant="g", micros=100), micros=100),
            op("consume", "one", attempt(ACKED, entry="e2", sequence=2, charged=10, overage=0), **known),
            op("consume", "two", attempt(UNKNOWN), **known),
            op("reserve", "held", attempt(ACKED, reservation="e4", held=10), micros=10, ttl=3600),
            op(
                "commit",
                "\x01settle/e4",
                attempt(ACKED, entry="e5", sequence=5, charged=4, released=6),
                reservation="e4",
                micros=4,
            ),
            op("consume", "denied", attempt(DENIED), **known),
        ]
    )


def problems(rows: list[Row], known: Journal) -> list[str]:
    return audit(rows, known, calls_cap=10).problems


def test_a_ledger_that_is_right_passes():
    found = audit(ledger(), journal(), calls_cap=10)

    assert found.problems == []
    assert (found.accounts["a"].balance, found.accounts["a"].held, found.accounts["a"].drifted) == (76, 0, 0)


def _change(sequence: int, **values: object) -> Callable[[list[Row], Journal], None]:
    def change(rows: list[Row], _journal: Journal) -> None:
        rows[sequence - 1] = replace(rows[sequence - 1], **values)

    return change


def _lost(rows: list[Row], _journal: Journal) -> None:
    rows[1] = Row("a", 2, "t", "ADJUST", note="tombstone")


def _twice(rows: list[Row], _journal: Journal) -> None:
    rows.append(replace(burned(6, "one", 10), balance_after=66))


def _gap(rows: list[Row], _journal: Journal) -> None:
    rows[4] = replace(rows[4], sequence=6)


def _denied_but_there(rows: list[Row], _journal: Journal) -> None:
    rows.append(replace(burned(6, "denied", 10), balance_after=66))


def _nobody(rows: list[Row], _journal: Journal) -> None:
    rows.append(replace(burned(6, "whose", 10), balance_after=66))


def _overspent(rows: list[Row], known: Journal) -> None:
    rows.append(replace(burned(6, "more", 90), balance_after=-14))
    known.add(op("consume", "more", attempt(UNKNOWN), micros=90, mode=pb.MODE_ENFORCE))


def _open_again(rows: list[Row], _journal: Journal) -> None:
    rows[4] = Row("a", 5, "t", "ADJUST", note="tombstone")


def _hold_gone(_rows: list[Row], known: Journal) -> None:
    known.ops = [each for each in known.ops if each.kind != "commit"]


def _two_answers(_rows: list[Row], known: Journal) -> None:
    known.ops[1].attempts.append(attempt(ACKED, 1.0, entry="e9", sequence=9, charged=10, overage=0))


def _denied_later(_rows: list[Row], known: Journal) -> None:
    known.ops[1].attempts.append(attempt(DENIED, 1.0))


def _denied_after_landing(_rows: list[Row], known: Journal) -> None:
    known.ops[2].attempts.append(attempt(DENIED, 5.0))


def _half_a_batch(rows: list[Row], known: Journal) -> None:
    for number, each in enumerate((known.ops[1], known.ops[5])):
        each.group = "batch"
        each.attempts = [attempt(UNKNOWN)] if number else each.attempts


def _over_the_limit(rows: list[Row], known: Journal) -> None:
    counted = {"e": {"c": [["calls", 0, 0, 11]]}}
    rows.append(Row("a", 6, "e6", "CONSUME", "", 0, 0, key="calls", detail=counted))
    known.add(op("limit", "calls", attempt(UNKNOWN), quantity=11))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_lost, "it was acknowledged, and 0 entries are there"),
        (_twice, "key 'one' has entries [2, 6]"),
        (_gap, "sequence 6 follows 4"),
        (_denied_but_there, "it was denied, and entry 6 is there"),
        (_nobody, "nobody asked for key 'whose'"),
        (_overspent, "overspent"),
        (_open_again, "is open though it was ended"),
        (_hold_gone, "hold e4 of a is gone"),
        (_two_answers, "a replay was answered differently"),
        (_denied_later, "denied after it had been acknowledged"),
        (_denied_after_landing, "it was denied after entry 3 had landed"),
        (_half_a_batch, "1 of the 2 items of the atomic batch batch are there"),
        (_over_the_limit, "11 of 10 are counted"),
        (_change(2, amount=-9), "the amounts add up to"),
        (_change(2, id="other"), "entry is other in the ledger, e2 was answered"),
        (_change(5, amount=7), "amount is 7 in the ledger, 6 was answered"),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_") or None,
)
def test_damage_is_found(damage: Callable[[list[Row], Journal], None], said: str):
    rows, known = ledger(), journal()
    damage(rows, known)

    assert any(said in problem for problem in problems(rows, known)), problems(rows, known)


def test_a_balance_after_that_is_not_the_sum_is_counted():
    rows = ledger()
    rows[2] = replace(rows[2], balance_after=70)

    assert audit(rows, journal(), calls_cap=10).accounts["a"].drifted == 1
