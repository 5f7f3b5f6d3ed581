"""Logs: one line per event, its variables as fields, and no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from creditd.logs import LogFormat, configure, mask_secrets

log = logging.getLogger("creditd.test")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    noisy = {name: logging.getLogger(name).level for name in ("asyncio", "grpc", "h2corn")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in noisy.items():
        logging.getLogger(name).setLevel(before)


def written(log_format: LogFormat, event: Callable[[], object], level: str = "INFO") -> str:
    stream = io.StringIO()
    configure(level, log_format, stream)
    event()
    return stream.getvalue()


def fields(event: Callable[[], object], level: str = "INFO") -> dict[str, Any]:
    text = written("json", event, level)
    assert text.count("\n") == 1
    return json.loads(text)


def fail() -> None:
    try:
        raise ValueError("could not connect to redis://user:hunter2@host")
    except ValueError:
        log.exception("failed", extra={"attempt": 2})


def test_json_has_the_event_and_its_extras() -> None:
    record = fields(
        lambda: log.info("%s started", "server", extra={"port": 1, "level": "mine", "none": None})
    )
    time = record.pop("time")
    assert time.endswith("Z")
    assert record == {
        "level": "INFO",
        "logger": "creditd.test",
        "event": "server started",
        "port": 1,
        "none": None,
    }


def test_json_is_one_line_whatever_happened() -> None:
    assert fields(lambda: log.info("two\nlines", extra={"more": "a\nb"}))["event"] == "two\nlines"
    record = fields(fail)
    assert record["attempt"] == 2
    assert "Traceback" in record["trace"]
    assert "redis://user:***@host" in record["trace"]


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (2**80, 2**80),
        ("\ud800", "\ud800"),
        (float("inf"), None),
        ({1}, "{1}"),
        ({1: ("a", "redis://u:hunter2@h")}, {"1": ["a", "redis://u:***@h"]}),
        (ValueError("redis://u:hunter2@h"), "redis://u:***@h"),
        ({"password": "hunter2", "in": {"api_key": "x"}}, {"password": "***", "in": {"api_key": "***"}}),
    ],
)
def test_any_value_can_be_logged(value: object, logged: object) -> None:
    assert fields(lambda: log.info("event", extra={"value": value}))["value"] == logged


def test_text_is_for_people() -> None:
    line = written("text", lambda: log.warning("slow", extra={"wait_ms": 12}))
    assert line.endswith("Z WARNING slow  wait_ms=12\n")


def test_text_cannot_be_made_to_look_like_another_line() -> None:
    text = written("text", lambda: log.info("hello\n2026 ERROR forged", extra={"name_": "a\r\nb"}))
    assert text.count("\n") == 1
    assert text.endswith("hello\\n2026 ERROR forged  name_=a\\r\\nb\n")


def test_text_has_the_trace_below() -> None:
    text = written("text", fail)
    assert "failed  attempt=2\nTraceback" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_is_logged_wherever_it_is(log_format: LogFormat) -> None:
    dsn = "postgresql://user:hunter2@host/db"
    extra = {"dsn": dsn, "nested": {"urls": [dsn], "pg_password": "hunter2"}}
    text = written(log_format, lambda: log.error("down: %s", dsn, extra=extra))
    assert text.count("postgresql://user:***@host/db") == 3
    assert "hunter2" not in text


def test_levels_are_kept_and_others_are_quiet() -> None:
    def events() -> None:
        log.info("info")
        log.error("error")
        logging.getLogger("asyncio").info("Using selector")

    assert written("text", events, "ERROR").count("\n") == 1
    assert written("text", events, "INFO").count("\n") == 2
    assert "selector" not in written("text", events, "DEBUG")


def test_configuring_again_replaces() -> None:
    first = io.StringIO()
    configure("INFO", "text", first)
    assert written("text", lambda: log.info("once")).count("once") == 1
    assert first.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://user:hunter2@h:5432/db", "postgresql://user:***@h:5432/db"),
        ("redis://:hunter2@h", "redis://:***@h"),
        ("redis://u:hun:ter@2@h x@y", "redis://u:***@h x@y"),
        ("redis://h:6379/0 and redis://u:hunter2@h", "redis://h:6379/0 and redis://u:***@h"),
        ("host=h password=hunter2 dbname=d", "host=h password=*** dbname=d"),
        ("?password=hunter2&x=1", "?password=***&x=1"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer ***"),
        ("redis://a:b@c,redis://d:e@f", "redis://a:***@c,redis://d:***@f"),
        ('{"api_key": "hunter2", "id": 1}', '{"api_key": "***", "id": 1}'),
        ("postgresql://user@h/db", "postgresql://user@h/db"),
        ("account a:b@c has 10:30", "account a:b@c has 10:30"),
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("idempotency_key=k1", "idempotency_key=k1"),
        ("10@20 at http://h:80/a", "10@20 at http://h:80/a"),
    ],
)
def test_secrets_in_text_are_masked(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked
