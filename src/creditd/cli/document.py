"""YAML and JSON text as a tree that knows where each value stands; numbers keep their text.

YAML is read from parser events rather than loaded: values stay as written (0.1 never becomes a float), every
value has a line and column, and duplicate keys are noticed. JSON has a scanner of its own, because
catalogs with thousands of rates are several times faster to read that way.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file; both count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Scalar:
    """A single value. `plain`: not in quotes, so that it may be a number, a boolean or null."""

    place: Place
    text: str
    plain: bool


@dataclass(slots=True)
class Sequence:
    """A list."""

    place: Place
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """An object; `keys` says where each key stands."""

    place: Place
    items: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a document: where, at which path in it, and what was expected."""

    place: Place | None
    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


class DocumentError(Exception):
    """A file that cannot be used as it is; `faults` has everything that was found."""

    def __init__(self, file: str, faults: list[Fault]) -> None:
        self.file = file
        self.faults = faults
        super().__init__("\n".join(self.lines()))

    def lines(self) -> Iterator[str]:
        """One line per fault, as `catalog.yaml:12:7: path: problem`."""
        for fault in self.faults:
            at = f":{fault.place.line}:{fault.place.column}" if fault.place else ""
            yield f"{self.file}{at}: {fault}"


class _Malformed(Exception):  # never leaves this module
    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(problem)
        self.fault = Fault(place, "", problem)


def parse(text: str, file: str) -> Node:
    """Parses `text`: as JSON if `file` is named *.json, else as YAML.

    Raises:
        DocumentError: if the text is malformed, or a key is there twice.
    """
    duplicates: list[Fault] = []
    try:
        reader = _Json if file.endswith(".json") else _Yaml
        root = reader(text, duplicates).document()
    except _Malformed as error:
        raise DocumentError(file, [error.fault]) from error
    if duplicates:
        raise DocumentError(file, duplicates)
    return root


def _put(mapping: Mapping, key: str, place: Place, node: Node, duplicates: list[Fault]) -> None:
    if key in mapping.items:
        first = mapping.keys[key]
        duplicates.append(Fault(place, "", f"key {key!r} is there already, in line {first.line}; keep one"))
    mapping.items[key] = node
    mapping.keys[key] = place


class _Yaml:
    """One YAML document; anchors and aliases are followed, tags and merge keys are not in use."""

    def __init__(self, text: str, duplicates: list[Fault]) -> None:
        self._text = text
        self._duplicates = duplicates
        self._anchors: dict[str, Node] = {}
        self._depth = 0

    def document(self) -> Node:
        try:
            return self._document()
        except MarkedYAMLError as error:
            unclosed = "quoted scalar" in (
                error.context or ""
            )  # where it opens tells more than the file's end
            mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
            place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
            problem = " ".join(str(part) for part in (error.context, error.problem) if part)
            raise _Malformed(place, f"is no YAML: {problem}") from error
        except YAMLError as error:
            raise _Malformed(Place(1, 1), f"is no YAML: {error}") from error

    def _document(self) -> Node:
        events = iter(YAML(typ="safe", pure=True).parse(self._text))
        root: Node | None = None
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent" and root is not None:
                raise _Malformed(_place(event), "is a second document; expected one")
            if kind.startswith(("Document", "Stream")):
                continue
            root = self._node(event, events)
        return root if root is not None else Mapping(Place(1, 1))

    def _node(self, event: Any, events: Iterator[Any]) -> Node:
        place = _place(event)
        if getattr(event, "tag", None):
            raise _Malformed(place, f"has the tag {event.tag}; tags are not used here")
        kind = type(event).__name__
        if kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise _Malformed(place, f"refers to *{event.anchor}, which is not defined before")
            return self._anchors[event.anchor]
        if kind == "ScalarEvent":
            node: Node = Scalar(place, event.value, not event.style)
        else:
            node = self._collection(kind, place, events)
        if event.anchor:  # after its content, so that nothing can contain itself
            self._anchors[event.anchor] = node
        return node

    def _collection(self, kind: str, place: Place, events: Iterator[Any]) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _Malformed(place, f"is nested deeper than {DEPTH_MAX} levels")
        node: Node
        if kind == "SequenceStartEvent":
            node = Sequence(place)
            while type(event := next(events)).__name__ != "SequenceEndEvent":
                node.items.append(self._node(event, events))
        else:
            node = Mapping(place)
            while type(event := next(events)).__name__ != "MappingEndEvent":
                key = self._node(event, events)
                if not isinstance(key, Scalar):
                    raise _Malformed(key.place, "is a list or mapping as a key; expected a text")
                _put(node, key.text, key.place, self._node(next(events), events), self._duplicates)
        self._depth -= 1
        return node


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


