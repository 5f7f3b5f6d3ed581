"""Catalog files: YAML or JSON <-> `creditd.v1.Catalog`, with the places of everything for error messages.

`catalog_fields` says how fields look in a file. Reading reports every fault, not the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from creditd.cli import catalog_fields as form
from creditd.cli.document import DocumentError, Fault, Mapping, Node, Place, Scalar, Sequence, parse
from creditd.domain.amounts import INT64_MAX, NANOS_PER_UNIT
from creditd.domain.near import did_you_mean
from creditd.v1 import catalog_pb2 as pb

_INT32_MAX = 2**31 - 1
_PRICE = pb.MeterPrice.DESCRIPTOR.fields_by_name["credits_micros"].full_name
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@dataclass(frozen=True)
class LoadedCatalog:
    """A catalog file. `locate` finds the place of a field by its path in the message."""

    file: str
    message: pb.Catalog
    locate: Callable[[str], Place | None]


def load_catalog(path: Path | str) -> LoadedCatalog:
    """Reads a catalog file.

    Raises:
        DocumentError: with every fault of form and its place.
        OSError: if the file cannot be read.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(file, [Fault(None, "", f"is not UTF-8: {error}")]) from error
    return parse_catalog(text, file)


def parse_catalog(text: str, file: str) -> LoadedCatalog:
    """Reads a catalog from text; `file` names it in messages, and its suffix .json makes it JSON.

    Raises:
        DocumentError: with every fault of form and its place.
    """
    root = parse(text, file)
    reader = _Reader()
    message = pb.Catalog()
    reader.fill(message, root, "")
    if reader.faults:
        raise DocumentError(file, reader.faults)
    return LoadedCatalog(file, message, lambda path: _locate(root, path))


def _locate(root: Node, path: str) -> Place | None:
    """The place of the field at `path` of the message, or of the nearest one around it in the file."""
    node, found = root, None
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path.removeprefix("catalog.")):
        if isinstance(node, Mapping) and name:
            key = name if name in node.items else name.removesuffix(form.MICROS)
            if key not in node.items:
                break
            found, node = node.keys[key], node.items[key]
        elif isinstance(node, Sequence) and index and int(index) < len(node.items):
            node = node.items[int(index)]
            found = node.place
        else:
            break
    return found


