"""`creditd.v1.Catalog` as the text of a catalog file, which loads back to an equal message."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.struct_pb2 import Value

from creditd.cli import catalog_fields as form
from creditd.cli.catalog_emit import Plain, to_json, to_yaml
from creditd.domain.amounts import NANOS_PER_UNIT
from creditd.domain.catalog_text import credits_text
from creditd.v1 import catalog_pb2 as pb


def dump_catalog(message: pb.Catalog, *, as_json: bool = False) -> str:
    """The text of a catalog file, YAML or JSON."""
    tree = _tree(message)
    return to_json(tree) if as_json else to_yaml(tree)


def _tree(message: Any) -> Any:
    kind = message.DESCRIPTOR.full_name
    if kind == form.VALUE:
        return _json(message)
    text = _text(message, kind)
    if text is not None:
        return text
    tree = {form.name_in_file(field): _field(field, value) for field, value in message.ListFields()}
    if isinstance(message, pb.MeterPrice):
        # A price of nothing reads better as `credits: 0` than as a price without credits.
        return {"meter": message.meter, "credits": _credits(message.credits_micros)} | tree
    return tree


def _field(field: FieldDescriptor, value: Any) -> Any:
    if form.is_map(field):
        return {key: value[key] for key in sorted(value)}
    if field.is_repeated:
        return [_single(field, item) for item in value]
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _tree(value)
    if field.enum_type is not None:
        names = {number: name for name, number in form.enum_names(field.enum_type).items()}
        return names.get(value, value)
    return _credits(value) if field.name.endswith(form.MICROS) else value


def _credits(micros: int) -> Decimal:
    return Decimal(credits_text(micros))


def _text(message: Any, kind: str) -> Plain | str | None:
    """The one-word form of a message that has one, if it says all that the message says."""
    if kind == form.PERIOD:
        unit = {number: name for name, number in form.enum_names(pb.Period.Unit.DESCRIPTOR).items()}
        if message.unit in unit and message.count > 0:
            one = message.count == 1
            return unit[message.unit] if one else Plain(f"{message.count} {unit[message.unit]}s")
    elif kind == form.MONEY:
        regular = len(message.currency_code) == 3 and message.currency_code.isalpha()
        if regular and message.currency_code.isupper() and message.currency_code.isascii():
            total = message.units * NANOS_PER_UNIT + message.nanos
            if abs(message.nanos) < NANOS_PER_UNIT and message.units * message.nanos >= 0:
                return Plain(form.money_text(message.currency_code, total))
    elif kind == form.TIMESTAMP and message.nanos % 1000 == 0:
        return f"{message.ToDatetime().isoformat()}Z"
    return None


def _json(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            fields = value.struct_value.fields
            return {name: _json(fields[name]) for name in sorted(fields)}
        case "list_value":
            return [_json(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**63 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None