_LEXEME = re.compile(r'[ \t\r\n]*(?:([{}\[\],:])|("(?:[^"\\\x00-\x1f]|\\.)*")|([^\s{}\[\],:"]+)|$)')
_PLAIN = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null")


class _Json:
    """One JSON text."""

    def __init__(self, text: str, duplicates: list[Fault]) -> None:
        self._text = text
        self._duplicates = duplicates
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._at = 0
        self._start = 0
        self._depth = 0

    def document(self) -> Node:
        root = self._value(self._lexeme())
        if self._lexeme():
            raise self._malformed("has more after its end; expected one JSON value")
        return root

    def _place(self) -> Place:
        line = bisect_right(self._lines, self._start)
        return Place(line, self._start - self._lines[line - 1] + 1)

    def _malformed(self, problem: str) -> _Malformed:
        return _Malformed(self._place(), f"is no JSON: {problem}")

    def _lexeme(self) -> str:
        """The next lexeme; empty at the end. `_start` is where it begins."""
        match = _LEXEME.match(self._text, self._at)
        if match is None:
            self._start = self._at
            raise self._malformed("a text does not end")
        self._at = match.end()
        lexeme = match[match.lastindex] if match.lastindex else ""
        self._start = self._at - len(lexeme)
        return lexeme

    def _value(self, lexeme: str) -> Node:
        place = self._place()
        if lexeme in {"{", "["}:
            self._depth += 1
            if self._depth > DEPTH_MAX:
                raise self._malformed(f"is nested deeper than {DEPTH_MAX} levels")
            node = self._object(place) if lexeme == "{" else self._array(place)
            self._depth -= 1
            return node
        if lexeme.startswith('"'):
            return Scalar(place, self._string(lexeme), plain=False)
        if not _PLAIN.fullmatch(lexeme):
            raise self._malformed(f"found {lexeme!r}, expected a value" if lexeme else "ends too early")
        return Scalar(place, lexeme, plain=True)

    def _string(self, lexeme: str) -> str:
        if "\\" not in lexeme:
            return lexeme[1:-1]
        try:
            return str(json.loads(lexeme))
        except ValueError as error:
            raise self._malformed(f"a text has a bad escape: {error}") from error

    def _array(self, place: Place) -> Sequence:
        node = Sequence(place)
        lexeme = self._lexeme()
        while lexeme != "]" or node.items:
            node.items.append(self._value(lexeme))
            if self._separator("]"):
                break
            lexeme = self._lexeme()
        return node

    def _object(self, place: Place) -> Mapping:
        node = Mapping(place)
        lexeme = self._lexeme()
        while lexeme != "}" or node.items:
            if not lexeme.startswith('"'):
                raise self._malformed(f"found {lexeme!r}, expected a key in quotes")
            key, at = self._string(lexeme), self._place()
            if self._lexeme() != ":":
                raise self._malformed(f"expected a colon after key {key!r}")
            _put(node, key, at, self._value(self._lexeme()), self._duplicates)
            if self._separator("}"):
                break
            lexeme = self._lexeme()
        return node

    def _separator(self, end: str) -> bool:
        """Whether the list or object ends here; otherwise there is a comma."""
        lexeme = self._lexeme()
        if lexeme not in {",", end}:
            raise self._malformed(f"found {lexeme!r}, expected a comma or {end!r}")
        return lexeme == end
