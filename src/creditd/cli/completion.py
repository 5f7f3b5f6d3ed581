"""What the shell completes: contexts from their file, names from the server; in silence, whatever is wrong.

The functions are for `autocompletion=` of arguments and options. A completion that complains would land in the
middle of somebody's command line, so nothing here raises and a server has a second to answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from creditd.cli import environment
from creditd.cli.context_file import ContextError, load

if TYPE_CHECKING:
    import grpc


def contexts(incomplete: str) -> list[str]:
    """Names of contexts."""
    try:
        known = load(environment.context_file()).known
    except ContextError:
        return []
    return [name for name in sorted(known) if name.startswith(incomplete)]


def accounts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of accounts."""
    from creditd.cli import suggest

    return _asked(ctx, incomplete, lambda channel: suggest.accounts(channel, incomplete))


def features(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of features."""
    return _from_catalog(ctx, incomplete, "feature")


def credit_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of credit types."""
    return _from_catalog(ctx, incomplete, "credit")


def plans(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of plans."""
    return _from_catalog(ctx, incomplete, "plan")


def subscriptions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the subscriptions of the account before."""
    from creditd.cli import suggest

    account = str(ctx.params.get("account") or "")
    return _asked(ctx, incomplete, lambda channel: suggest.subscriptions(channel, account))


def grants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the active grants of the account before."""
    from creditd.cli import suggest

    account = str(ctx.params.get("account") or "")
    return _asked(ctx, incomplete, lambda channel: suggest.grants(channel, account))


def _from_catalog(ctx: typer.Context, incomplete: str, kind: str) -> list[str]:
    from creditd.cli import suggest

    return _asked(ctx, incomplete, lambda channel: suggest.in_catalog(channel, kind))


def _asked(ctx: typer.Context, incomplete: str, ask: Callable[[grpc.Channel], list[str]]) -> list[str]:
    """What the server of the command line so far answers."""
    import grpc

    from creditd.cli import client

    try:
        server = client.server_of(ctx.params.get("address"), ctx.params.get("context"))
        with client.channel(server) as channel:
            return [name for name in ask(channel) if name.startswith(incomplete)]
    except (grpc.RpcError, ContextError, OSError, typer.Exit):
        return []
