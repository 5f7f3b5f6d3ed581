"""`creditd replay`: send a request trace through the API; interrupted and run again, nothing burns twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from creditd.cli import completion
from creditd.cli.client import Address, AsJson, Context, ExitCode, Server, aio_channel, chosen_server
from creditd.cli.data import Mode, ModeOption
from creditd.cli.output import console_for_progress, facts, fail, note, show, styled, write
from creditd.cli.trace import Row, Trace, TraceError, read_trace
from creditd.cli.values import credits_text, pairs
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.entitlements_pb2_grpc import EntitlementsStub

_RETRIED: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
_CALL_TIMEOUT_S: Final = 10.0
_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: for which account and feature, how many at a time, and how fast (0 = as fast as it goes)."""

    account: str
    feature: str
    attributes: dict[str, str]
    key_prefix: str
    mode: int = pb.MODE_ENFORCE
    concurrency: int = 64
    speed: float = 0.0
    retry_for_s: float = 60.0


@dataclass(slots=True)
class Summary:
    """What became of a trace so far. Amounts in micros, latencies in seconds."""

    requests: int = 0
    answered: int = 0
    allowed: int = 0
    denied: int = 0
    replayed: int = 0
    retries: int = 0
    burned: int = 0
    burned_before: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def percentile(self, share: float) -> float:
        """The latency below which `share` of the calls were answered, in ms."""
        if not self.latencies:
            return 0.0
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    def as_dict(self) -> dict[str, object]:
        """For --json."""
        return {
            "requests": self.requests,
            "answered": self.answered,
            "allowed": self.allowed,
            "denied": self.denied,
            "replayed": self.replayed,
            "retries": self.retries,
            "failed": self.failed,
            "burned_micros": self.burned,
            "burned_before_micros": self.burned_before,
            "seconds": round(self.seconds, 3),
            "calls_per_second": round(self.answered / self.seconds, 1) if self.seconds else 0,
            "p50_ms": round(self.percentile(0.50), 2),
            "p95_ms": round(self.percentile(0.95), 2),
            "p99_ms": round(self.percentile(0.99), 2),
            "interrupted": self.interrupted,
        }


Sleep = Callable[[float], Awaitable[None]]


async def replay(
    trace: Trace,
    plan: Plan,
    stub: EntitlementsStub,
    *,
    stop: asyncio.Event,
    on_answer: Callable[[Summary], None] = lambda _summary: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> Summary:
    """Send every row once, under a key of its own; `stop` ends it after the calls in flight."""
    summary = Summary(requests=len(trace.rows))
    began = clock()
    rows = iter(trace.rows)
    first = trace.rows[0].at if trace.rows else None

    async def sender() -> None:
        for row in rows:
            if stop.is_set():
                return
            if plan.speed and row.at is not None and first is not None:
                due = (row.at - first).total_seconds() / plan.speed
                await sleep(max(0.0, began + due - clock()))
            await _send(row, plan, stub, summary, stop, clock, sleep)
            on_answer(summary)

    await asyncio.gather(*(sender() for _ in range(plan.concurrency)))
    summary.seconds = clock() - began
    summary.interrupted = stop.is_set()
    return summary


async def _send(
    row: Row,
    plan: Plan,
    stub: EntitlementsStub,
    summary: Summary,
    stop: asyncio.Event,
    clock: Callable[[], float],
    sleep: Sleep,
) -> None:
    request = pb.ConsumeRequest(
        account=plan.account,
        feature=plan.feature,
        attributes=plan.attributes,
        usage=row.usage,
        mode=plan.mode,  # type: ignore[arg-type]  # one of the enum's values
        idempotency_key=f"{plan.key_prefix}{row.number}",
    )
    if row.at is not None:
        request.occurred_at.CopyFrom(Timestamp())
        request.occurred_at.FromDatetime(row.at)
    began = clock()
    attempt = 0
    while True:
        sent = clock()
        try:
            answer = await stub.Consume(request, timeout=_CALL_TIMEOUT_S)  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            give_up = clock() - began > plan.retry_for_s or stop.is_set()
            if error.code() not in _RETRIED or give_up:
                text = f"{error.code().name}: {error.details()}"
                summary.failed[text] = summary.failed.get(text, 0) + 1
                return
            summary.retries += 1
            # Jittered, so that callers who failed together don't come back together.
            await sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)] * random.uniform(0.5, 1.5))  # noqa: S311
            attempt += 1
        else:
            summary.latencies.append(clock() - sent)
            _count(answer, summary)
            return


def _count(answer: pb.ConsumeResponse, summary: Summary) -> None:
    summary.answered += 1
    if not answer.allowed:
        summary.denied += 1
        return
    summary.allowed += 1
    if answer.replayed:
        summary.replayed += 1
        summary.burned_before += answer.charged_micros
    else:
        summary.burned += answer.charged_micros


def _speed(text: str) -> float:
    if text == "max":
        return 0.0
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if speed <= 0:
        raise typer.BadParameter("expected max, or a factor such as 1x or 60x", param_hint="--speed")
    return speed


Columns = Annotated[
    list[str],
    typer.Option(
        "--map", metavar="METER=COLUMN,..", help="Meters and their columns: input_tokens=ContextTokens."
    ),
]
TimeColumn = Annotated[str, typer.Option(metavar="COLUMN", help="Column with the instants.")]


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with a header.", exists=True, dir_okay=False)
    ],
    *,
    account: Annotated[
        str, typer.Option(metavar="ID", help="Account that burns.", autocompletion=completion.accounts)
    ],
    feature: Annotated[
        str, typer.Option(metavar="KEY", help="Feature that is used.", autocompletion=completion.features)
    ],
    columns: Columns,
    attributes: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE,..", help="Attributes of every request.")
    ] = None,
    time_column: TimeColumn = "TIMESTAMP",
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="NUMBER", help="Calls in flight.")
    ] = 64,
    speed: Annotated[
        str, typer.Option(metavar="FACTOR", help="max, or times the trace's pace: 1x, 60x.")
    ] = "max",
    mode: ModeOption = Mode.ENFORCE,
    key_prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Of the idempotency keys; made from the trace's content by default."
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Send so many rows only; 0 = all.")] = 0,
    retry_for: Annotated[float, typer.Option(metavar="SECONDS", help="For how long to retry a call.")] = 60.0,
    address: Address = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    r"""Send a request trace as Consume calls.

    Interrupted and run again, it goes on without burning twice. Exit code 4
    when rows are left without an answer, 130 when it was interrupted; denials
    are answers.

    Example:
      creditd replay examples/trace.csv --account demo --feature chat \
        --attributes model=gpt-4o \
        --map input_tokens=ContextTokens,output_tokens=GeneratedTokens
    """
    server = chosen_server(address, context)
    given = pairs(attributes or (), "--attributes")
    meters = pairs(columns, "--map")
    try:
        trace = read_trace(file, meters, time_column=time_column, limit=limit)
    except (TraceError, UnicodeDecodeError) as error:
        raise fail(str(error)) from None
    # The mapping is left out: the same trace mapped otherwise is another request under the same key, and refused.
    identity = json.dumps([trace.digest, account, feature, sorted(given.items())])
    prefix = key_prefix or f"replay-{hashlib.sha256(identity.encode()).hexdigest()[:16]}-"
    plan = Plan(account, feature, given, prefix, mode.on_the_wire, concurrency, _speed(speed), retry_for)
    summary = asyncio.run(_run(trace, plan, server, quiet=as_json))
    if as_json:
        write(json.dumps(summary.as_dict(), indent=2) + "\n")
    else:
        _print(summary)
    if summary.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    raise typer.Exit(ExitCode.UNAVAILABLE if summary.failed else ExitCode.OK)


async def _run(trace: Trace, plan: Plan, server: Server, *, quiet: bool) -> Summary:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f}/s  p50 {task.fields[p50]:.1f} ms  p95 {task.fields[p95]:.1f} ms"),
        TimeRemainingColumn(),
    )
    console = console_for_progress()
    async with aio_channel(server) as channel:
        with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
            task = progress.add_task("", total=len(trace.rows), rate=0.0, p50=0.0, p95=0.0)
            began = time.monotonic()

            def show(summary: Summary) -> None:
                # A percentile of everything so far, on every answer, would cost more than the calls.
                if summary.answered % 200 == 0 or summary.answered == summary.requests:
                    progress.update(
                        task,
                        completed=summary.answered,
                        rate=summary.answered / max(time.monotonic() - began, 1e-3),
                        p50=summary.percentile(0.5),
                        p95=summary.percentile(0.95),
                    )

            return await replay(trace, plan, EntitlementsStub(channel), stop=stop, on_answer=show)


def _print(summary: Summary) -> None:
    per_second = summary.answered / max(summary.seconds, 1e-3)
    latencies = ", ".join(f"p{share} {summary.percentile(share / 100):.1f} ms" for share in (50, 95, 99))
    head = "interrupted" if summary.interrupted else "incomplete" if summary.failed else "replayed"
    rows = [
        ("requests", f"{summary.requests:,}"),
        ("answered", f"{summary.answered:,}: {summary.allowed:,} allowed, {summary.denied:,} denied"),
        ("burned", f"{credits_text(summary.burned)} credits"),
        ("burned before", f"{credits_text(summary.burned_before)} credits, by {summary.replayed:,} of them"),
        ("retries", f"{summary.retries:,}"),
        ("took", f"{summary.seconds:.1f} s, {per_second:,.0f} calls a second"),
        ("latency", latencies),
    ]
    rows += [("failed", f"{times:,} x {text}") for text, times in summary.failed.items()]
    show(styled(head, "bold green" if head == "replayed" else "bold red"), facts(rows))
    if summary.interrupted:
        note("run the same command again to go on: what has burned will not burn again")
