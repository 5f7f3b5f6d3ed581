"""The settings of the service: read once from ``CREDITD_*`` variables, checked as a whole, then frozen.

This is the only reader of the environment, which is passed in. A wrong or unknown variable stops the
start, and one message names all of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from creditd.logs import LogFormat, mask_secrets

PREFIX: Final = "CREDITD_"
# Variables that other programs of this repository own: the tests, and the command line as a client.
OTHERS: Final = frozenset({"CREDITD_TEST_DATA", "CREDITD_ADDRESS", "CREDITD_API_KEY", "CREDITD_CONTEXT_FILE"})
KIB: Final = 1024
MIB: Final = 1024 * KIB

_UNITS = {"_s": "seconds", "_bytes": "bytes"}
_POSTGRES_SCHEMES = ("postgresql", "postgres")
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_HOST = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]*)(:\d{1,5})?")


def _url_of(*schemes: str) -> Callable[[SecretStr], SecretStr]:
    def check(value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError("no such scheme")
        parts = urlsplit(text)  # raises ValueError for a broken address
        if not (parts.netloc or parts.path or parts.query):
            raise ValueError("nothing after the scheme")
        # The rest of a password that was cut by a "/" in it would pass for a path, and be shown as one.
        if "@" in parts.path + parts.query + parts.fragment:
            raise ValueError("an @ after the host")
        hosts = parts.netloc.rpartition("@")[2].split(",")
        if not all(_HOST.fullmatch(host) for host in hosts):
            raise ValueError("not host:port")
        return value

    return check


def _check_listen(value: str) -> str:
    if value.startswith("unix:") and len(value) > len("unix:"):
        return value
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise ValueError("not host:port")
    if ":" in host and not bracketed:
        raise ValueError("an IPv6 address without brackets")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseSettings):
    """All settings. Names end in their unit; seconds may have fractions. Make them by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    postgres_dsn: Annotated[SecretStr, AfterValidator(_url_of(*_POSTGRES_SCHEMES))] | None = Field(
        None,
        description="PostgreSQL that holds the ledger",
        examples=["postgresql://user:password@host:port/database"],
    )
    redis_url: Annotated[SecretStr, AfterValidator(_url_of(*_REDIS_SCHEMES))] | None = Field(
        None,
        description="Redis or Valkey that holds the hot state; rediss:// is TLS",
        examples=["redis://user:password@host:port/0", "rediss://...", "unix:///path"],
    )

    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        "127.0.0.1:50051",
        description="address of the gRPC server",
        examples=["host:port", "[v6]:port", "unix:/path"],
    )
    transport: Literal["asgi", "grpcio"] = Field("asgi", description="which gRPC server to run")
    max_message_bytes: int = Field(
        4 * MIB, ge=KIB, le=64 * MIB, description="largest request that is read; a larger one is refused"
    )
    request_timeout_s: float = Field(
        10.0, ge=0.01, le=600, description="deadline of a call that brings none of its own"
    )
    drain_grace_s: float = Field(
        20.0,
        ge=0,
        le=600,
        description="how long calls in flight may take at a stop before they are cancelled",
    )
    test_clocks: bool = Field(
        False, description="allow accounts on test clocks, whose time callers set; never in production"
    )

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = Field(
        "INFO", description="least severe level that is logged"
    )
    log_format: LogFormat = Field("json", description="one JSON object a line, or text for a terminal")

    pg_pool_min: int = Field(1, ge=0, le=1_000, description="connections to PostgreSQL that are kept open")
    pg_pool_max: int = Field(8, ge=1, le=1_000, description="most connections to PostgreSQL of one process")
    pg_timeout_s: float = Field(
        5.0, ge=0.01, le=600, description="longest wait for PostgreSQL before its outcome is unknown"
    )
    group_commit_max: int = Field(
        512, ge=1, le=10_000, description="most ledger entries (rows) that are committed together"
    )
    checkpoint_every: int = Field(
        1_000, ge=10, le=1_000_000, description="entries of an account after which its folded state is stored"
    )
    catalog_poll_s: float = Field(
        5.0, ge=0.1, le=3_600, description="time between looks for a newer version of the catalog"
    )

    redis_timeout_s: float = Field(
        1.0, ge=0.01, le=60, description="longest wait for Redis before decisions are made on the ledger"
    )
    idempotency_hot_ttl_s: int = Field(
        300, ge=1, le=86_400, description="how long Redis answers replays, before the ledger does"
    )
    reaper_interval_s: float = Field(
        1.0, ge=0.1, le=3_600, description="time between looks for entries that a dead process left"
    )
    reaper_age_s: float = Field(
        5.0, ge=0.5, le=3_600, description="age from which an uncommitted entry counts as left"
    )
    policy_cache_accounts: int = Field(
        100_000, ge=1, le=10_000_000, description="accounts whose compiled policy a process keeps"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but the arguments, so that no `Settings` looks at the process's environment."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong variable: its name, and what is wrong and was expected. Never a secret."""

    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


class ConfigError(Exception):
    """The settings are wrong; `problems` has every fault."""

    def __init__(self, problems: list[Problem]) -> None:
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{'a setting is' if len(problems) == 1 else 'settings are'} wrong:{lines}")
        self.problems = problems


class Described(NamedTuple):
    """A setting for display: its variable, its value without secrets, whether that is the default."""

    name: str
    value: str
    is_default: bool
    description: str


def load_settings(environ: Mapping[str, str], **overrides: object) -> Settings:
    """Return the settings from an environment.

    Args:
        environ: the variables; those without the prefix are ignored, and so are empty ones.
        overrides: values by field name, as from a command line; they win, and None is no value.

    Raises:
        ConfigError: variables are unknown or wrong, or values don't fit each other.
    """
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in OTHERS}
    overridden = {name: value for name, value in overrides.items() if value is not None}
    known = {variable(field): field for field in Settings.model_fields}
    problems = [_unknown(name, known) for name in sorted(given) if name not in known]
    values = _Environment({name: value for name, value in given.items() if value and name in known})()
    try:
        settings = Settings(**{**values, **overridden})
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors()}
        problems += [_wrong(name, values | overridden) for name in sorted(wrong)]
    else:
        problems += _contradictions(settings)
        if not problems:
            return settings
    raise ConfigError(problems)


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return PREFIX + field.upper()


