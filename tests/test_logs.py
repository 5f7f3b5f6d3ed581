"""Logging: one JSON object a line, text for terminals, and no secrets in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from creditd.logs import LogFormat, configure_logging, mask_secrets

log = logging.getLogger("creditd.test")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = {name: logging.getLogger(name).level for name in ("asyncio", "grpc", "h2corn")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in others.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def json_lines() -> io.StringIO:
    return configured("json")


def configured(log_format: LogFormat, level: str = "INFO") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(log_format, level, stream)
    return stream


def only_event(stream: io.StringIO) -> dict[str, Any]:
    [line] = stream.getvalue().splitlines()
    event = json.loads(line)
    assert isinstance(event, dict)
    return event


def test_event_is_one_json_line_with_its_extras(json_lines: io.StringIO) -> None:
    log.info("listening on %s", "127.0.0.1:1", extra={"transport": "asgi", "workers": 2})

    event = only_event(json_lines)
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "INFO",
        "logger": "creditd.test",
        "event": "listening on 127.0.0.1:1",
        "transport": "asgi",
        "workers": 2,
    }


def test_line_break_does_not_make_another_event(json_lines: io.StringIO) -> None:
    log.info('one\n{"event": "forged"}', extra={"note": "two\nthree"})

    assert only_event(json_lines)["note"] == "two\nthree"


def test_error_has_its_trace(json_lines: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")

    assert "ValueError: broken" in only_event(json_lines)["trace"]


def test_extra_does_not_replace_a_field(json_lines: io.StringIO) -> None:
    log.info("stopped", extra={"level": "fake", "event": "fake"})

    assert (only_event(json_lines)["level"], only_event(json_lines)["event"]) == ("INFO", "stopped")


def test_value_that_json_has_no_type_for_is_written_as_text(json_lines: io.StringIO) -> None:
    log.info("odd", extra={"odd": {1: {"redis://:hunter2@cache"}}})

    assert only_event(json_lines)["odd"] == {"1": "{'redis://:***@cache'}"}


def test_text_is_one_readable_line() -> None:
    stream = configured("text")
    log.info("ready", extra={"port": 1})

    assert stream.getvalue().endswith(" INFO    ready  port=1\n")


def test_quiet_below_the_level_and_about_others_connections() -> None:
    stream = configured("json")
    log.debug("detail")
    logging.getLogger("asyncio").info("Using selector")

    assert stream.getvalue() == ""


def test_configuring_again_replaces() -> None:
    first, second = configured("json"), configured("text")
    log.info("once")

    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_is_logged_wherever_it_is(log_format: LogFormat) -> None:
    stream = configured(log_format)
    dsn = "postgresql://ledger:hunter2@db.example/creditd"
    try:
        raise ConnectionError(f"cannot connect to {dsn}")
    except ConnectionError:
        log.exception(
            "down: %s", dsn, extra={"dsn": dsn, "nested": {"urls": [dsn], "pg_password": "hunter2"}}
        )

    assert "hunter2" not in stream.getvalue()
    assert "postgresql://ledger:***@db.example/creditd" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("postgresql://u:p@ss@h/db", "postgresql://u:***@h/db"),
        ("redis://a:b@c,redis://d:e@f", "redis://a:***@c,redis://d:***@f"),
        (
            "postgresql://u@h/db?password=pw&sslmode=require",
            "postgresql://u@h/db?password=***&sslmode=require",
        ),
        ("host=h password=pw user=u", "host=h password=*** user=u"),
        ('{"api_key": "pw", "id": 1}', '{"api_key": "***", "id": 1}'),
        ("authorization: Bearer abcdef.123456", "authorization: Bearer ***"),
        ("account a:b@c has 10:30", "account a:b@c has 10:30"),
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("idempotency_key=k1", "idempotency_key=k1"),
    ],
)
def test_masking(text: str, masked: str) -> None:
    assert masked == mask_secrets(text)
