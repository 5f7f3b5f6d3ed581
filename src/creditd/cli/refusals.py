"""Errors of a server, told to people: what was wrong, which option caused it, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

import grpc
import typer
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from creditd.cli import suggest
from creditd.cli.output import ExitCode, complain

_NO_ANSWER: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}

# What fields of requests are called on the command line. `connected(named=...)` says where a command differs.
_OPTIONS: Final = {
    "account": "ACCOUNT",
    "id": "ID",
    "feature": "FEATURE",
    "quantity": "--quantity",
    "usage": "--usage",
    "attributes": "--attributes",
    "metadata": "--metadata",
    "subject": "--subject",
    "mode": "--mode",
    "cost_micros": "--cost",
    "idempotency_key": "--idempotency-key",
    "credit": "--credit",
    "amount_micros": "--amount",
    "priority": "--priority",
    "category": "--category",
    "effective_at": "--effective",
    "expires_at": "--expires",
    "price": "--price",
    "features": "--features",
    "source": "--source",
    "name": "--name",
    "labels": "--label",
    "external_id": "--external-id",
    "test_clock": "--test-clock",
    "plan": "--plan",
    "plan_version": "--plan-version",
    "seats": "--seats",
    "status": "--status",
    "started_at": "--start",
    "anchor": "--anchor",
    "cancel_at": "--cancel-at",
    "since": "--since",
    "until": "--until",
    "kinds": "--kind",
    "filter": "--prefix",
    "note": "--note",
    "expected_version": "--expected-version",
    "version": "--version",
    "reason": "--reason",
    "page_size": "--limit",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An RPC error taken apart: its status, message, reason, and the fields it complains of."""

    status: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that got this error."""
        return ExitCode.UNAVAILABLE if self.status in _NO_ANSWER else ExitCode.REFUSED


def refusal_of(error: grpc.RpcError) -> Refusal:
    """Take an error of a call apart, with the details of google.rpc.Status if they are there."""
    call: Any = error
    reason, metadata, violations, retry_after_s = "", {}, [], 0.0
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # details that contradict the status: the status itself counts
        status = None
    for detail in status.details if status is not None else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations += [(item.field, item.description) for item in bad_request.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return Refusal(call.code(), call.details() or "", reason, metadata, tuple(violations), retry_after_s)


def print_json(refusal: Refusal) -> None:
    """Print an error as JSON, to stderr."""
    document = {
        "error": {
            "code": refusal.status.name,
            "reason": refusal.reason,
            "message": refusal.message,
            "metadata": refusal.metadata,
            "violations": [{"field": path, "problem": problem} for path, problem in refusal.violations],
        }
    }
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False), err=True)


def explain(
    refusal: Refusal,
    *,
    server: str,
    place: Callable[[str], str] | None,
    named: Mapping[str, str],
    retry: Sequence[str],
    opened: grpc.Channel | None,
) -> None:
    """Print an error for people, to stderr: what, why, every violation, and the fix."""
    reason = f" ({refusal.reason})" if refusal.reason and refusal.reason != refusal.status.name else ""
    head = f"{refusal.status.name}{reason}"
    # What the violations say is not said twice.
    lines = [_violation(path, problem, place, {**_OPTIONS, **named}) for path, problem in refusal.violations]
    message = "" if lines else _message(refusal)
    lines += _hints(refusal, server, opened)
    if refusal.status in _NO_ANSWER and retry:
        lines.append(f"to try again without doing it twice, add {' '.join(retry)} to the command")
    complain(f"{head}: {message}" if message else head, *lines)


def _message(refusal: Refusal) -> str:
    # grpc's own account of a failed connection has the addresses and errors of every attempt.
    if refusal.status is grpc.StatusCode.UNAVAILABLE and not refusal.reason:
        found = re.search(r"(?:Failed to connect to remote host: )+(?:connect: )?(.*)", refusal.message)
        return found[1] if found else refusal.message
    return refusal.message


def _violation(
    path: str, problem: str, place: Callable[[str], str] | None, options: Mapping[str, str]
) -> str:
    if place is not None and (at := place(path)):
        return f"{at}: {path}: {problem}"
    inner = re.sub(r"^(grant|account|subscription)\.", "", path)
    option = options.get(re.split(r"[.\[]", inner, maxsplit=1)[0], "")
    if not option:
        return f"{path}: {problem}" if path else problem
    item = re.search(r'\["(.*)"\]', inner)
    return f"{option}{f' {item[1]}' if item else ''}: {problem}"


def _hints(refusal: Refusal, server: str, opened: grpc.Channel | None) -> Iterator[str]:
    status = refusal.status
    if status is grpc.StatusCode.UNAVAILABLE and not refusal.reason:
        yield f"is a server running at {server}? `creditd dev` starts one; `creditd context list` shows others"
    elif status is grpc.StatusCode.UNAVAILABLE:
        yield "a store of the server is away for now; what became of the call is unknown"
    elif status is grpc.StatusCode.DEADLINE_EXCEEDED:
        yield f"{server} gave no answer in time; what became of the call is unknown"
    elif status is grpc.StatusCode.UNIMPLEMENTED and refusal.reason:
        yield "the API declares it and a later release serves it; CHANGELOG.md lists under «Not yet» what is missing"
    elif status is grpc.StatusCode.UNIMPLEMENTED:
        yield f"is {server} a creditd server, and as new as this command?"
    elif status is grpc.StatusCode.UNAUTHENTICATED:
        yield "set CREDITD_API_KEY, or give the context a key: `creditd context add NAME ... --replace`"
    elif refusal.reason == "IDEMPOTENCY_KEY_REUSED":
        yield "to try the first request again, repeat it exactly; for another one leave the key out, or take a new one"
        yield "a relative time such as --expires 30d is another instant each time: repeat the instant of the first try"
    elif refusal.reason == "VERSION_MISMATCH":
        yield "somebody else changed it meanwhile; look at it and try again"
    elif refusal.retry_after_s:
        yield f"the server is overloaded; try again in {refusal.retry_after_s:g} s"
    if status is grpc.StatusCode.NOT_FOUND:
        yield from _not_found(refusal, opened)


def _not_found(refusal: Refusal, opened: grpc.Channel | None) -> Iterator[str]:
    kind, key = refusal.metadata.get("kind", ""), refusal.metadata.get("key", "")
    near = get_close_matches(key, suggest.known(opened, kind, key), n=3, cutoff=0.6) if opened and key else []
    if near:
        yield f"did you mean {' or '.join(near)}?"
    if kind == "account":
        yield f"`creditd account put {key}` creates it, `creditd account list` shows what is there"
    elif kind in {"feature", "credit", "plan"}:
        yield "`creditd catalog show` has the catalog in force"
    elif kind == "grant":
        yield "`creditd grant list ACCOUNT --all` shows the account's grants"
    elif kind == "catalog version":
        yield "`creditd catalog versions` shows them all"
