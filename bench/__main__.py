"""Calls a second and latencies of unary Check and Consume on both hosts, beside an empty RPC on each.

All sides run at once and take turns under the same load; each figure is the median of the rounds. The load comes from
h2load (package nghttp2-client), written in C: it is not the bottleneck, as its figure for the empty RPC shows.

Run: make bench, or: python -m bench [--rounds 5] [--calls 20000] [--quick] [--output FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc

from creditd.cli.catalog_file import load_catalog
from creditd.embedded import embedded_servers
from creditd.ledger.migrate import migrate
from creditd.v1 import accounts_pb2, catalog_pb2
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.accounts_pb2_grpc import AccountsStub
from creditd.v1.catalog_pb2_grpc import CatalogsStub

ROOT = Path(__file__).parents[1]
USE = {
    "account": "bench",
    "feature": "chat",
    "attributes": {"model": "gpt-4o"},
    "usage": {"input_tokens": 1200, "output_tokens": 300},
}
CONNECTIONS, STREAMS = 8, 8


@dataclass
class Side:
    """One thing that is measured."""

    name: str
    address: str
    path: str
    body: Path


@dataclass
class Round:
    """What one run of h2load told."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


async def start(*command: str, **environment: str) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **environment},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if line.startswith("serving gRPC on "):
            return process, line.split()[-1]
    raise SystemExit(f"{' '.join(command)} did not start")


async def load(
    side: Side, calls: int, log: Path, *, connections: int = CONNECTIONS, streams: int = STREAMS
) -> Round:
    log.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        "h2load",
        *("-n", str(calls), "-c", str(connections), "-m", str(streams), "-t", "1"),
        *("-d", str(side.body), "--log-file", str(log)),
        *("-H", "content-type: application/grpc", "-H", "te: trailers"),
        f"http://{side.address}{side.path}",
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    finished = next(line for line in output.decode().splitlines() if line.startswith("finished in"))
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    took = sorted(int(row[2]) for row in rows)
    return Round(
        calls_per_second=float(finished.split(", ")[1].split()[0]),
        p50_ms=took[len(took) // 2] / 1000,
        p99_ms=took[int(len(took) * 0.99)] / 1000,
        failed=sum(row[1] != "200" for row in rows) + calls - len(rows),
    )


async def sell(address: str) -> None:
    catalog = load_catalog(ROOT / "examples" / "catalog.yaml").message
    async with grpc.aio.insecure_channel(address) as channel:
        accounts = AccountsStub(channel)
        await CatalogsStub(channel).ApplyCatalog(catalog_pb2.ApplyCatalogRequest(catalog=catalog))
        account = accounts_pb2.Account(id="bench")
        await accounts.PutAccount(accounts_pb2.PutAccountRequest(account=account))
        await accounts.PutSubscription(
            accounts_pb2.PutSubscriptionRequest(
                account="bench", subscription=accounts_pb2.Subscription(id="s", plan="pro")
            )
        )
        grant = {"id": "g", "account": "bench", "credit": "credits", "amount_micros": 10**15}
        await accounts.CreateGrant(accounts_pb2.CreateGrantRequest(grant=grant))


def framed(folder: Path, name: str, message: bytes) -> Path:
    path = folder / name
    path.write_bytes(b"\x00" + struct.pack(">I", len(message)) + message)
    return path


async def run(rounds: int, calls: int) -> dict[str, list[Round]]:
    results: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check = framed(folder, "check", pb.CheckRequest(**USE).SerializeToString())
        consume = framed(folder, "consume", pb.ConsumeRequest(**USE).SerializeToString())
        async with embedded_servers(folder / "data") as stores:
            await migrate(stores.dsn)
            processes = []
            sides = []
            for transport in ("asgi", "grpcio"):
                process, address = await start("-m", "bench.empty_server", transport)
                processes.append(process)
                sides.append(
                    Side(f"empty RPC, {transport}", address, "/creditd.v1.Entitlements/Check", check)
                )
                process, address = await start(
                    *("-m", "creditd", "serve", "--listen", "127.0.0.1:0", "--transport", transport),
                    CREDITD_POSTGRES_DSN=stores.dsn,
                    CREDITD_REDIS_URL=stores.url,
                )
                processes.append(process)
                await sell(address)
                sides.append(Side(f"Check, {transport}", address, "/creditd.v1.Entitlements/Check", check))
                sides.append(
                    Side(f"Consume, {transport}", address, "/creditd.v1.Entitlements/Consume", consume)
                )
            try:
                for number in range(rounds + 1):
                    for side in sides:
                        measured = await load(side, calls if number else calls // 4, folder / "log")
                        if number:  # the first round warms up
                            results.setdefault(side.name, []).append(measured)
            finally:
                for process in processes:
                    process.terminate()
                    await process.wait()
    return results


def report(results: dict[str, list[Round]], calls: int) -> str:
    base = statistics.median(item.calls_per_second for item in results["empty RPC, grpcio"])
    rounds = len(next(iter(results.values())))
    lines = [
        f"{rounds} rounds of {calls} calls each, sides interleaved, {CONNECTIONS} connections with {STREAMS} calls",
        "in flight on each, durable (write_through, fsync on), one hot account; medians, spread in brackets.",
        "",
        "| | calls a second | beside the empty RPC on grpc.aio | p50 ms | p99 ms | failed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, items in results.items():
        rates = [item.calls_per_second for item in items]
        lines.append(
            f"| {name} | {statistics.median(rates):,.0f} [{min(rates):,.0f} to {max(rates):,.0f}] "
            f"| {statistics.median(rates) / base:.2f} x | {statistics.median(item.p50_ms for item in items):.2f} "
            f"| {statistics.median(item.p99_ms for item in items):.2f} | {sum(item.failed for item in items)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="a smoke test: one short round")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.calls = 1, 2_000
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is needed: it is in the package nghttp2-client")
    results = asyncio.run(run(options.rounds, options.calls))
    print(report(results, options.calls))
    if options.output:
        options.output.write_text(
            json.dumps({name: [vars(item) for item in items] for name, items in results.items()}, indent=1)
        )
    if any(item.failed for items in results.values() for item in items):
        raise SystemExit("some calls failed")


if __name__ == "__main__":
    main()
