"""The settings: what is read, what is refused and how, and that no password is ever shown."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pydantic
import pytest

import creditd
from creditd.config import OTHERS, ConfigError, Settings, describe, load_settings, variable

DSN = "postgresql://user:hunter2@db.example:5432/ledger"
URL = "rediss://:hunter2@cache.example:6380/0"


def fault_of(**variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings({variable(name): value for name, value in variables.items()})
    assert len(caught.value.problems) == 1
    return str(caught.value.problems[0])


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load_settings({})
    assert settings.model_dump() == {
        "postgres_dsn": None,
        "redis_url": None,
        "listen": "127.0.0.1:50051",
        "transport": "asgi",
        "max_message_bytes": 4_194_304,
        "request_timeout_s": 10,
        "drain_grace_s": 20,
        "test_clocks": False,
        "log_level": "INFO",
        "log_format": "json",
        "pg_pool_min": 1,
        "pg_pool_max": 8,
        "pg_timeout_s": 5,
        "group_commit_max": 512,
        "checkpoint_every": 1000,
        "catalog_poll_s": 5,
        "redis_timeout_s": 1,
        "idempotency_hot_ttl_s": 300,
        "reaper_interval_s": 1,
        "reaper_age_s": 5,
        "policy_cache_accounts": 100_000,
    }


def test_every_variable_is_read() -> None:
    settings = load_settings(
        {"CREDITD_POSTGRES_DSN": DSN, "CREDITD_PG_TIMEOUT_S": "0.25", "CREDITD_TEST_CLOCKS": "true"}
        | {"CREDITD_LISTEN": "[::1]:0", "CREDITD_LOG_LEVEL": "warning", "PATH": "/bin", "creditd_listen": "x"}
    )
    assert settings.postgres_dsn is not None
    assert settings.postgres_dsn.get_secret_value() == DSN
    assert settings.pg_timeout_s == 0.25
    assert settings.test_clocks is True
    assert settings.listen == "[::1]:0"
    assert settings.log_level == "WARNING"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_and_has_a_default(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert not field.is_required()
    if field.annotation in (int, float):
        least_and_most = {type(bound).__name__ for bound in field.metadata}
        assert least_and_most >= {"Ge", "Le"}


def test_every_default_is_one_that_could_be_set() -> None:
    shown = {each.name: each.value for each in describe(load_settings({})) if each.value != "not set"}
    assert load_settings(shown) == load_settings({})


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load_settings({"CREDITD_LISTEN": "", "CREDITD_POSTGRES_DSN": ""}) == load_settings({})


def test_variables_of_other_programs_are_let_through() -> None:
    assert load_settings(dict.fromkeys(OTHERS, "anything")) == load_settings({})


def test_overrides_win_and_none_is_no_override() -> None:
    settings = load_settings(
        {"CREDITD_LISTEN": "a:1", "CREDITD_TRANSPORT": "grpcio"}, listen="b:2", transport=None
    )
    assert (settings.listen, settings.transport) == ("b:2", "grpcio")


def test_an_override_that_is_no_setting_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="listne"):
        load_settings({}, listne="b:2")


def test_the_environment_of_the_process_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITD_LISTEN", "elsewhere:1")
    assert load_settings({}).listen == "127.0.0.1:50051"
    assert Settings().listen == "127.0.0.1:50051"


def test_settings_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load_settings({}).listen = "b:2"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pg_pool_max", "abc", "'abc' is not valid; expected a whole number from 1 to 1000"),
        ("pg_pool_max", "0", "'0' is not valid; expected a whole number from 1 to 1000"),
        ("pg_pool_max", "2.5", "'2.5' is not valid; expected a whole number from 1 to 1000"),
        ("pg_timeout_s", "601", "'601' is not valid; expected a number of seconds from 0.01 to 600"),
        ("pg_timeout_s", "nan", "'nan' is not valid; expected a number of seconds from 0.01 to 600"),
        ("drain_grace_s", "inf", "'inf' is not valid; expected a number of seconds from 0 to 600"),
        ("drain_grace_s", "5s", "'5s' is not valid; expected a number of seconds from 0 to 600"),
        ("max_message_bytes", "4MiB", "expected a whole number of bytes from 1024 to 67108864"),
        ("transport", "http", "'http' is not valid; expected asgi or grpcio"),
        ("log_format", "xml", "'xml' is not valid; expected json or text"),
        ("log_level", "LOUD", "'LOUD' is not valid; expected DEBUG or INFO or WARNING or ERROR"),
        ("test_clocks", "maybe", "'maybe' is not valid; expected true or false"),
        ("listen", "50051", "'50051' is not valid; expected host:port or [v6]:port or unix:/path"),
        ("listen", "host:", "expected host:port"),
        ("listen", "host:70000", "expected host:port"),
        ("listen", "::1:50051", "expected host:port"),
        ("listen", "unix:", "expected host:port"),
        ("pg_pool_min", "9", "9 is more than CREDITD_PG_POOL_MAX, which is 8"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(name: str, value: str, message: str) -> None:
    fault = fault_of(**{name: value})
    assert fault.startswith(f"{variable(name)}: ")
    assert message in fault


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("postgres_dsn", "mysql://user:hunter2@host/db"),
        ("postgres_dsn", "host=db password=hunter2"),
        ("postgres_dsn", "postgresql://"),
        ("postgres_dsn", "postgresql://user:hunter2@[::1/db"),
        ("postgres_dsn", "postgresql://user:1/hunter2@host/db"),
        ("postgres_dsn", "postgresql://user:hunter2/x@host/db"),
        ("postgres_dsn", "postgresql://user:hunter2@host:port/db"),
        ("redis_url", "http://:hunter2@host"),
        ("redis_url", "redis://:12?hunter2@host"),
    ],
)
def test_a_bad_address_is_refused_without_being_shown(name: str, value: str) -> None:
    fault = fault_of(**{name: value})
    assert fault.startswith(f"{variable(name)}: the value is not valid; expected ")
    assert "hunter2" not in fault


def test_a_password_in_the_wrong_variable_is_not_shown() -> None:
    fault = fault_of(listen=DSN)
    assert "user:***@db.example" in fault
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("postgres_dsn", "postgres://h"),
        ("postgres_dsn", "postgresql://user@h1:5432,h2:5433,[::1]:5434/db?target_session_attrs=read-write"),
        ("postgres_dsn", "postgresql:///db?host=/run/postgresql"),
        ("redis_url", "redis://user:p%40ss@h:6379/3"),
        ("redis_url", "unix:///run/valkey.sock"),
    ],
)
def test_a_good_address_is_taken(name: str, value: str) -> None:
    settings = load_settings({variable(name): value})
    assert getattr(settings, name).get_secret_value() == value


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("CREDITD_LISTN", "CREDITD_LISTEN"),
        ("CREDITD_PG_POOL_MIM", "CREDITD_PG_POOL_MIN"),
        ("CREDITD_POSTGRES_URL", "CREDITD_POSTGRES_DSN"),
        ("CREDITD_API_KEYS", "CREDITD_API_KEY"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(unknown: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({unknown: "hunter2"})
    assert str(caught.value.problems[0]) == f"{unknown}: there is no such setting; did you mean {nearest}?"


def test_an_unknown_variable_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"CREDITD_QQQQ: there is no such setting$"):
        load_settings({"CREDITD_QQQQ": "1"})


def test_one_message_names_every_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(
            {"CREDITD_LISTN": "x", "CREDITD_PG_POOL_MAX": "x", "CREDITD_REDIS_URL": "x", "CREDITD_X": "x"}
        )
    names = {"CREDITD_LISTN", "CREDITD_PG_POOL_MAX", "CREDITD_REDIS_URL", "CREDITD_X"}
    assert {problem.name for problem in caught.value.problems} == names
    assert all(name in str(caught.value) for name in names)


def test_passwords_are_nowhere_shown() -> None:
    settings = load_settings({"CREDITD_POSTGRES_DSN": DSN, "CREDITD_REDIS_URL": URL})
    shown = {described.name: described for described in describe(settings)}
    assert shown["CREDITD_POSTGRES_DSN"].value == "postgresql://user:***@db.example:5432/ledger"
    assert shown["CREDITD_REDIS_URL"].value == "rediss://:***@cache.example:6380/0"
    everything = repr(settings) + str(settings) + settings.model_dump_json() + repr(shown)
    assert "hunter2" not in everything


@pytest.mark.parametrize("password", ["pa'ss", 'pa"ss', "p:a@ss", "p%2Fss"])
def test_strange_passwords_are_hidden_too(password: str) -> None:
    settings = load_settings({"CREDITD_REDIS_URL": f"redis://user:{password}@host/0"})
    shown = {described.name: described.value for described in describe(settings)}
    assert shown["CREDITD_REDIS_URL"] == "redis://user:***@host/0"


def test_describe_tells_defaults_from_what_was_set() -> None:
    described = {each.name: each for each in describe(load_settings({"CREDITD_LISTEN": "b:2"}))}
    assert list(described) == [variable(name) for name in Settings.model_fields]
    assert (described["CREDITD_LISTEN"].value, described["CREDITD_LISTEN"].is_default) == ("b:2", False)
    assert described["CREDITD_TEST_CLOCKS"].value == "false"
    assert described["CREDITD_POSTGRES_DSN"].value == "not set"
    assert described["CREDITD_PG_POOL_MAX"].is_default


def test_no_other_module_reads_the_environment() -> None:
    """`os.environ` is handed to `load_settings` by the command line, and looked at by nothing else."""
    package = Path(creditd.__file__).parent
    readers = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    }
    assert readers <= {"cli"}
    assert not [name for name in os.environ if name.startswith("CREDITD_") and name not in OTHERS]
