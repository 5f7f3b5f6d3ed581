"""Makes docs/api.md out of the protos: every service, RPC, message, field and enum with its comments."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

ROOT = Path(__file__).resolve().parent.parent
PROTOS = Path("protos")
PACKAGE = "creditd.v1"

# The order of the page: what is called on every request first, then what is set up for it.
FILES = ("entitlements", "accounts", "grants", "catalog", "ledger", "test_clocks")

_WELL_KNOWN = {
    "google.protobuf.Timestamp": "https://protobuf.dev/reference/protobuf/google.protobuf/#timestamp",
    "google.protobuf.Duration": "https://protobuf.dev/reference/protobuf/google.protobuf/#duration",
    "google.protobuf.Value": "https://protobuf.dev/reference/protobuf/google.protobuf/#value",
    "google.type.Money": "https://github.com/googleapis/googleapis/blob/master/google/type/money.proto",
}
_NOT_SERVED = "**Not served yet**: this release answers `UNIMPLEMENTED`."
_HEAD = """\
# API reference

<!-- Made from protos/ by scripts/generate_docs.py. Don't edit it: change a comment in a proto and run `make docs`. -->

Package `creditd.v1`, from [protos/creditd/v1](../protos/creditd/v1). [concepts.md](concepts.md) says what the words
mean, [grpcurl.md](grpcurl.md) has a command for every call.

- Amounts end in `_micros` and are whole micro-credits: 1 credit is 1,000,000. 64-bit numbers are strings in JSON.
- Instants are UTC, to the millisecond. A period or a window begins with its first instant and ends before its last.
- A field without `optional` that is 0, false or empty is the same as one that is left out.
- *not yet* marks calls that the API declares and this release answers with `UNIMPLEMENTED`. So it answers catalogs
  with parts that it does not serve yet, and names each such part; [concepts.md](concepts.md#the-catalog) lists them.
"""


@dataclass(slots=True)
class Api:
    """The files of the package, in the page's order, with their comments by path, and who uses which type."""

    files: list[descriptor_pb2.FileDescriptorProto]
    comments: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)
    users: dict[str, list[str]] = field(default_factory=dict)


def api_page(unserved: frozenset[str]) -> str:
    """The page; `unserved` has the RPCs that this release does not serve, as Service.Method."""
    api = _load()
    lines = [_HEAD, *_contents(api, unserved)]
    for file in api.files:
        lines += _file(api, file, unserved)
    page = "\n".join(lines).rstrip() + "\n"
    _check_anchors(page)
    return page


def services() -> Mapping[str, Sequence[str]]:
    """The methods of every service of the package."""
    return {
        service.name: [rpc.name for rpc in service.method]
        for file in _load().files
        for service in file.service
    }


def anchor(heading: str) -> str:
    """What GitHub makes of a heading to link to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _load() -> Api:
    sources = sorted(path.relative_to(ROOT) for path in (ROOT / PROTOS / "creditd" / "v1").glob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{PROTOS / 'third_party'}"]
        command += ["--include_source_info", f"--descriptor_set_out={out.name}", *map(str, sources)]
        subprocess.run(command, cwd=ROOT, check=True)
        found = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes())
    stems = {Path(file.name).stem: file for file in found.file}
    # A file that is not named above comes last.
    api = Api([stems[stem] for stem in (*FILES, *sorted(stems.keys() - set(FILES))) if stem in stems])
    for file in api.files:
        for location in file.source_code_info.location:
            api.comments[file.name, tuple(location.path)] = location.leading_comments
        for service in file.service:
            for rpc in service.method:
                for name in (rpc.input_type, rpc.output_type):
                    _note(api.users, name, f"{service.name}.{rpc.name}")
        for message, _ in _messages(file):
            for each in message.descriptor.field:
                if each.type_name and _map_entry(message, each) is None:
                    _note(api.users, each.type_name, message.name)
    return api


def _note(users: dict[str, list[str]], type_name: str, user: str) -> None:
    name = _short(type_name)
    if user != name and user not in users.setdefault(name, []):
        users[name].append(user)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message with its name below the package, such as Subscription or Outer.Inner."""

    name: str
    descriptor: descriptor_pb2.DescriptorProto


def _messages(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[_Message, tuple[int, ...]]]:
    """The messages of a file, with nested ones after their own, and their paths in the source info."""
    stack = [(_Message(message.name, message), (4, place)) for place, message in enumerate(file.message_type)]
    while stack:
        message, path = stack.pop(0)
        yield message, path
        stack[:0] = [
            (_Message(f"{message.name}.{nested.name}", nested), (*path, 3, place))
            for place, nested in enumerate(message.descriptor.nested_type)
            if not nested.options.map_entry
        ]


def _contents(api: Api, unserved: frozenset[str]) -> Iterator[str]:
    yield "## Contents\n"
    for file in api.files:
        for place, service in enumerate(file.service):
            comment = api.comments[file.name, (6, place)]
            yield f"**[{service.name}](#{anchor(service.name)})**: {_text(_first_sentence(comment))}\n"
            for rpc in service.method:
                name = f"{service.name}.{rpc.name}"
                mark = " *not yet*" if name in unserved else ""
                yield f"- [{rpc.name}](#{anchor(name)}){mark}"
            yield ""
    yield "**Types**\n"
    for file in api.files:
        names = [link for message, _ in _messages(file) for link in _type_links(message)]
        names += [f"[{enum.name}](#{anchor(enum.name)})" for enum in file.enum_type]
        yield f"- {_title(file)}: {', '.join(names)}"
    yield ""


def _type_links(message: _Message) -> Iterator[str]:
    yield f"[{message.name}](#{anchor(message.name)})"
    for enum in message.descriptor.enum_type:
        name = f"{message.name}.{enum.name}"
        yield f"[{name}](#{anchor(name)})"


