"""Rows a second of the ledger's append, by batch size, on an embedded PostgreSQL with fsync on.

Run: python bench/append.py [SECONDS_PER_LINE]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from creditd.domain.accounts import Account, Epoch
from creditd.domain.entries import Answer, CounterChange, Effects, Entry, GrantChange, Kind
from creditd.embedded import EmbeddedPostgres
from creditd.ledger import Landed, Ledger, Unit, migrate
from creditd.ledger.codec import encode_detail

BATCHES = (1, 64, 256)
ACCOUNTS = 1_000


def entry(account: str, sequence: int) -> Entry:
    """A typical Consume: two meters, two grants, a budget's counter, an answer."""
    return Entry(
        id=f"{account}-{sequence:012d}",
        account=account,
        sequence=sequence,
        kind=Kind.CONSUME,
        at=1_760_000_000_000 + sequence,
        credit="ai",
        amount=-1_250_000,
        balance_after=998_750_000,
        feature="chat",
        subject="user-17",
        idempotency_key=f"key-{account}-{sequence}",
        fingerprint="3b5d5c3712955042",
        usage={"input_tokens": 1200, "output_tokens": 350},
        attributes={"model": "large-2", "provider": "acme"},
        allocations=(("grant-plan-2026-01", 1_000_000), ("grant-purchase-7", 250_000)),
        catalog_version=3,
        effects=Effects(
            grants=(GrantChange("grant-plan-2026-01", -1_000_000), GrantChange("grant-purchase-7", -250_000)),
            counters=(CounterChange("budget:team", 1_760_000_000_000, 1_762_000_000_000, 1_250_000),),
        ),
        answer=Answer(charged=1_250_000, available=998_750_000, granted=1_000_000_000),
    )


class Accounts:
    """Hands out units, each with the next sequence of its account."""

    def __init__(self, epochs: dict[str, Epoch]) -> None:
        self._epochs = epochs
        self._names = list(epochs)
        self._sequences = dict.fromkeys(epochs, 0)
        self._turn = 0

    def units(self, count: int, *, hot: bool) -> list[Unit]:
        """`count` units, all of the first account or of one account each in turn."""
        units = []
        for _ in range(count):
            name = self._names[0 if hot else self._turn % len(self._names)]
            self._turn += 1
            self._sequences[name] += 1
            units.append(Unit(name, self._epochs[name], 0, (entry(name, self._sequences[name]),)))
        return units


async def measure(ledger: Ledger, accounts: Accounts, batch: int, *, hot: bool, seconds: float) -> None:
    """Append batches one after the other for a while and print the rate."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        units = accounts.units(batch, hot=hot)
        start = time.perf_counter()
        outcomes = await ledger.append(units)
        took.append(time.perf_counter() - start)
        assert all(isinstance(outcome, Landed) for outcome in outcomes)
    took.sort()
    middle, high = took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000
    rate = batch * len(took) / sum(took)
    print(
        f"  batch {batch:4d}  {'one account' if hot else 'many accounts':13s} "
        f"{rate:8.0f} rows/s  p50 {middle:6.2f} ms  p99 {high:6.2f} ms"
    )


async def run(seconds: float) -> None:
    """Set up a server, then print one line for each batch size and spread."""
    sample = entry("account-0001", 1)
    start = time.perf_counter()
    for _ in range(20_000):
        encode_detail(sample)
    print(f"encode of one detail: {(time.perf_counter() - start) / 20_000 * 1e6:.2f} us")
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder) / "postgres") as server:
            await migrate(server.dsn)
            ledger = await Ledger.connect(server.dsn, nonce=lambda: 7)
            names = [f"account-{number:04d}" for number in range(ACCOUNTS)]
            for name in names:
                await ledger.create_account(Account(name, created_at=0))
            accounts = Accounts({name: Epoch(1, 7) for name in names})
            print("append, fsync on, one flight at a time:")
            for hot in (True, False):
                for batch in BATCHES:
                    await measure(ledger, accounts, batch, hot=hot, seconds=seconds)
            await ledger.close()


if __name__ == "__main__":
    asyncio.run(run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.5))
