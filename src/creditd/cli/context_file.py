"""The contexts file: servers by name, and which one is the current.

It is JSON, written whole and atomically, readable by its owner alone:

    {"current": "prod", "contexts": {"prod": {"address": "https://creditd.example.com", "api_key_env": "PROD_KEY"}}}
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from creditd.domain.near import did_you_mean

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+):(\d{1,5})")
_KEY_BYTES_MAX: Final = 8192


class ContextError(ValueError):
    """The contexts file, or a context in it, can't be used; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Context:
    """A server: its address, and at most one of three ways to its API key."""

    address: str
    ca_file: str = ""
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    api_key_file: str = ""

    def key(self, variable: Callable[[str], str]) -> str:
        """The API key, wherever it is kept; empty when the context has none. `variable` reads the environment.

        Raises:
            ContextError: the variable is not set, or the file can't be read or is empty.
        """
        if self.api_key_env:
            key = variable(self.api_key_env)
            if not key:
                raise ContextError(f"the API key is in the variable {self.api_key_env}, which is not set")
        elif self.api_key_file:
            try:
                with Path(self.api_key_file).expanduser().open("rb") as file:
                    key = file.read(_KEY_BYTES_MAX + 1).decode("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no text"
                raise ContextError(f"cannot read the API key from {self.api_key_file}: {why}") from None
            if not key:
                raise ContextError(f"the API key should be in {self.api_key_file}, which is empty")
        else:
            key = self.api_key
        check_key(key)
        return key


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts by name, and the current one's name or ""."""

    current: str = ""
    known: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        """A context by name; ContextError names the near ones when there is none."""
        found = self.known.get(name)
        if found is None:
            hint = did_you_mean(name, self.known) or "; `creditd context list` shows all of them"
            if not self.known:
                hint = "; there are none yet: `creditd context add` makes one"
            raise ContextError(f"there is no context {name!r}{hint}")
        return found

    def put(self, name: str, context: Context) -> Contexts:
        """With a context added or replaced; the first one becomes the current one."""
        return Contexts(self.current or name, {**self.known, name: context})

    def without(self, name: str) -> Contexts:
        """With a context removed."""
        self.get(name)
        kept = {other: context for other, context in self.known.items() if other != name}
        return Contexts("" if self.current == name else self.current, kept)

    def using(self, name: str) -> Contexts:
        """With another current context."""
        self.get(name)
        return replace(self, current=name)


def check_name(name: str) -> None:
    """Raise ContextError when a context can't be called so."""
    if not _NAME.fullmatch(name):
        raise ContextError(
            f"{name!r} is no name for a context; expected up to 64 letters, digits, dots, dashes or underscores"
        )


def check_key(key: str) -> None:
    """Raise ContextError when a text can't be an API key, without showing it."""
    if len(key) > _KEY_BYTES_MAX or not (key.isascii() and key.isprintable()) or " " in key:
        raise ContextError("the API key is not printable ASCII without spaces, of at most 8,192 characters")


def target_of(address: str) -> tuple[str, bool]:
    """Take an address apart: what gRPC dials, and whether with TLS.

    `host:port`, `[v6]:port`, `http://host:port`, `https://host`, `https://host:port`, `unix:/path`.

    Raises:
        ContextError: it is none of these.
    """
    if address.startswith("unix:") and len(address) > len("unix:"):
        return address, False
    tls = address.startswith("https://")
    rest = address.removeprefix("https://").removeprefix("http://").removesuffix("/")
    if tls and re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+)", rest):
        rest += ":443"
    found = _HOST.fullmatch(rest)
    if found is None or not 0 < int(found[2]) <= 65535:
        raise ContextError(
            f"{address!r} is no address of a server; expected host:port, https://host:port or unix:/path"
        )
    return rest, tls


def load(path: Path) -> Contexts:
    """Read the contexts; no file, or an empty one, has none.

    Raises:
        ContextError: with the place in the file, and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ContextError(f"cannot read the contexts in {path}: {why}") from None
    if not text.strip():
        return Contexts()
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(f"{path}:{error.lineno}:{error.colno}", f"is no JSON: {error.msg}") from None
    except RecursionError:
        raise _broken(str(path), "is nested too deeply") from None
    return _contexts(document, str(path))


def save(path: Path, contexts: Contexts) -> None:
    """Replace the file as a whole, with mode 0600; a link to it stays a link.

    Raises:
        ContextError: it can't be written.
    """
    document = {
        "current": contexts.current,
        "contexts": {name: _as_document(context) for name, context in sorted(contexts.known.items())},
    }
    try:
        target = path.resolve()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made by mkstemp with mode 0600, in the same directory, so that the rename is atomic.
        descriptor, scratch = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            Path(scratch).replace(target)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ContextError(f"cannot write the contexts to {path}: {error.strerror}") from None


def is_exposed(path: Path, contexts: Contexts) -> bool:
    """Whether the file holds an API key and others than its owner may read it."""
    if not any(context.api_key for context in contexts.known.values()):
        return False
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def _as_document(context: Context) -> dict[str, str]:
    values = {item.name: getattr(context, item.name) for item in fields(context)}
    return {name: value for name, value in values.items() if value}


def _broken(where: str, problem: str) -> ContextError:
    return ContextError(f"{where} {problem}; correct it, or remove the file and add the contexts again")


def _contexts(document: Any, path: str) -> Contexts:
    if not isinstance(document, dict) or not isinstance(document.get("contexts"), dict):
        raise _broken(
            path, 'is not of the form {"current": "name", "contexts": {"name": {"address": "host:port"}}}'
        )
    current = document.get("current", "")
    known = {name: _context(name, item, path) for name, item in document["contexts"].items()}
    if not isinstance(current, str) or (current and current not in known):
        raise _broken(path, f"names a current context {current!r} that is not among its contexts")
    return Contexts(current, known)


def _context(name: str, item: Any, path: str) -> Context:
    where = f"{path}: context {name!r}"
    allowed = [each.name for each in fields(Context)]
    if not isinstance(item, dict) or not all(isinstance(value, str) for value in item.values()):
        raise _broken(where, f"is not an object of texts, with {', '.join(allowed)}")
    for key in item:
        if key not in allowed:
            raise _broken(where, f"has an unknown field {key!r}{did_you_mean(key, allowed)}")
    if sum(bool(item.get(key)) for key in ("api_key", "api_key_env", "api_key_file")) > 1:
        raise _broken(where, "has more than one of api_key, api_key_env and api_key_file")
    context = Context(**{"address": "", **item})
    try:
        check_name(name)
        target_of(context.address)
        check_key(context.api_key)
    except ContextError as error:
        raise _broken(where, f"is wrong: {error}") from None
    return context
