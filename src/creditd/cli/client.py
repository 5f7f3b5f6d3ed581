"""What every command that talks to a server shares: the channel, how errors are shown, the exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any

import grpc
import typer
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from rich.console import Console

DEFAULT_ADDRESS = "127.0.0.1:50051"
TIMEOUT_SECONDS = 60.0

_MESSAGE_BYTES_MAX = 64 * 1024 * 1024

Address = Annotated[
    str,
    typer.Option(
        "--address", envvar="CREDITD_ADDRESS", help="Server, as host:port; https://host:port for TLS."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

errors = Console(stderr=True, highlight=False, soft_wrap=True)


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    DENIED = 1  # a denial, or another negative answer
    USAGE = 2  # the command line or a file is wrong
    REFUSED = 3  # the server refused the request
    UNAVAILABLE = 4  # no answer: try again, with the same idempotency key if there is one


_NO_ANSWER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


def channel(address: str) -> grpc.Channel:
    """A channel to `host:port`, or with TLS to `https://host:port`."""
    options = [
        ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    ]
    if address.startswith("https://"):
        target = address.removeprefix("https://")
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(address.removeprefix("http://"), options)


def aio_channel(address: str) -> grpc.aio.Channel:
    """An asynchronous channel, as `channel`; it comes back soon after the server does."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if address.startswith("https://"):
        target = address.removeprefix("https://")
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.aio.insecure_channel(address.removeprefix("http://"), options)


@dataclass(frozen=True)
class Refusal:
    """An RPC error taken apart: its status, message, reason, and the fields it complains of."""

    status: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that got this error."""
        return ExitCode.UNAVAILABLE if self.status in _NO_ANSWER else ExitCode.REFUSED


def refusal_of(error: grpc.RpcError) -> Refusal:
    """Takes an error of a call apart, with the details of google.rpc.Status if they are there."""
    call: Any = error
    reason, metadata, violations = "", {}, []
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # details that contradict the status: the status itself counts
        status = None
    for detail in status.details if status is not None else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations += [(item.field, item.description) for item in bad_request.field_violations]
    return Refusal(call.code(), call.details() or "", reason, metadata, tuple(violations))


@contextmanager
def showing_errors(address: str, place: Callable[[str], str] | None = None) -> Iterator[None]:
    """Shows the error of a call and ends the command with its exit code.

    `place` turns a violation's field into where it stands in the caller's file, as `catalog.yaml:3:5`.
    """
    try:
        yield
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        show_refusal(refusal, address, place)
        raise typer.Exit(refusal.exit_code) from None


def show_refusal(refusal: Refusal, address: str, place: Callable[[str], str] | None = None) -> None:
    """Prints an error: what, why, and every violation, to stderr."""
    reason = f" ({refusal.reason})" if refusal.reason else ""
    if refusal.violations:
        errors.print(f"[bold red]error:[/] {refusal.status.name}{reason}")
    else:
        errors.print(f"[bold red]error:[/] {refusal.status.name}{reason}: ", end="")
        errors.print(refusal.message, markup=False)
    for path, problem in refusal.violations:
        at = place(path) if place else ""
        errors.print(f"  {at}{': ' if at else ''}{path}: {problem}", markup=False)
    if refusal.status is grpc.StatusCode.UNAVAILABLE:
        errors.print(f"  is a server running at {address}? `creditd dev` starts one", markup=False)


def fail(message: str, code: ExitCode = ExitCode.USAGE) -> typer.Exit:
    """Prints why a command cannot go on; raise what it returns."""
    errors.print("[bold red]error:[/] ", end="")
    errors.print(message, markup=False)
    return typer.Exit(code)
