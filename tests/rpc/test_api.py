"""The API as callers see it, on both hosts."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.rpc.conftest import CREDIT, demo_catalog

from creditd.v1 import accounts_pb2, catalog_pb2, entitlements_pb2, ledger_pb2, test_clocks_pb2

pb = entitlements_pb2


def details(error: grpc.aio.AioRpcError) -> dict[str, object]:
    """The google.rpc details of an error, by message name."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            found = {}
            for packed in status.details:
                kind = getattr(error_details_pb2, packed.type_url.rsplit(".", 1)[1])
                message = kind()
                packed.Unpack(message)
                found[kind.__name__ if hasattr(kind, "__name__") else kind.DESCRIPTOR.name] = message
            return found
    raise AssertionError(f"no details with {error}")


async def refused(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_check_consume_and_balance_tell_one_story(demo):
    check = await demo.entitlements.Check(pb.CheckRequest(account="acme", feature="chat", quantity=7))
    burn = await demo.entitlements.Consume(
        pb.ConsumeRequest(account="acme", feature="chat", usage={"tokens": 7}, idempotency_key="k")
    )
    again = await demo.entitlements.Consume(
        pb.ConsumeRequest(account="acme", feature="chat", usage={"tokens": 7}, idempotency_key="k")
    )
    balance = await demo.entitlements.GetBalance(pb.GetBalanceRequest(account="acme"))

    assert (check.allowed, check.reason, check.cost_micros, check.affordable_quantity) == (
        True,
        pb.REASON_COVERED,
        7 * CREDIT,
        100,
    )
    assert (burn.charged_micros, burn.sequence, burn.balance.available_micros) == (7 * CREDIT, 2, 93 * CREDIT)
    assert again.replayed
    again.replayed = False
    assert again == burn
    assert balance.balances[0].available_micros == 93 * CREDIT
    assert balance.grants[0].remaining_micros == 93 * CREDIT
    assert balance.sequence == 2


async def test_every_feature_type_answers(demo):
    sso = await demo.entitlements.Check(pb.CheckRequest(account="acme", feature="sso"))
    window = await demo.entitlements.Check(pb.CheckRequest(account="acme", feature="window"))
    calls = await demo.entitlements.Consume(pb.ConsumeRequest(account="acme", feature="calls"))

    assert sso.reason == pb.REASON_ENTITLED
    assert window.value.number_value == 128000
    assert (calls.limit.used, calls.limit.remaining) == (1, 2)
    assert calls.limit.resets_at.seconds > 0


async def test_denial_is_an_answer_with_reason_message_and_shortfall(demo):
    denied = await demo.entitlements.Consume(pb.ConsumeRequest(account="acme", feature="chat", quantity=150))

    assert not denied.allowed
    assert denied.reason == pb.REASON_INSUFFICIENT_CREDITS
    assert denied.shortfall_micros == 50 * CREDIT
    assert "50" in denied.message
    assert denied.entry_id == ""


async def test_batches_answer_each_item_in_order(demo):
    checks = await demo.entitlements.BatchCheck(
        pb.BatchCheckRequest(
            items=[
                pb.CheckRequest(account="acme", feature="chat"),
                pb.CheckRequest(account="nobody", feature="chat"),
                pb.CheckRequest(account="", feature="chat"),
            ]
        )
    )
    burns = await demo.entitlements.BatchConsume(
        pb.BatchConsumeRequest(
            items=[
                pb.ConsumeRequest(account="acme", feature="chat", quantity=60),
                pb.ConsumeRequest(account="acme", feature="chat", quantity=60),
                pb.ConsumeRequest(account="acme", feature="nothing"),
            ]
        )
    )

    assert checks.results[0].response.allowed
    assert (checks.results[1].error.code, checks.results[1].error.reason) == (5, "ACCOUNT_NOT_FOUND")
    assert checks.results[2].error.code == 3
    assert sorted(item.response.allowed for item in burns.results[:2]) == [False, True]
    assert burns.results[2].error.reason == "FEATURE_NOT_FOUND"


async def test_atomic_batch_burns_all_or_nothing(demo):
    items = [
        pb.ConsumeRequest(account="acme", feature="calls"),
        pb.ConsumeRequest(account="acme", feature="chat", quantity=150),
    ]
    short = await demo.entitlements.BatchConsume(pb.BatchConsumeRequest(items=items, atomic=True))
    items[1].quantity = 50
    whole = await demo.entitlements.BatchConsume(pb.BatchConsumeRequest(items=items, atomic=True))

    assert short.results[0].error.reason == "BATCH_ABORTED"
    assert short.results[1].response.reason == pb.REASON_INSUFFICIENT_CREDITS
    assert [item.response.sequence for item in whole.results] == [2, 3]
    assert whole.results[0].response.limit.used == 1


LONG = "x" * 256
BAD = [
    ("empty account", dict(account="", feature="chat"), ["account"]),
    ("long feature", dict(account="acme", feature=LONG), ["feature"]),
    ("control character", dict(account="a\n", feature="chat"), ["account"]),
    ("unknown mode", dict(account="acme", feature="chat", mode=9), ["mode"]),
    ("negative usage", dict(account="acme", feature="chat", usage={"tokens": -1}), ['usage["tokens"]']),
    ("overflowing quantity", dict(account="acme", feature="chat", quantity=2**63 - 1), ["quantity"]),
    ("negative quantity", dict(account="acme", feature="chat", quantity=-1), ["quantity"]),
    ("both", dict(account="acme", feature="chat", quantity=1, usage={"tokens": 1}), ["usage"]),
    ("cost", dict(account="acme", feature="chat", cost_micros=1), ["cost_micros"]),
    (
        "time out of range",
        dict(account="acme", feature="chat", occurred_at=Timestamp(seconds=-5)),
        ["occurred_at"],
    ),
    ("all of them", dict(account="", feature="", mode=7), ["account", "feature", "mode"]),
]


@pytest.mark.parametrize(("fields", "paths"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_bad_consume_is_refused_with_every_fault_and_changes_nothing(demo, fields, paths):
    error = await refused(demo.entitlements.Consume(pb.ConsumeRequest(**fields)))

    found = details(error)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [item.field for item in found["BadRequest"].field_violations] == paths
    assert found["ErrorInfo"].domain == "creditd"
    balance = await demo.entitlements.GetBalance(pb.GetBalanceRequest(account="acme"))
    assert balance.sequence == 1


async def test_unpriced_meter_is_no_rate(demo):
    error = await refused(
        demo.entitlements.Consume(pb.ConsumeRequest(account="acme", feature="chat", usage={"words": 1}))
    )

    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(error)["ErrorInfo"].reason == "NO_RATE"


async def test_key_of_another_request_is_told_as_such(demo):
    burn = pb.ConsumeRequest(account="acme", feature="chat", quantity=1, idempotency_key="k")
    await demo.entitlements.Consume(burn)
    burn.quantity = 2

    error = await refused(demo.entitlements.Consume(burn))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)["ErrorInfo"].reason == "IDEMPOTENCY_KEY_REUSED"


async def test_too_many_items_and_too_large_messages_are_refused(demo):
    many = [pb.CheckRequest(account="acme", feature="chat")] * 1001
    batch = await refused(demo.entitlements.BatchCheck(pb.BatchCheckRequest(items=many)))
    huge = await refused(
        demo.entitlements.Check(pb.CheckRequest(account="a" * (4 * 1024 * 1024 + 1), feature="chat"))
    )

    assert batch.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert huge.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_wrong_catalog_is_refused_with_every_fault_by_path(demo):
    catalog = demo_catalog()
    catalog.features.append(catalog.features[0])
    catalog.plans[0].allowances[0].credit = "gold"
    catalog.plans[0].entitlements[0].feature = "nothing"

    error = await refused(demo.catalogs.ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=catalog)))

    fields = {item.field for item in details(error)["BadRequest"].field_violations}
    assert fields >= {
        "catalog.features[4].key",
        "catalog.plans[0].allowances[0].credit",
        "catalog.plans[0].entitlements[0].feature",
    }
    version = await demo.catalogs.GetCatalog(catalog_pb2.GetCatalogRequest())
    assert version.version == 1