def describe(settings: Settings) -> list[Described]:
    """Return every setting in order, for people; of URLs without passwords."""
    return [
        Described(
            variable(name),
            _shown(getattr(settings, name)),
            getattr(settings, name) == field.default,
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


class _Environment(EnvSettingsSource):
    """Reads the variables that it is given, where its base reads those of the process."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {name.lower(): value for name, value in variables.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


def _unknown(name: str, known: Mapping[str, str]) -> Problem:
    # Without the prefix, which would make all of them alike.
    names = [each.removeprefix(PREFIX) for each in (*known, *sorted(OTHERS))]
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=1)
    hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""
    return Problem(name, f"there is no such setting{hint}")


def _wrong(name: str, values: Mapping[str, object]) -> Problem:
    field = Settings.model_fields.get(name)
    if field is None:
        raise TypeError(f"{name} is not a setting")  # a mistake of the caller's code, not of a person
    # A URL that is not well-formed can't be masked with certainty.
    secret = SecretStr in _plain_types(field.annotation)
    value = "the value" if secret else mask_secrets(repr(values[name]))
    hint = ", special characters of the password percent-encoded" if secret else ""
    return Problem(variable(name), f"{value} is not valid; expected {_expected(name, field)}{hint}")


def _plain_types(annotation: object) -> set[object]:
    """Return the types that an annotation is made of, without what surrounds them."""
    inner = get_args(annotation)
    return set().union(*map(_plain_types, inner)) if inner else {annotation}


def _expected(name: str, field: FieldInfo) -> str:
    kind: Any = field.annotation
    if field.examples:
        return " or ".join(field.examples)
    if kind is bool:
        return "true or false"
    if choices := get_args(kind):
        return " or ".join(choices)
    least = next(bound.ge for bound in field.metadata if isinstance(bound, Ge))
    most = next(bound.le for bound in field.metadata if isinstance(bound, Le))
    noun = "a whole number" if kind is int else "a number"
    unit = next((f" of {unit}" for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    return f"{noun}{unit} from {least} to {most}"


def _contradictions(settings: Settings) -> list[Problem]:
    if settings.pg_pool_min <= settings.pg_pool_max:
        return []
    return [
        Problem(
            variable("pg_pool_min"),
            f"{settings.pg_pool_min} is more than {variable('pg_pool_max')}, which is {settings.pg_pool_max}",
        )
    ]


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, SecretStr):
        return mask_secrets(value.get_secret_value())
    return str(value).lower() if isinstance(value, bool) else str(value)