def _title(file: descriptor_pb2.FileDescriptorProto) -> str:
    return file.service[0].name if file.service else Path(file.name).stem.capitalize()


def _file(api: Api, file: descriptor_pb2.FileDescriptorProto, unserved: frozenset[str]) -> Iterator[str]:
    if not file.service:
        yield f"## {_title(file)}\n"
    for place, service in enumerate(file.service):
        yield f"## {service.name}\n"
        yield f"`{PACKAGE}.{service.name}`, in [{Path(file.name).name}](../{PROTOS}/{file.name})\n"
        yield _prose(api.comments[file.name, (6, place)])
        for number, rpc in enumerate(service.method):
            name = f"{service.name}.{rpc.name}"
            yield f"### {name}\n"
            yield f"{_sent(rpc.input_type, rpc.client_streaming)} → {_sent(rpc.output_type, rpc.server_streaming)}\n"
            if name in unserved:
                yield _NOT_SERVED + "\n"
            yield _prose(api.comments[file.name, (6, place, 2, number)])
    for message, path in _messages(file):
        yield from _message(api, file, message, path)
    for place, enum in enumerate(file.enum_type):
        yield from _enum(api, file, enum, enum.name, (5, place))


def _sent(type_name: str, streaming: bool) -> str:
    return ("a stream of " if streaming else "") + _link(type_name)


def _message(
    api: Api, file: descriptor_pb2.FileDescriptorProto, message: _Message, path: tuple[int, ...]
) -> Iterator[str]:
    yield f"### {message.name}\n"
    yield _prose(api.comments[file.name, path])
    yield from _used_by(api, message.name)
    if message.descriptor.field:
        yield "| field | type | |"
        yield "| --- | --- | --- |"
        for place, each in enumerate(message.descriptor.field):
            comment = api.comments[file.name, (*path, 2, place)]
            yield f"| `{each.name}` | {_type(message, each)} | {_text(comment)}{_choice(message, each)} |"
        yield ""
    for place, enum in enumerate(message.descriptor.enum_type):
        yield from _enum(api, file, enum, f"{message.name}.{enum.name}", (*path, 4, place))


def _used_by(api: Api, name: str) -> Iterator[str]:
    if users := api.users.get(name):
        yield "Used by " + ", ".join(f"[{user}](#{anchor(user)})" for user in users) + ".\n"


def _choice(message: _Message, each: Field) -> str:
    """Which other fields exclude this one."""
    if not each.HasField("oneof_index") or each.proto3_optional:
        return ""
    others = [
        other.name
        for other in message.descriptor.field
        if other.HasField("oneof_index") and other.oneof_index == each.oneof_index and other is not each
    ]
    names = [f"`{name}`" for name in others if name != each.name]
    return f" One of this, {', '.join(names)}." if names else ""


def _enum(
    api: Api,
    file: descriptor_pb2.FileDescriptorProto,
    enum: descriptor_pb2.EnumDescriptorProto,
    name: str,
    path: tuple[int, ...],
) -> Iterator[str]:
    yield f"### {name}\n"
    yield _prose(api.comments[file.name, path])
    yield from _used_by(api, name)
    yield "| value | number | |"
    yield "| --- | --- | --- |"
    for place, value in enumerate(enum.value):
        comment = api.comments[file.name, (*path, 2, place)]
        yield f"| `{value.name}` | {value.number} | {_text(comment)} |"
    yield ""


def _type(message: _Message, each: Field) -> str:
    entry = _map_entry(message, each)
    if entry is not None:
        return f"map of {_scalar(entry.field[0])} to {_scalar(entry.field[1])}"
    repeated = "repeated " if each.label == Field.LABEL_REPEATED else ""
    return f"{'optional ' if each.proto3_optional else repeated}{_scalar(each)}"


def _map_entry(message: _Message, each: Field) -> descriptor_pb2.DescriptorProto | None:
    for nested in message.descriptor.nested_type:
        if nested.options.map_entry and each.type_name.endswith(f".{message.name}.{nested.name}"):
            return nested
    return None


def _scalar(each: Field) -> str:
    if each.type_name:
        return _link(each.type_name)
    return Field.Type.Name(each.type).removeprefix("TYPE_").lower()


def _short(type_name: str) -> str:
    return type_name.removeprefix(".").removeprefix(f"{PACKAGE}.")


def _link(type_name: str) -> str:
    name = _short(type_name)
    if name in _WELL_KNOWN:
        return f"[{name.rpartition('.')[2]}]({_WELL_KNOWN[name]})"
    if name.startswith("google."):
        raise ValueError(f"say in _WELL_KNOWN where {name} is documented")
    return f"[{name}](#{anchor(name)})"


def _prose(comment: str) -> str:
    """A comment as Markdown, with its paragraphs."""
    return "\n\n".join(_text(paragraph) for paragraph in re.split(r"\n\s*\n", comment.strip())) + "\n"


def _text(comment: str) -> str:
    """A comment as Markdown in one line, as a table needs it."""
    parts = " ".join(comment.split()).replace("|", "\\|").split("`")
    # What stands between back-ticks is left alone.
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def _first_sentence(comment: str) -> str:
    return re.split(r"(?<=[.;:]) ", " ".join(comment.split()), maxsplit=1)[0].rstrip(";:.") + "."


def _check_anchors(page: str) -> None:
    """Every link leads to a heading, and no two headings to the same place."""
    headings = [anchor(heading) for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)]
    twice = {each for each in headings if headings.count(each) > 1}
    lost = set(re.findall(r"\]\(#([^)]+)\)", page)) - set(headings)
    if twice or lost:
        raise ValueError(f"headings of the same name: {sorted(twice)}; links to nowhere: {sorted(lost)}")
