"""Logging: one line per event, as JSON for machines or as text for a terminal, and no secrets in either.

Modules log with ``logging.getLogger(__name__)`` and put the variables of an event into ``extra``; in JSON
they become fields. INFO tells of starts, stops and changes of state, never of single calls.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO, TypeAlias

import orjson

LogFormat: TypeAlias = Literal["json", "text"]

MASK = "***"
# The name may be empty; the password ends at the last @ of the authority, lest half of one with an @
# in it be shown.
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/?#:@]*):[^\s/?#]*@")
_CREDENTIAL = r"(?i:password|passwd|pwd|secret|api[_-]?key|access[_-]?token)"
_NAMED_SECRET = re.compile(rf"""({_CREDENTIAL}["']?\s*[=:]\s*["']?)[^\s&"',;}}]+""")
_ENDS_SECRET = re.compile(rf"{_CREDENTIAL}$")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def mask_secrets(text: str) -> str:
    """Return the text without the passwords of URLs, and values named password, secret, API key or token.

    The user and host of a URL stay.
    """
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _NAMED_SECRET.sub(rf"\1{MASK}", text)
    return _AUTHORIZATION.sub(rf"\1 {MASK}", text)


def configure(level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send what the whole process logs to the stream (default: stderr), replacing what was set up before.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        log_format: one JSON object a line, or text.
        stream: where to write.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for present in root.handlers[:]:
        root.removeHandler(present)
    root.addHandler(handler)
    root.setLevel(level)
    # Others' INFO is about their connections and selectors, not about events of this service.
    for noisy in ("asyncio", "grpc", "h2corn"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class JsonFormatter(logging.Formatter):
    """One JSON object: time (RFC 3339, UTC), level, logger, event, extras, and an error's trace."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without secrets."""
        fields: dict[str, object] = {
            "time": _instant(record),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        # An extra never replaces one of the fields above.
        fields |= {name: value for name, value in _extras(record).items() if name not in fields}
        if trace := _trace(self, record):
            fields["trace"] = trace
        return _json(_masked(fields))


class TextFormatter(logging.Formatter):
    """Time, level and message, the extras as name=value, and an error's trace on lines below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text, without secrets."""
        extras = "".join(f"  {name}={value}" for name, value in _extras(record).items())
        # What callers sent can't pass for a line of its own.
        event = f"{record.getMessage()}{extras}".replace("\r", "\\r").replace("\n", "\\n")
        text = f"{_instant(record)} {record.levelname:<7} {event}"
        if trace := _trace(self, record):
            text += f"\n{trace}"
        return mask_secrets(text)


def _json(fields: object) -> str:
    try:
        return orjson.dumps(fields, default=_described, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()
    except TypeError:  # numbers beyond 64 bits, and text that UTF-8 can't hold
        return json.dumps(fields, default=_described)


def _described(value: object) -> str:
    return mask_secrets(str(value))


def _instant(record: logging.LogRecord) -> str:
    instant = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return instant.replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _masked(value: object, name: str = "") -> object:
    """Return a value without secrets, wherever in it they are; one whose name says secret is not shown."""
    if isinstance(value, dict):
        return {str(key): _masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, name) for item in value]
    if isinstance(value, str):
        return MASK if _ENDS_SECRET.search(name) else mask_secrets(value)
    return value
