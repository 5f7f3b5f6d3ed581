"""Settings: defaults, every kind of bad value, unknown names, and secrets that stay secret."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from creditd.config import ConfigError, Problem, Settings, describe, load_settings, variable

PASSWORD = "hunter2"
NEEDED = {
    "CREDITD_POSTGRES_DSN": f"postgresql://ledger:{PASSWORD}@db.example:5432/creditd",
    "CREDITD_REDIS_URL": f"redis://:{PASSWORD}@cache.example:6379/0",
}


def problems_of(environ: Mapping[str, str], **overrides: object) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        load_settings(environ, **overrides)
    assert PASSWORD not in str(raised.value)
    assert all(str(problem) in str(raised.value) for problem in raised.value.problems)
    return raised.value.problems


def test_only_the_stores_must_be_set() -> None:
    settings = load_settings(NEEDED)

    assert NEEDED["CREDITD_POSTGRES_DSN"] == settings.postgres_dsn.get_secret_value()
    assert NEEDED["CREDITD_REDIS_URL"] == settings.redis_url.get_secret_value()
    required = {name for name, field in Settings.model_fields.items() if field.is_required()}
    assert required == {"postgres_dsn", "redis_url"}


def test_defaults() -> None:
    settings = load_settings(NEEDED)

    assert settings.model_dump(exclude={"postgres_dsn", "redis_url"}) == {
        "listen": "127.0.0.1:50051",
        "transport": "asgi",
        "max_message_bytes": 4_194_304,
        "drain_grace_s": 20.0,
        "test_clocks": False,
        "log_level": "INFO",
        "log_format": "json",
        "pg_pool_min": 2,
        "pg_pool_max": 10,
        "pg_timeout_s": 5.0,
        "group_commit_max": 512,
        "checkpoint_every": 1_000,
        "redis_timeout_s": 1.0,
        "hot_ttl_s": 0,
        "idempotency_hot_ttl_s": 600,
        "reaper_interval_s": 5.0,
        "reaper_age_s": 10.0,
        "policy_cache_accounts": 100_000,
    }


def test_every_default_is_one_that_could_be_set() -> None:
    defaults = {described.name: described.value for described in describe(load_settings(NEEDED))}

    assert load_settings(defaults | NEEDED) == load_settings(NEEDED)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("CREDITD_LISTEN", "[::]:50051", "listen", "[::]:50051"),
        ("CREDITD_LISTEN", "unix:/run/creditd.sock", "listen", "unix:/run/creditd.sock"),
        ("CREDITD_TRANSPORT", "grpcio", "transport", "grpcio"),
        ("CREDITD_TEST_CLOCKS", "true", "test_clocks", True),
        ("CREDITD_TEST_CLOCKS", "0", "test_clocks", False),
        ("CREDITD_LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("CREDITD_LOG_FORMAT", "text", "log_format", "text"),
        ("CREDITD_DRAIN_GRACE_S", "0.5", "drain_grace_s", 0.5),
        ("CREDITD_GROUP_COMMIT_MAX", "64", "group_commit_max", 64),
        ("CREDITD_GROUP_COMMIT_MAX", "", "group_commit_max", 512),  # empty is unset
    ],
)
def test_good_value_is_read(name: str, value: str, field: str, expected: object) -> None:
    assert expected == getattr(load_settings({**NEEDED, name: value}), field)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster", "rediss+cluster"])
def test_redis_schemes(scheme: str) -> None:
    url = f"{scheme}://cache.example:6379"

    assert url == load_settings({**NEEDED, "CREDITD_REDIS_URL": url}).redis_url.get_secret_value()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LISTEN", "localhost", "'localhost' is not valid; expected host:port or [v6]:port or unix:/path"),
        ("LISTEN", "localhost:70000", "'localhost:70000' is not valid; expected host:port or"),
        ("LISTEN", "::1:50051", "'::1:50051' is not valid; expected host:port or"),
        ("LISTEN", "unix:", "'unix:' is not valid; expected host:port or"),
        ("TRANSPORT", "rest", "'rest' is not valid; expected asgi or grpcio"),
        ("TEST_CLOCKS", "maybe", "'maybe' is not valid; expected true or false"),
        ("LOG_LEVEL", "loud", "'loud' is not valid; expected DEBUG or INFO or WARNING or ERROR"),
        ("LOG_FORMAT", "xml", "'xml' is not valid; expected json or text"),
        ("DRAIN_GRACE_S", "-1", "'-1' is not valid; expected a number of seconds from 0 to 600"),
        ("DRAIN_GRACE_S", "20s", "'20s' is not valid; expected a number of seconds from 0 to 600"),
        ("PG_TIMEOUT_S", "nan", "'nan' is not valid; expected a number of seconds from 0.01 to 600"),
        ("PG_TIMEOUT_S", "0", "'0' is not valid; expected a number of seconds from 0.01 to 600"),
        ("REDIS_TIMEOUT_S", "61", "'61' is not valid; expected a number of seconds from 0.01 to 60"),
        ("MAX_MESSAGE_BYTES", "4MB", "expected a whole number of bytes from 1024 to 67108864"),
        ("GROUP_COMMIT_MAX", "1.5", "'1.5' is not valid; expected a whole number from 1 to 10000"),
        ("GROUP_COMMIT_MAX", "0", "'0' is not valid; expected a whole number from 1 to 10000"),
        ("CHECKPOINT_EVERY", "9", "'9' is not valid; expected a whole number from 10 to 1000000"),
        ("HOT_TTL_S", "-1", "expected a whole number of seconds from 0 to 31536000"),
        ("IDEMPOTENCY_HOT_TTL_S", "0", "expected a whole number of seconds from 1 to 86400"),
        ("REAPER_INTERVAL_S", "inf", "'inf' is not valid; expected a number of seconds from 0.1 to 3600"),
        ("REAPER_AGE_S", "0", "'0' is not valid; expected a number of seconds from 0.5 to 3600"),
        ("POLICY_CACHE_ACCOUNTS", "0", "'0' is not valid; expected a whole number from 1 to 10000000"),
        ("PG_POOL_MIN", "-1", "'-1' is not valid; expected a whole number from 0 to 1000"),
        ("PG_POOL_MAX", "0", "'0' is not valid; expected a whole number from 1 to 1000"),
        ("PG_POOL_MIN", "11", "11 is more than CREDITD_PG_POOL_MAX, which is 10"),
    ],
)
def test_bad_value_is_named_with_what_was_expected(name: str, value: str, message: str) -> None:
    [problem] = problems_of({**NEEDED, f"CREDITD_{name}": value})

    named, _, said = str(problem).partition(": ")
    assert f"CREDITD_{name}" == named
    assert message in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CREDITD_POSTGRES_DSN", f"mysql://ledger:{PASSWORD}@db.example/creditd"),
        ("CREDITD_POSTGRES_DSN", f"host=db.example password={PASSWORD}"),
        ("CREDITD_POSTGRES_DSN", "postgresql://"),
        ("CREDITD_POSTGRES_DSN", f"postgresql://ledger:{PASSWORD}@[::1/creditd"),
        ("CREDITD_REDIS_URL", f"http://:{PASSWORD}@cache.example"),
        ("CREDITD_REDIS_URL", PASSWORD),
    ],
)
def test_bad_url_is_not_repeated(name: str, value: str) -> None:
    [problem] = problems_of({**NEEDED, name: value})

    assert name == problem.name
    assert problem.message.startswith("the value is not valid; expected ")


def test_password_in_the_wrong_variable_is_not_repeated() -> None:
    [problem] = problems_of({**NEEDED, "CREDITD_LISTEN": NEEDED["CREDITD_POSTGRES_DSN"]})

    assert "ledger:***@db.example" in problem.message


def test_missing_stores_are_both_named() -> None:
    problems = problems_of({})

    assert [problem.name for problem in problems] == ["CREDITD_POSTGRES_DSN", "CREDITD_REDIS_URL"]
    assert all(problem.message.startswith("is not set; expected ") for problem in problems)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CREDITD_PG_POOL_MX", "there is no such setting; did you mean CREDITD_PG_POOL_MAX?"),
        ("CREDITD_REDIS_DSN", "there is no such setting; did you mean CREDITD_REDIS_URL?"),
        ("CREDITD_ADRESS", "there is no such setting; did you mean CREDITD_ADDRESS?"),
        ("CREDITD_ZZZ", "there is no such setting"),
    ],
)
def test_unknown_variable_stops_the_start(name: str, message: str) -> None:
    assert problems_of({**NEEDED, name: PASSWORD}) == [Problem(name, message)]


def test_every_fault_is_in_one_message() -> None:
    problems = problems_of({"CREDITD_NOPE": "1", "CREDITD_LISTEN": "x"}, log_level="loud")

    assert {problem.name for problem in problems} == {
        "CREDITD_NOPE",
        "CREDITD_POSTGRES_DSN",
        "CREDITD_REDIS_URL",
        "CREDITD_LISTEN",
        "CREDITD_LOG_LEVEL",
    }


@pytest.mark.parametrize(
    "name", ["CREDITD_TEST_DATA", "CREDITD_ADDRESS", "CREDITD_API_KEY", "PGHOST", "creditd_x"]
)
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert load_settings({**NEEDED, name: "x"}) == load_settings(NEEDED)


def test_override_wins_over_the_environment_and_none_is_no_override() -> None:
    settings = load_settings(
        {**NEEDED, "CREDITD_LISTEN": "127.0.0.1:1", "CREDITD_LOG_LEVEL": "ERROR"},
        listen="127.0.0.1:2",
        log_level=None,
    )

    assert ("127.0.0.1:2", "ERROR") == (settings.listen, settings.log_level)


def test_override_that_is_no_setting_is_a_mistake_of_the_code() -> None:
    with pytest.raises(TypeError, match="lissten"):
        load_settings(NEEDED, lissten="127.0.0.1:2")


def test_environment_of_the_process_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CREDITD_LISTEN", "127.0.0.1:9")

    assert load_settings(NEEDED).listen == "127.0.0.1:50051"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings(NEEDED).listen = "127.0.0.1:2"  # type: ignore[misc]


def test_passwords_are_hidden_and_hosts_shown() -> None:
    settings = load_settings({**NEEDED, "CREDITD_DRAIN_GRACE_S": "3"})
    described = {each.name: each for each in describe(settings)}

    assert PASSWORD not in f"{settings!r} {settings} {settings.model_dump_json()} {described}"
    assert described["CREDITD_POSTGRES_DSN"].value == "postgresql://ledger:***@db.example:5432/creditd"
    assert described["CREDITD_REDIS_URL"].value == "redis://:***@cache.example:6379/0"
    assert (described["CREDITD_DRAIN_GRACE_S"].value, described["CREDITD_DRAIN_GRACE_S"].is_default) == (
        "3.0",
        False,
    )
    assert described["CREDITD_LISTEN"].is_default


def test_every_setting_is_described() -> None:
    described = describe(load_settings(NEEDED))

    assert [each.name for each in described] == [variable(field) for field in Settings.model_fields]
    assert all(each.description for each in described)
