"""`creditd context`: servers by name, kept in a file of the user's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from creditd.cli import completion, environment
from creditd.cli.client import DEFAULT_ADDRESS, AsJson
from creditd.cli.context_file import (
    Context,
    ContextError,
    Contexts,
    check_key,
    check_name,
    is_exposed,
    load,
    save,
    target_of,
)
from creditd.cli.output import Column, facts, fail, note, show, styled, table, warn, write

_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")
_MASK = "********"

app = typer.Typer(
    name="context",
    help="""Servers by name, and which one commands talk to.

Example:
  creditd context add local 127.0.0.1:50051
""",
    no_args_is_help=True,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a context.", autocompletion=completion.contexts)
]
OptionalName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Name of a context; the current one by default.",
        autocompletion=completion.contexts,
        show_default=False,
    ),
]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name for it.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="host:port, or https://host for TLS.")],
    *,
    ca_file: Annotated[
        str, typer.Option(metavar="FILE", help="CA certificates to trust, as PEM; else those of the system.")
    ] = "",
    api_key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="The API key is in this environment variable.")
    ] = "",
    api_key_file: Annotated[str, typer.Option(metavar="FILE", help="The API key is in this file.")] = "",
    api_key_stdin: Annotated[
        bool,
        typer.Option("--api-key-stdin", help="Read the API key from stdin and keep it with the context."),
    ] = False,
    use: Annotated[bool, typer.Option("--use", help="Make it the current one.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace one of this name.")] = False,
) -> None:
    """Add a server. The first one becomes the current one.

    Keys are sent as `authorization: Bearer ...`, and are never given as an
    argument, which others could see.

    Example:
      creditd context add prod https://creditd.example.com --api-key-env KEY
    """
    with _telling_errors():
        check_name(name)
        _target, tls = target_of(address)
        if sum(map(bool, (api_key_env, api_key_file, api_key_stdin))) > 1:
            raise ContextError("--api-key-env, --api-key-file and --api-key-stdin exclude each other")
        if ca_file and not tls:
            raise ContextError(f"--ca-file is for TLS, and {address} is not https://")
        contexts = load(environment.context_file())
        if name in contexts.known and not replace:
            raise ContextError(f"there is a context {name!r} already; --replace replaces it")
        key = _read_key() if api_key_stdin else ""
        # Commands run in other folders than this one.
        added = Context(address, _absolute(ca_file), key, api_key_env, _absolute(api_key_file))
        contexts = contexts.put(name, added)
        contexts = contexts.using(name) if use else contexts
        save(environment.context_file(), contexts)
    current = ", now the current one" if contexts.current == name else ""
    show(f"context {name}: {address}{current}")
    if (
        (key or api_key_env or api_key_file)
        and not tls
        and not address.removeprefix("http://").startswith(_LOOPBACK)
    ):
        warn(f"the API key goes to {address} in plain text; use https:// when the server has TLS")


@app.command("use")
def use(name: Name) -> None:
    """Make a context the current one: commands talk to it from now on.

    Example:
      creditd context use prod
    """
    with _telling_errors():
        contexts = load(environment.context_file()).using(name)
        save(environment.context_file(), contexts)
    show(f"context {name}: {contexts.get(name).address}, now the current one")
    _say_what_wins()


@app.command("list")
def list_command(*, as_json: AsJson = False) -> None:
    """List the contexts; a star marks the current one. With --json one a line, without keys.

    Example:
      creditd context list
    """
    contexts = _load()
    if as_json:
        write("".join(f"{_json(name, contexts)}\n" for name in sorted(contexts.known)))
        return
    if not contexts.known:
        note("there are no contexts yet; `creditd context add NAME HOST:PORT` makes one")
    else:
        rows = [
            (
                styled("*" if name == contexts.current else "", "bold green"),
                styled(name, "bold" if name == contexts.current else ""),
                context.address,
                _key_text(context),
            )
            for name, context in sorted(contexts.known.items())
        ]
        show(table(("", Column("context", style="cyan"), "address", "API key"), rows))
    _say_what_wins()


@app.command("show")
def show_command(name: OptionalName = "", *, as_json: AsJson = False) -> None:
    """Show a context; its API key is masked.

    Example:
      creditd context show prod
    """
    contexts = _load()
    with _telling_errors():
        chosen = name or contexts.current
        if not chosen:
            raise ContextError(
                f"there is no current context, so commands talk to {DEFAULT_ADDRESS}; `creditd context use` chooses one"
            )
        found = contexts.get(chosen)
    if as_json:
        write(_json(chosen, contexts) + "\n")
        return
    rows: list[tuple[str, str | Text]] = [("address", found.address)]
    if found.ca_file:
        rows.append(("CA file", found.ca_file))
    rows.append(("API key", _key_text(found)))
    rows.append(("kept in", str(environment.context_file())))
    head = Text.assemble(
        styled(chosen, "bold cyan"), styled("  current" if chosen == contexts.current else "", "green")
    )
    show(head, facts(rows))
    _say_what_wins()


@app.command("remove")
def remove(name: Name) -> None:
    """Remove a context. The server is not touched.

    Example:
      creditd context remove prod
    """
    with _telling_errors():
        contexts = load(environment.context_file()).without(name)
        save(environment.context_file(), contexts)
    current = "" if contexts.current else f"; none is current now, so commands talk to {DEFAULT_ADDRESS}"
    show(f"context {name} is removed{current}")


@contextmanager
def _telling_errors() -> Iterator[None]:
    try:
        yield
    except ContextError as error:
        raise fail(str(error)) from None


def _load() -> Contexts:
    with _telling_errors():
        path = environment.context_file()
        contexts = load(path)
    if is_exposed(path, contexts):
        warn(f"others can read the API keys in {path}; `chmod 600 {path}` keeps them from it")
    return contexts


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _read_key() -> str:
    """The API key from stdin; asked for without an echo on a terminal."""
    key = (getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        raise ContextError("there is no API key on stdin")
    check_key(key)
    return key


def _key_text(context: Context) -> str:
    if context.api_key_env:
        return f"in the variable {context.api_key_env}"
    if context.api_key_file:
        return f"in {context.api_key_file}"
    return _MASK if context.api_key else "none"


def _json(name: str, contexts: Contexts) -> str:
    context = contexts.get(name)
    document = {
        "name": name,
        "current": name == contexts.current,
        "address": context.address,
        "ca_file": context.ca_file,
        "api_key": _MASK if context.api_key else "",
        "api_key_env": context.api_key_env,
        "api_key_file": context.api_key_file,
    }
    return json.dumps(document, ensure_ascii=False)


def _say_what_wins() -> None:
    if address := environment.variable(environment.ADDRESS):
        note(f"{environment.ADDRESS} is set: commands talk to {address}, whatever the context")
