"""An engine on real servers, with a clock that tests move."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from tests.scenarios.conservation import check_books

from creditd.domain.accounts import Account
from creditd.domain.catalog import (
    Allowance,
    Catalog,
    CreditType,
    Entitlement,
    Feature,
    FeatureType,
    Limit,
    MeterPrice,
    Overage,
    Period,
    Plan,
    Rate,
    Unit,
)
from creditd.engine.control_types import EntryQuery, GrantDraft, SubscriptionChange
from creditd.engine.engine import Engine, EngineSettings
from creditd.hot.store import HotStore
from creditd.ledger.store import Ledger

CREDIT = 1_000_000

CATALOG = Catalog(
    credits=(CreditType("credits"),),
    features=(
        Feature(
            "chat",
            FeatureType.CREDIT,
            credit="credits",
            default_meter="tokens",
            rates=(
                Rate((MeterPrice("tokens", CREDIT),)),
                Rate((MeterPrice("tokens", 2 * CREDIT),), match={"model": "big"}),
            ),
        ),
        Feature("metered", FeatureType.CREDIT, credit="credits", external_rate=True),
        Feature("sso", FeatureType.BOOLEAN),
        Feature("window", FeatureType.CONFIG),
        Feature("calls", FeatureType.LIMIT),
        Feature("jobs", FeatureType.LIMIT),
        Feature("secret", FeatureType.BOOLEAN),
    ),
    plans=(
        Plan(
            "pro",
            allowances=(Allowance("credits", 100 * CREDIT),),
            entitlements=(
                Entitlement("chat", enabled=True),
                Entitlement("metered", enabled=True),
                Entitlement("sso", enabled=True),
                Entitlement("window", value=128_000),
                Entitlement("calls", limit=Limit(3, Period(Unit.DAY))),
                Entitlement("jobs", limit=Limit(2)),
            ),
        ),
        Plan(
            "payg",
            entitlements=(Entitlement("chat", enabled=True),),
            overages=(Overage("credits", allowed=True, cap_micros=5 * CREDIT),),
        ),
    ),
)


class FakeClock:
    """Milliseconds that only tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, ms: int) -> None:
        self.now += ms


@dataclass
class World:
    """Engines on the same stores, as replicas are, and the means to break things."""

    dsn: str
    url: str
    clock: FakeClock
    engines: list[Engine]

    async def replica(self, url: str = "") -> Engine:
        """Another engine; `url` is where it looks for the hot store, if not where the others do."""
        ledger = await Ledger.connect(self.dsn, timeout_s=10)
        hot = HotStore(url or self.url, timeout_s=5, record_ttl_ms=300_000, idle_ttl_ms=0, wall_ms=self.clock)
        engine = Engine(
            ledger,
            hot,
            settings=EngineSettings(),
            wall_ms=self.clock,
            random_bits=random.Random(len(self.engines)).getrandbits,
            clock=lambda: self.clock() / 1000,
        )
        await engine.start()
        self.engines.append(engine)
        return engine

    async def account(self, account: str = "acme", plan: str = "pro") -> None:
        engine = self.engines[0]
        await engine.put_account(Account(account, 0), etag="")
        if plan:
            await engine.put_subscription(SubscriptionChange(account, "sub", plan))

    async def grant(self, amount: int, grant_id: str, account: str = "acme", **fields) -> None:
        draft = GrantDraft(account, grant_id, "credits", amount, **fields)
        await self.engines[0].create_grant(draft, idempotency_key="")


@pytest.fixture
async def world(dsn, valkey):
    made = World(dsn, valkey, FakeClock(), [])
    engine = await made.replica()
    await engine.apply_catalog(CATALOG, dry_run=False, effective_at=None, expected_version=None, note="")
    yield made
    for engine in made.engines:
        await engine.close()


@pytest.fixture
def engine(world):
    return world.engines[0]


@pytest.fixture
def clock(world):
    return world.clock


async def books_balance(engine: Engine, account: str = "acme") -> None:
    """The account's hot state is its ledger, no sequence is missing, and no credit came from or went nowhere."""
    check = await engine.verify_account(account, repair=False)
    assert check.consistent, check.differences
    log = list(reversed(await engine.list_entries(EntryQuery(account, limit=1000))))
    assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
    check_books(log, await engine.ledger.read(account, from_start=True))