async def test_catalog_versions_dry_run_and_expected_version(demo):
    request = catalog_pb2.ApplyCatalogRequest(
        catalog=demo_catalog(2 * CREDIT), dry_run=True, expected_version=1
    )
    dry = await demo.catalogs.ApplyCatalog(request)
    request.dry_run = False
    applied = await demo.catalogs.ApplyCatalog(request)
    late = await refused(demo.catalogs.ApplyCatalog(request))
    listed = await demo.catalogs.ListCatalogVersions(catalog_pb2.ListCatalogVersionsRequest())
    burn = await demo.entitlements.Consume(pb.ConsumeRequest(account="acme", feature="chat"))

    assert (dry.version, applied.version) == (1, 2)
    assert "tokens" in dry.changes[0].summary
    assert details(late)["ErrorInfo"].reason == "VERSION_MISMATCH"
    assert [item.version for item in listed.versions] == [2, 1]
    assert burn.charged_micros == 2 * CREDIT


async def test_scheduled_price_takes_effect_at_its_instant_on_a_test_clock(demo):
    clocks, accounts = test_clocks_pb2, accounts_pb2
    now = 4_000_000_000
    await demo.clocks.CreateTestClock(
        clocks.CreateTestClockRequest(test_clock=clocks.TestClock(id="c", now=Timestamp(seconds=now)))
    )
    await demo.accounts.PutAccount(
        accounts.PutAccountRequest(account=accounts.Account(id="timed", test_clock="c"))
    )
    await demo.accounts.PutSubscription(
        accounts.PutSubscriptionRequest(
            account="timed", subscription=accounts.Subscription(id="s", plan="pro")
        )
    )
    await demo.catalogs.ApplyCatalog(
        catalog_pb2.ApplyCatalogRequest(
            catalog=demo_catalog(5 * CREDIT), effective_at=Timestamp(seconds=now + 10)
        )
    )
    burns = []
    for instant in (Timestamp(seconds=now + 9, nanos=999_000_000), Timestamp(seconds=now + 10)):
        await demo.clocks.AdvanceTestClock(clocks.AdvanceTestClockRequest(id="c", now=instant))
        burns.append(await demo.entitlements.Consume(pb.ConsumeRequest(account="timed", feature="chat")))

    assert [burn.charged_micros for burn in burns] == [CREDIT, 5 * CREDIT]
    entries = await demo.ledger.ListEntries(ledger_pb2.ListEntriesRequest(account="timed"))
    assert [entry.catalog_version for entry in entries.entries] == [2, 1, 0]
    backwards = await refused(
        demo.clocks.AdvanceTestClock(clocks.AdvanceTestClockRequest(id="c", now=Timestamp(seconds=now)))
    )
    assert details(backwards)["ErrorInfo"].reason == "CLOCK_BACKWARDS"


