"""Reservations and refunds as callers see them, on both hosts."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.rpc.conftest import CREDIT
from tests.rpc.test_api import details, refused

from creditd.v1 import entitlements_pb2, ledger_pb2

pb = entitlements_pb2


def seconds(count: int) -> Duration:
    return Duration(seconds=count)


async def reserve(demo, quantity=30, **fields):
    return await demo.entitlements.Reserve(
        pb.ReserveRequest(account="acme", feature="chat", quantity=quantity, **fields)
    )


async def test_reserve_extend_commit_and_refund_tell_one_story(demo):
    held = await reserve(demo, idempotency_key="k", ttl=seconds(60), metadata={"trace": "1"})
    again = await reserve(demo, idempotency_key="k", ttl=seconds(60), metadata={"trace": "2"})
    more = await demo.entitlements.Extend(
        pb.ExtendRequest(account="acme", reservation_id=held.reservation_id, quantity=10)
    )
    part = await demo.entitlements.Commit(
        pb.CommitRequest(
            account="acme",
            reservation_id=held.reservation_id,
            usage={"tokens": 15},
            keep_open=True,
            idempotency_key="part",
        )
    )
    done = await demo.entitlements.Commit(
        pb.CommitRequest(account="acme", reservation_id=held.reservation_id, quantity=5)
    )
    refund = await demo.entitlements.Refund(
        pb.RefundRequest(
            account="acme", entry_id=done.entry_id, amount_micros=2 * CREDIT, idempotency_key="r"
        )
    )

    assert (held.allowed, held.reason, held.held_micros) == (True, pb.REASON_COVERED, 30 * CREDIT)
    assert (held.balance.available_micros, held.balance.held_micros) == (70 * CREDIT, 30 * CREDIT)
    assert held.expires_at.seconds > 0
    assert again.replayed
    again.replayed = False
    assert again == held
    assert (more.held_micros, more.reservation_id) == (40 * CREDIT, held.reservation_id)
    assert (part.charged_micros, part.released_micros, part.balance.held_micros) == (
        15 * CREDIT,
        0,
        25 * CREDIT,
    )
    assert (done.charged_micros, done.released_micros) == (5 * CREDIT, 20 * CREDIT)
    assert [(each.grant_id, each.amount_micros) for each in done.allocations] == [("s/plan/0/1", 5 * CREDIT)]
    assert (refund.refunded_micros, refund.balance.available_micros) == (2 * CREDIT, 82 * CREDIT)
    assert refund.sequence == done.sequence + 1


async def test_ledger_lists_a_reservation_s_life_without_creditd_s_own_keys(demo):
    held = await reserve(demo, idempotency_key="k")
    await demo.entitlements.Commit(
        pb.CommitRequest(account="acme", reservation_id=held.reservation_id, quantity=5)
    )

    listed = await demo.ledger.ListEntries(ledger_pb2.ListEntriesRequest(account="acme"))
    entries = list(listed.entries)[:2]

    assert [ledger_pb2.Entry.Kind.Name(entry.kind) for entry in entries] == ["KIND_COMMIT", "KIND_RESERVE"]
    assert [entry.idempotency_key for entry in entries] == ["", "k"]
    assert {entry.reservation_id for entry in entries} == {held.reservation_id}
    assert sum(entry.amount_micros for entry in listed.entries) == 95 * CREDIT


async def test_a_reservation_ends_once_in_one_way(demo):
    held = await reserve(demo)
    release = pb.ReleaseRequest(account="acme", reservation_id=held.reservation_id)

    first = await demo.entitlements.Release(release)
    again = await demo.entitlements.Release(release)
    error = await refused(
        demo.entitlements.Commit(pb.CommitRequest(account="acme", reservation_id=held.reservation_id))
    )
    unknown = await refused(demo.entitlements.Commit(pb.CommitRequest(account="acme", reservation_id="nope")))

    assert (first.released_micros, first.balance.available_micros) == (30 * CREDIT, 100 * CREDIT)
    assert (again.replayed, again.released_micros) == (True, 30 * CREDIT)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(error)["ErrorInfo"].reason == "RESERVATION_RELEASED"
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    assert details(unknown)["ErrorInfo"].reason == "RESERVATION_NOT_FOUND"


async def test_denied_reserve_and_extend_are_answers(demo):
    denied = await reserve(demo, quantity=101)
    held = await reserve(demo, quantity=90)
    no_more = await demo.entitlements.Extend(
        pb.ExtendRequest(account="acme", reservation_id=held.reservation_id, quantity=11)
    )

    assert (denied.allowed, denied.reason, denied.reservation_id) == (
        False,
        pb.REASON_INSUFFICIENT_CREDITS,
        "",
    )
    assert denied.shortfall_micros == CREDIT
    assert (no_more.allowed, no_more.reservation_id) == (False, held.reservation_id)
    assert (no_more.held_micros, no_more.expires_at) == (90 * CREDIT, held.expires_at)
    assert "are left" in no_more.message


@pytest.mark.parametrize(
    ("method", "request_", "fields"),
    [
        (
            "Reserve",
            pb.ReserveRequest(
                account="", feature="chat", quantity=-1, usage={"tokens": 1}, ttl=Duration(nanos=999_000_000)
            ),
            {"account", "quantity", "usage", "ttl"},
        ),
        ("Reserve", pb.ReserveRequest(account="a", feature="f", ttl=seconds(86_401)), {"ttl"}),
        ("Reserve", pb.ReserveRequest(account="a", feature="f", ttl=seconds(-5)), {"ttl"}),
        (
            "Extend",
            pb.ExtendRequest(account="a", cost_micros=-1, ttl=seconds(0), idempotency_key="\x01x"),
            {"reservation_id", "cost_micros", "ttl", "idempotency_key"},
        ),
        (
            "Commit",
            pb.CommitRequest(account="a", reservation_id="\x01", quantity=-3, metadata={"": "x"}),
            {"reservation_id", "quantity", 'metadata[""]'},
        ),
        ("Release", pb.ReleaseRequest(), {"account", "reservation_id"}),
        (
            "Refund",
            pb.RefundRequest(account="a", amount_micros=0, reason="x" * 1025),
            {"entry_id", "idempotency_key", "amount_micros", "reason"},
        ),
    ],
)
async def test_every_fault_of_a_request_is_named(demo, method, request_, fields):
    error = await refused(getattr(demo.entitlements, method)(request_))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = {violation.field for violation in details(error)["BadRequest"].field_violations}
    assert found == fields


async def test_refund_errors(demo):
    burn = await demo.entitlements.Consume(
        pb.ConsumeRequest(account="acme", feature="chat", quantity=5, idempotency_key="b")
    )
    cases = [
        (pb.RefundRequest(entry_id="nope"), grpc.StatusCode.NOT_FOUND, "ENTRY_NOT_FOUND"),
        (
            pb.RefundRequest(entry_id=burn.entry_id, amount_micros=6 * CREDIT),
            grpc.StatusCode.FAILED_PRECONDITION,
            "REFUND_TOO_LARGE",
        ),
    ]
    for request, code, reason in cases:
        request.account, request.idempotency_key = "acme", "r"
        error = await refused(demo.entitlements.Refund(request))
        assert error.code() is code
        assert details(error)["ErrorInfo"].reason == reason
    missing = await refused(
        demo.entitlements.Refund(
            pb.RefundRequest(account="acme", entry_id=burn.entry_id, idempotency_key="b")
        )
    )
    assert details(missing)["ErrorInfo"].reason == "IDEMPOTENCY_KEY_REUSED"