class _Reader:
    """Fills messages from nodes and notes what does not fit."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def _fault(self, place: Place, path: str, problem: str) -> None:
        self.faults.append(Fault(place, path, problem))

    def fill(self, message: Message, node: Node, path: str) -> None:
        """Sets the fields of `message` from a mapping."""
        fields = form.fields_of(message.DESCRIPTOR)
        if not isinstance(node, Mapping):
            self._fault(node.place, path, f"is {_what(node)}; expected a mapping of {', '.join(fields)}")
            return
        chosen: dict[str, str] = {}
        for name, value in node.items.items():
            at = f"{path}.{name}" if path else name
            field = fields.get(name)
            if field is None:
                self._fault(node.keys[name], at, _unknown(name, fields))
                continue
            if field.containing_oneof is not None:
                first = chosen.setdefault(field.containing_oneof.name, name)
                if first != name:
                    self._fault(node.keys[name], at, f"excludes {first}; set one of them")
                    continue
            self._field(message, field, value, at)

    def _field(self, message: Message, field: FieldDescriptor, node: Node, path: str) -> None:
        if form.is_map(field):
            self._map(message, field, node, path)
        elif field.is_repeated:
            self._list(message, field, node, path)
        elif field.message_type is not None:
            self._message(getattr(message, field.name), node, path)
        else:
            value = self._scalar(field, node, path)
            if value is not None:
                setattr(message, field.name, value)

    def _list(self, message: Message, field: FieldDescriptor, node: Node, path: str) -> None:
        if not isinstance(node, Sequence):
            self._fault(node.place, path, f"is {_what(node)}; expected a list")
            return
        target = getattr(message, field.name)
        for index, item in enumerate(node.items):
            at = f"{path}[{index}]"
            if field.message_type is not None:
                self._message(target.add(), item, at)
            else:
                value = self._scalar(field, item, at)
                if value is not None:
                    target.append(value)

    def _map(self, message: Message, field: FieldDescriptor, node: Node, path: str) -> None:
        if not isinstance(node, Mapping):
            self._fault(node.place, path, f"is {_what(node)}; expected a mapping")
            return
        target = getattr(message, field.name)
        value_field = form.value_field(field)
        for key, item in node.items.items():
            value = self._scalar(value_field, item, f"{path}.{key}")
            if value is not None:
                target[key] = value

    def _message(self, message: Message, node: Node, path: str) -> None:
        message.SetInParent()
        kind = message.DESCRIPTOR.full_name
        if kind == form.VALUE:
            value = self._json(node, path)
            ParseDict(value, message)
        elif kind in {form.MONEY, form.PERIOD, form.TIMESTAMP} and not isinstance(node, Mapping):
            if not isinstance(node, Scalar):
                self._fault(node.place, path, f"is {_what(node)}; expected a text")
                return
            try:
                _set_from_text(message, kind, node.text)
            except form.TextError as wrong:
                self._fault(node.place, path, str(wrong))
        else:
            self.fill(message, node, path)

    def _scalar(self, field: FieldDescriptor, node: Node, path: str) -> Any:
        """The value of a single field, or None after noting why there is none."""
        if not isinstance(node, Scalar):
            self._fault(node.place, path, f"is {_what(node)}; expected {_expected(field)}")
            return None
        try:
            return _value_of(field, node)
        except form.TextError as wrong:
            self._fault(node.place, path, str(wrong))
            return None

    def _json(self, node: Node, path: str) -> Any:
        """Any value as JSON."""
        match node:
            case Mapping():
                return {key: self._json(item, f"{path}.{key}") for key, item in node.items.items()}
            case Sequence():
                return [self._json(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
            case _:
                return self._json_scalar(node, path)

    def _json_scalar(self, node: Scalar, path: str) -> Any:
        if node.plain and node.text in _NULLS:
            return None
        if node.plain and node.text in _BOOLEANS:
            return _BOOLEANS[node.text]
        if not node.plain or not _is_number(node.text):
            return node.text
        exact = form.number(node.text)
        # Numbers are doubles on the wire: one written out in digits that would become another is refused.
        if abs(exact) >= 2**1024 or (node.text.lstrip("+-").isdecimal() and float(exact) != exact):
            self._fault(node.place, path, f"is {node.text}, more than a JSON number holds; put it in quotes")
            return None
        return float(exact)


def _value_of(field: FieldDescriptor, node: Scalar) -> Any:
    if node.plain and node.text in _NULLS:
        raise form.TextError(f"is empty; expected {_expected(field)}, or leave it out")
    if field.type == FieldDescriptor.TYPE_STRING:
        if node.plain and (node.text in _BOOLEANS or _is_number(node.text)):
            raise form.TextError(f"is {node.text}, which is no text; put it in quotes")
        return node.text
    if field.enum_type is not None:
        names = form.enum_names(field.enum_type)
        if node.text not in names:
            near = did_you_mean(node.text.lower(), names) if len(names) > 5 else ""
            raise form.TextError(f"is {node.text!r}; expected one of {', '.join(names)}{near}")
        return names[node.text]
    if not node.plain:
        raise form.TextError(f"is the text {node.text!r}; expected {_expected(field)}, without quotes")
    if field.type == FieldDescriptor.TYPE_BOOL:
        if node.text not in _BOOLEANS:
            raise form.TextError(f"is {node.text!r}; expected true or false")
        return _BOOLEANS[node.text]
    if field.name.endswith(form.MICROS):
        return form.micros(node.text, price=field.full_name == _PRICE)
    return form.integer(node.text, _INT32_MAX if field.type == FieldDescriptor.TYPE_INT32 else INT64_MAX)


def _set_from_text(message: Any, kind: str, text: str) -> None:
    if kind == form.MONEY:
        message.currency_code, nanos = form.money(text)
        sign = -1 if nanos < 0 else 1
        units, rest = divmod(abs(nanos), NANOS_PER_UNIT)
        message.units, message.nanos = sign * units, sign * rest
    elif kind == form.PERIOD:
        message.CopyFrom(form.period(text))
    else:
        message.FromDatetime(form.timestamp(text))


def _is_number(text: str) -> bool:
    try:
        form.number(text)
    except form.TextError:
        return False
    return True


def _what(node: Node) -> str:
    match node:
        case Scalar():
            return "empty" if node.plain and node.text in _NULLS else f"the single value {node.text!r}"
        case Sequence():
            return "a list"
        case _:
            return "a mapping"


def _expected(field: FieldDescriptor) -> str:
    if field.name.endswith(form.MICROS):
        return "a number of credits"
    if field.type == FieldDescriptor.TYPE_STRING:
        return "a text"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true or false"
    return "a whole number" if field.enum_type is None else ", ".join(form.enum_names(field.enum_type))


def _unknown(name: str, fields: dict[str, FieldDescriptor]) -> str:
    if name.endswith(form.MICROS) and name.removesuffix(form.MICROS) in fields:
        return f"is written as `{name.removesuffix(form.MICROS)}`, in credits instead of micros"
    return f"is not known here{did_you_mean(name, fields) or '; expected ' + ', '.join(fields)}"
