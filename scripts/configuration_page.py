"""Makes docs/configuration.md out of the settings of src/creditd/config.py and a head that is written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

from pydantic import SecretStr

from creditd.config import ConfigError, Settings, load_settings, variable

HEAD: Final = Path(__file__).with_name("configuration_head.md")

# One for each setting; together they are valid.
EXAMPLES: Final = {
    "postgres_dsn": "postgresql://creditd:secret@db.internal:5432/creditd?sslmode=require",
    "redis_url": "rediss://:secret@cache.internal:6379/0",
    "listen": "0.0.0.0:50051",
    "transport": "grpcio",
    "max_message_bytes": "1048576",
    "request_timeout_s": "2.5",
    "drain_grace_s": "30",
    "test_clocks": "true",
    "log_level": "WARNING",
    "log_format": "text",
    "pg_pool_min": "2",
    "pg_pool_max": "16",
    "pg_timeout_s": "3",
    "group_commit_max": "256",
    "checkpoint_every": "5000",
    "catalog_poll_s": "1",
    "redis_timeout_s": "0.25",
    "idempotency_hot_ttl_s": "600",
    "reaper_interval_s": "0.5",
    "reaper_age_s": "3",
    "policy_cache_accounts": "20000",
}

_MASKED: Final = "**Secret**: creditd shows and logs it without its password."


def configuration_page() -> str:
    """The page.

    Raises:
        ValueError: a setting has no example, or an example is of no setting.
        ConfigError: an example is not valid.
    """
    if EXAMPLES.keys() != Settings.model_fields.keys():
        differing = sorted(EXAMPLES.keys() ^ Settings.model_fields.keys())
        raise ValueError(f"EXAMPLES and the settings differ: {', '.join(differing)}")
    load_settings({variable(name): example for name, example in EXAMPLES.items()})
    return HEAD.read_text().rstrip() + "\n\n" + "\n".join(_table()) + "\n"


def _table() -> Iterator[str]:
    yield "| variable | default | value | meaning | example |"
    yield "| --- | --- | --- | --- | --- |"
    for name, field in Settings.model_fields.items():
        meaning = (field.description or "").rstrip(".")
        secret = f". {_MASKED}" if _is_secret(field.annotation) else ""
        cells = (
            f"`{variable(name)}`",
            _default(field.default),
            _expected(name),
            f"{meaning[0].upper()}{meaning[1:]}{secret}",
            f"`{EXAMPLES[name]}`",
        )
        yield f"| {' | '.join(cells)} |"


def _is_secret(annotation: object) -> bool:
    inner = get_args(annotation)
    return annotation is SecretStr or any(_is_secret(each) for each in inner)


def _default(value: object) -> str:
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _expected(name: str) -> str:
    """What a value must be, in the words in which a wrong one is refused."""
    try:
        load_settings({variable(name): "no such value"})
    except ConfigError as error:
        expected = error.problems[0].message.partition("expected ")[2]
        return expected.replace("|", "\\|")
    raise ValueError(f"{variable(name)} takes anything: say in the settings what it may be")