async def test_grants_are_created_once_voided_once_and_listed(demo):
    accounts = accounts_pb2
    grant = {"account": "acme", "credit": "credits", "amount_micros": 5 * CREDIT}
    keyless = await refused(demo.accounts.CreateGrant(accounts.CreateGrantRequest(grant=grant)))
    request = accounts.CreateGrantRequest(grant=grant, idempotency_key="g")
    first = await demo.accounts.CreateGrant(request)
    again = await demo.accounts.CreateGrant(request)
    request.grant.amount_micros = 6 * CREDIT
    reused = await refused(demo.accounts.CreateGrant(request))
    voided = await demo.accounts.VoidGrant(
        accounts.VoidGrantRequest(account="acme", id=first.id, reason="oops")
    )
    revoided = await demo.accounts.VoidGrant(accounts.VoidGrantRequest(account="acme", id=first.id))
    listed = await demo.accounts.ListGrants(
        accounts.ListGrantsRequest(account="acme", include_inactive=True, page_size=1)
    )
    rest = await demo.accounts.ListGrants(
        accounts.ListGrantsRequest(account="acme", include_inactive=True, page_token=listed.next_page_token)
    )

    assert details(keyless)["BadRequest"].field_violations[0].field == "idempotency_key"
    assert first == again
    assert details(reused)["ErrorInfo"].reason == "IDEMPOTENCY_KEY_REUSED"
    assert voided.voided_at == revoided.voided_at
    assert [item.grant.source for item in listed.grants] == ["plan/pro"]
    assert [item.grant.id for item in rest.grants] == [first.id]
    balance = await demo.entitlements.GetBalance(pb.GetBalanceRequest(account="acme"))
    assert balance.balances[0].available_micros == 100 * CREDIT


async def test_account_is_updated_under_its_etag(demo):
    accounts = accounts_pb2
    account = await demo.accounts.GetAccount(accounts.GetAccountRequest(id="acme"))
    account.name = "Acme"
    updated = await demo.accounts.PutAccount(accounts.PutAccountRequest(account=account))
    stale = await refused(demo.accounts.PutAccount(accounts.PutAccountRequest(account=account)))
    listed = await demo.accounts.ListAccounts(accounts.ListAccountsRequest(filter="ac"))

    assert updated.name == "Acme"
    assert updated.subscriptions[0].plan == "pro"
    assert details(stale)["ErrorInfo"].reason == "VERSION_MISMATCH"
    assert [item.id for item in listed.accounts] == ["acme"]


async def test_preview_of_a_subscription_changes_nothing(demo):
    accounts = accounts_pb2
    request = accounts.PutSubscriptionRequest(
        account="acme", subscription=accounts.Subscription(id="second", plan="pro"), preview=True
    )
    preview = await demo.accounts.PutSubscription(request)
    account = await demo.accounts.GetAccount(accounts.GetAccountRequest(id="acme"))

    assert preview.balances[0].available_micros == 200 * CREDIT
    assert [item.id for item in account.subscriptions] == ["s"]


async def test_entries_page_newest_first_and_verify_agrees(demo):
    for number in range(5):
        await demo.entitlements.Consume(
            pb.ConsumeRequest(account="acme", feature="chat", metadata={"n": str(number)})
        )
    first = await demo.ledger.ListEntries(ledger_pb2.ListEntriesRequest(account="acme", page_size=4))
    rest = await demo.ledger.ListEntries(
        ledger_pb2.ListEntriesRequest(account="acme", page_token=first.next_page_token)
    )
    verified = await demo.ledger.VerifyAccount(ledger_pb2.VerifyAccountRequest(account="acme"))

    assert [entry.sequence for entry in (*first.entries, *rest.entries)] == [6, 5, 4, 3, 2, 1]
    assert first.entries[0].metadata["n"] == "4"
    assert (verified.consistent, verified.ledger_sequence, verified.hot_sequence) == (True, 6, 6)


async def test_unserved_rpc_says_so(demo):
    error = await refused(
        demo.entitlements.AcquireLease(pb.AcquireLeaseRequest(account="acme", credit="credits"))
    )
    stream = demo.entitlements.Session()
    with pytest.raises(grpc.aio.AioRpcError) as streamed:
        await stream.read()

    assert error.code() is streamed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "AcquireLease is not served by this release" in error.details()


async def test_health_is_serving(demo):
    stub = health_pb2_grpc.HealthStub(demo.channel)
    for service in ("", "creditd.v1.Entitlements"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_calls_cancelled_at_random_instants_cross_no_replies_and_lose_no_entry(demo):
    """2,500 calls on each host; each answer must be about its own account."""
    accounts = accounts_pb2
    source = random.Random(7)
    names = [f"acc{number}" for number in range(10)]
    for name in names:
        await demo.accounts.PutAccount(accounts.PutAccountRequest(account=accounts.Account(id=name)))
        await demo.accounts.CreateGrant(
            accounts.CreateGrantRequest(
                grant={
                    "id": f"grant-of-{name}",
                    "account": name,
                    "credit": "credits",
                    "amount_micros": 10**12,
                }
            )
        )
        await demo.accounts.PutSubscription(
            accounts.PutSubscriptionRequest(
                account=name, subscription=accounts.Subscription(id=f"s-{name}", plan="pro")
            )
        )
    gate = asyncio.Semaphore(50)
    answered: list[tuple[str, str, int]] = []

    async def one(number: int) -> None:
        name = source.choice(names)
        async with gate:
            call = demo.entitlements.Consume(
                pb.ConsumeRequest(
                    account=name, feature="chat", quantity=1, idempotency_key=f"k{number}", subject=name
                )
            )
            if source.random() < 0.5:
                for _ in range(source.randrange(60)):
                    await asyncio.sleep(0)
                call.cancel()
            try:
                response = await call
            except asyncio.CancelledError:
                return
            except grpc.aio.AioRpcError as error:
                # A server may end a connection that resets streams by the hundred; the call is then unknown.
                assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
                return
            allocation = response.allocations[0].grant_id
            assert name in allocation, f"{name} was answered about {allocation}"
            answered.append((name, response.entry_id, response.sequence))

    await asyncio.gather(*(one(number) for number in range(2500)))
    for name in names:
        await settled(demo, name)
        entries = []
        token = ""
        while True:
            page = await demo.ledger.ListEntries(
                ledger_pb2.ListEntriesRequest(account=name, page_size=1000, page_token=token)
            )
            entries += page.entries
            token = page.next_page_token
            if not token:
                break
        assert [entry.sequence for entry in entries] == list(range(len(entries), 0, -1))
        assert all(entry.subject in {"", name} for entry in entries)
        ids = {entry.id: entry.sequence for entry in entries}
        assert all(ids[entry_id] == sequence for owner, entry_id, sequence in answered if owner == name)


async def settled(demo, account: str) -> None:
    """Wait until what was decided for the account has landed: hot state and ledger agree."""
    async with asyncio.timeout(60):
        while True:
            verified = await demo.ledger.VerifyAccount(ledger_pb2.VerifyAccountRequest(account=account))
            if verified.consistent:
                return
