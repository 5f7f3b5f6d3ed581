"""What every command that talks to a server shares: which server, the channel to it, and how its errors are shown."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from creditd.cli import completion, environment
from creditd.cli.context_file import ContextError, check_key, load, target_of
from creditd.cli.output import ExitCode, fail

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
TIMEOUT_SECONDS: Final = 60.0

_MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Server; https://host for TLS. Else CREDITD_ADDRESS, the context, or 127.0.0.1:50051.",
        show_default=False,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Server by the name that `creditd context add` gave it; else the current one.",
        show_default=False,
        autocompletion=completion.contexts,
    ),
]
Account = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="Account id.", autocompletion=completion.accounts)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Server:
    """Which server a command talks to, and what it shows to it."""

    address: str
    context: str = ""
    ca_file: str = ""
    api_key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.address} (context {self.context})" if self.context else self.address


def chosen_server(address: str | None, context: str | None) -> Server:
    """The server of --address, CREDITD_ADDRESS, --context, the current context, or the default, in this order.

    An address beside a context that was asked for is refused: one of the two would be ignored in silence.
    """
    try:
        return server_of(address, context)
    except ContextError as error:
        raise fail(str(error)) from None


def server_of(address: str | None, context: str | None) -> Server:
    """As `chosen_server`, and raises ContextError."""
    given = address or environment.variable(environment.ADDRESS)
    if given and context:
        what = "--address" if address else environment.ADDRESS
        raise ContextError(f"{what} says {given} and --context says {context}; leave one of them out")
    own_key = environment.variable(environment.API_KEY)
    if given:
        target_of(given)
        check_key(own_key)
        return Server(given, api_key=own_key)
    contexts = load(environment.context_file())
    name = context or contexts.current
    if not name:
        return Server(DEFAULT_ADDRESS, api_key=own_key)
    found = contexts.get(name)
    try:
        key = found.key(environment.variable) or own_key
    except ContextError as error:
        raise ContextError(f"context {name!r}: {error}") from None
    return Server(found.address, name, found.ca_file, key)


def channel(server: Server | str) -> grpc.Channel:
    """A channel that shows the server's API key with every call."""
    server = server if isinstance(server, Server) else Server(server)
    options = [
        ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    ]
    target, tls = target_of(server.address)
    if tls:
        opened = grpc.secure_channel(target, _credentials(server), options)
    else:
        opened = grpc.insecure_channel(target, options)
    return grpc.intercept_channel(opened, _ShowKey(server.api_key)) if server.api_key else opened


def aio_channel(server: Server | str) -> grpc.aio.Channel:
    """An asynchronous channel, as `channel`; it comes back soon after the server does."""
    server = server if isinstance(server, Server) else Server(server)
    options = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    interceptors: list[Any] = [_ShowKeyAio(server.api_key)] if server.api_key else []
    target, tls = target_of(server.address)
    if tls:
        return grpc.aio.secure_channel(target, _credentials(server), options, interceptors=interceptors)
    return grpc.aio.insecure_channel(target, options, interceptors=interceptors)


def _credentials(server: Server) -> grpc.ChannelCredentials:
    if not server.ca_file:
        return grpc.ssl_channel_credentials()
    try:
        return grpc.ssl_channel_credentials(Path(server.ca_file).expanduser().read_bytes())
    except OSError as error:
        raise ContextError(f"cannot read the CA certificates {server.ca_file}: {error.strerror}") from None


class _CallDetails(
    namedtuple(  # noqa: PYI024  # a NamedTuple can't have the second base
        "_CallDetails", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")
    ),
    grpc.ClientCallDetails,
):
    """What an interceptor hands on; grpc has no public class for it."""


class _ShowKey(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the API key to every call."""

    def __init__(self, key: str) -> None:
        self._header = ("authorization", f"Bearer {key}")

    def _keyed(self, details: Any) -> _CallDetails:
        metadata = [*(details.metadata or ()), self._header]
        return _CallDetails(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._keyed(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._keyed(client_call_details), request)


class _ShowKeyAio(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the API key to every asynchronous call."""

    def __init__(self, key: str) -> None:
        self._header = ("authorization", f"Bearer {key}")

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        metadata = [*(client_call_details.metadata or ()), self._header]
        return await continuation(client_call_details._replace(metadata=metadata), request)


@contextmanager
def connected(
    address: str | None,
    context: str | None,
    *,
    as_json: bool = False,
    place: Callable[[str], str] | None = None,
    named: Mapping[str, str] | None = None,
    retry: Sequence[str] = (),
) -> Iterator[grpc.Channel]:
    """A channel to the chosen server; an error of a call is shown, and ends the command with its exit code.

    Args:
        address: of --address.
        context: of --context.
        as_json: errors are JSON on stderr.
        place: turns a violation's field into where it stands in the caller's file, as `catalog.yaml:3:5`.
        named: what fields of the request are called on this command line, where that differs from others.
        retry: what to add to the same command to try again, when there was no answer.
    """
    try:
        server = server_of(address, context)
        opened = channel(server)
    except ContextError as error:
        raise fail(str(error)) from None
    with (
        opened,
        showing_errors(server, as_json=as_json, place=place, named=named, retry=retry, opened=opened),
    ):
        yield opened


@contextmanager
def showing_errors(
    server: Server | str,
    *,
    as_json: bool = False,
    place: Callable[[str], str] | None = None,
    named: Mapping[str, str] | None = None,
    retry: Sequence[str] = (),
    opened: grpc.Channel | None = None,
) -> Iterator[None]:
    """Shows the error of a call and ends the command; for the arguments see `connected`.

    Over `opened`, if given, near names are looked for.
    """
    try:
        yield
    except grpc.RpcError as error:
        # Here and not above: commands that go well don't wait for it.
        from creditd.cli import refusals

        refusal = refusals.refusal_of(error)
        if as_json:
            refusals.print_json(refusal)
        else:
            refusals.explain(
                refusal, server=str(server), place=place, named=named or {}, retry=retry, opened=opened
            )
        raise typer.Exit(refusal.exit_code) from None


__all__ = [
    "DEFAULT_ADDRESS",
    "TIMEOUT_SECONDS",
    "Account",
    "Address",
    "AsJson",
    "Context",
    "ExitCode",
    "Server",
    "aio_channel",
    "channel",
    "chosen_server",
    "connected",
    "fail",
    "showing_errors",
]
