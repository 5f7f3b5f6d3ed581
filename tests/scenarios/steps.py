"""Scenarios as data: loading them, filling in requests, and comparing answers; README.md has the form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from ruamel.yaml import YAML

from creditd.cli.catalog_file import parse_catalog
from creditd.v1 import catalog_pb2

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER.parents[1] / "examples" / "catalogs"
ACCOUNT = "acme"
KEYWORDS = frozenset(
    {"at", "expect", "error", "repeat", "name", "catalog", "effective_at", "dry_run", "clock", "note"}
)
INT64 = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64}


@dataclass(frozen=True)
class Scenario:
    """One rule and the story that protects it."""

    file: str
    rule: str
    start: str
    catalog: Any
    steps: list[dict[str, Any]]
    account: Mapping[str, Any]

    @property
    def schedules(self) -> bool:
        """Whether it applies a catalog for later."""
        return any("effective_at" in step for step in self.steps)


def scenarios() -> Iterator[Scenario]:
    """Every scenario of every file; a file may have one catalog for all of them, under `catalog`."""
    for path in sorted(FOLDER.glob("*.yaml")):
        document = _plain(YAML(typ="safe").load(path.read_text()))
        shared = document.get("catalog") if isinstance(document, dict) else None
        start = document.get("start", "2030-01-01T00:00:00Z") if isinstance(document, dict) else ""
        for item in document["scenarios"] if isinstance(document, dict) else document:
            yield Scenario(
                path.stem,
                item["rule"],
                item.get("start", start),
                _of_file(item["file"]) if "file" in item else item.get("catalog", shared),
                item["steps"],
                item.get("account", {}),
            )


def _of_file(name: str) -> Any:
    """A catalog of examples/catalogs."""
    return YAML(typ="safe").load((EXAMPLES / name).read_text())


def _plain(value: Any) -> Any:
    """Instants that YAML has read as such, as texts again."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "isoformat"):
        text = value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
        return re.sub(r"(\+00:00)?$", "Z", text, count=1)
    return value


def catalog_of(document: Any) -> catalog_pb2.Catalog:
    """A catalog in the form of catalog files."""
    text = StringIO()
    YAML(typ="safe").dump(document, text)
    return parse_catalog(text.getvalue(), "scenario.yaml").message


def request_of(descriptor: Descriptor, given: Any, message: Any) -> Any:
    """The request that a step stands for."""
    fields = {} if given is None else dict(given)
    account = descriptor.fields_by_name.get("account")
    if account is not None and account.message_type is None and "account" not in fields:
        fields["account"] = ACCOUNT
    for item in fields.get("items", ()) if "items" in descriptor.fields_by_name else ():
        item.setdefault("account", ACCOUNT)
    for name in ("grant", "override", "budget", "auto_top_up"):
        nested = descriptor.fields_by_name.get(name)
        if nested is not None and nested.message_type is not None:
            fields[name] = {"account": ACCOUNT, **fields.get(name, {})}
    return ParseDict(_wire(descriptor, fields), message)


def _wire(descriptor: Descriptor, given: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values of the protos' JSON: credits as micros, enum values with their prefix."""
    result: dict[str, Any] = {}
    for name, value in given.items():
        field = descriptor.fields_by_name.get(name)
        if field is None and f"{name}_micros" in descriptor.fields_by_name:
            result[f"{name}_micros"] = str(_micros(value))
        elif field is None:
            raise AssertionError(f"{descriptor.name} has no field {name!r}")
        else:
            result[name] = _value(field, value)
    return result


def _value(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, list):
        return [_value(field, item) for item in value]
    nested = field.message_type
    if nested is not None and not nested.full_name.startswith("google.") and isinstance(value, dict):
        if nested.GetOptions().map_entry:
            return {key: _value(nested.fields_by_name["value"], item) for key, item in value.items()}
        return _wire(nested, value)
    if field.enum_type is not None and isinstance(value, str):
        names = {item.name for item in field.enum_type.values}
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", field.enum_type.name).upper()
        return value if value in names else f"{prefix}_{value}"
    return value


def _micros(value: Any) -> int:
    micros = Decimal(str(value)) * 1_000_000
    assert micros == int(micros), f"{value} credits are finer than a micro"
    return int(micros)


def differences(expected: Any, answer: Any, path: str = "answer") -> list[str]:
    """Where a message is not as expected, in words; `expected` names what matters."""
    found: list[str] = []
    descriptor = answer.DESCRIPTOR
    for name, wanted in expected.items():
        field = descriptor.fields_by_name.get(name)
        in_credits = field is None and f"{name}_micros" in descriptor.fields_by_name
        if in_credits:
            field = descriptor.fields_by_name[f"{name}_micros"]
        value = _micros(wanted) if in_credits else wanted
        if field is None:
            found.append(f"{path} has no field {name!r}")
            continue
        actual = getattr(answer, field.name)
        if in_credits:
            if actual != value:
                found.append(f"{path}.{name}: expected {_credits(value)}, was {_credits(actual)}")
        else:
            found += _compare(field, value, actual, answer, f"{path}.{name}")
    return found


def _credits(micros: int) -> str:
    return f"{Decimal(micros) / 1_000_000:f}"


def _compare(field: FieldDescriptor, expected: Any, actual: Any, answer: Any, path: str) -> list[str]:
    if isinstance(expected, list):
        if len(expected) != len(actual):
            return [f"{path}: expected {len(expected)} items, was {_shown(answer, field)}"]
        return [
            fault
            for index, (want, have) in enumerate(zip(expected, actual, strict=True))
            for fault in _compare_one(field, want, have, f"{path}[{index}]")
        ]
    if field.message_type is not None and not field.is_repeated and not answer.HasField(field.name):
        return [] if expected in ("unset", {}, None) else [f"{path}: expected {expected}, was not set"]
    if expected == "unset":
        return [f"{path}: expected nothing, was {_shown(answer, field)}"]
    return _compare_one(field, expected, actual, path)


def _compare_one(field: FieldDescriptor, expected: Any, actual: Any, path: str) -> list[str]:
    nested = field.message_type
    if nested is not None and nested.full_name == "google.protobuf.Timestamp":
        shown = actual.ToJsonString()
        return [] if shown == expected else [f"{path}: expected {expected}, was {shown}"]
    if nested is not None and nested.full_name.startswith("google."):
        shown = MessageToDict(actual)
        return [] if shown == expected else [f"{path}: expected {expected}, was {shown}"]
    if nested is not None and nested.GetOptions().map_entry:
        return [] if dict(actual) == expected else [f"{path}: expected {expected}, was {dict(actual)}"]
    if nested is not None:
        return differences(expected, actual, path)
    if field.enum_type is not None:
        name = field.enum_type.values_by_number[actual].name
        fits = name == expected or name.endswith(f"_{expected}")
        return [] if fits else [f"{path}: expected {expected}, was {name}"]
    return [] if actual == expected else [f"{path}: expected {expected!r}, was {actual!r}"]


def _shown(answer: Any, field: FieldDescriptor) -> Any:
    return MessageToDict(answer, preserving_proto_field_name=True).get(field.name)
