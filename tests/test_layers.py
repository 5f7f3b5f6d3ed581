"""The import rules of docs/architecture.md, and the sizes of functions and files, read from the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
FUNCTION_LINES = 70
FILE_LINES = 500

# Which parts of creditd each layer may import beside itself; "" is the package, as for `creditd.__version__`.
LAYERS: dict[str, frozenset[str]] = {
    "domain": frozenset(),
    "ledger": frozenset({"domain"}),
    "hot": frozenset({"domain"}),
    "engine": frozenset({"", "domain", "ledger", "hot"}),
    "workers": frozenset({"", "domain", "engine"}),
    "rpc": frozenset({"", "domain", "engine", "v1"}),
    "sidecar": frozenset({"", "domain", "engine", "v1"}),
    "embedded": frozenset(),
    "config": frozenset({"", "domain", "logs"}),
    "heap": frozenset(),
    "logs": frozenset({""}),
}
# `app` is where the parts are put together.
ANYTHING = {"app", "cli", "__main__"}

# Libraries, by prefix, and the only places that may use them. `embedded` looks after servers of both stores.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "asyncpg": ("creditd.ledger", "creditd.embedded"),
    "redis": ("creditd.hot", "creditd.embedded"),
    "hiredis": ("creditd.hot", "creditd.embedded"),
    "grpc": ("creditd.rpc", "creditd.v1", "creditd.sidecar", "creditd.cli"),
    "google": ("creditd.rpc", "creditd.v1", "creditd.sidecar", "creditd.cli"),
    "h2corn": ("creditd.rpc.hosts.asgi",),
}
# grpcio's companions are packages of their own.
FAMILIES = {"grpc_health": "grpc", "grpc_reflection": "grpc", "grpc_status": "grpc"}
ENVIRONMENT = ("creditd.config", "creditd.cli.environment", "creditd.cli.server", "creditd.embedded")


def _modules() -> dict[str, str]:
    """Every module of the package and its source, but for generated code."""
    modules = {}
    for path in sorted((SRC / "creditd").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        if parts[1] != "v1":
            modules[".".join(parts)] = path.read_text()
    return modules


MODULES = _modules()


def _is_in(module: str, place: str) -> bool:
    return module == place or module.startswith(place + ".")


def _imports(module: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the full dotted name of everything imported; of `from a import b` it is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _layer(name: str) -> str:
    """The layer of a dotted name of creditd, "" for a name in the package itself."""
    part = name.split(".")[1] if "." in name else ""
    root = SRC / "creditd"
    return part if (root / part).is_dir() or (root / f"{part}.py").is_file() else ""


def import_faults(module: str, source: str) -> list[str]:
    """What a module imports against the rules."""
    layer = _layer(module.removesuffix(".__init__"))
    faults = []
    for line, name in _imports(module, ast.parse(source)):
        where = f"{module}:{line} imports {name}"
        top = name.split(".", maxsplit=1)[0]
        if top == "creditd":
            target = _layer(name)
            if layer not in ANYTHING and target != layer and target not in LAYERS.get(layer, frozenset()):
                faults.append(f"{where}: {layer or 'the package'} may not use {target or 'the package'}")
            continue
        if layer == "domain" and top not in sys.stdlib_module_names:
            faults.append(f"{where}: domain uses the standard library only")
            continue
        places = LIBRARIES.get(FAMILIES.get(top, top))
        if places is not None and not any(_is_in(module, place) for place in places):
            faults.append(f"{where}: only {', '.join(places)} may use it")
    return faults


def environment_faults(module: str, source: str) -> list[str]:
    """Where a module reads the environment of the process though it may not."""
    if any(_is_in(module, place) for place in ENVIRONMENT):
        return []
    tree = ast.parse(source)
    lines = [
        line for line, name in _imports(module, tree) if name in {"os.environ", "os.environb", "os.getenv"}
    ]
    lines += [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "environb", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    return [f"{module}:{line} reads the environment" for line in lines]


def size_faults(module: str, source: str) -> list[str]:
    """Functions and files that are longer than anyone reads."""
    faults = []
    if (length := len(source.splitlines())) > FILE_LINES:
        faults.append(f"{module} has {length} lines, more than {FILE_LINES}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                faults.append(
                    f"{module}:{node.lineno} {node.name} has {length} lines, more than {FUNCTION_LINES}"
                )
    return faults


def test_layers_import_only_what_they_may() -> None:
    assert [fault for module, source in MODULES.items() for fault in import_faults(module, source)] == []


def test_only_the_configuration_reads_the_environment() -> None:
    assert [fault for module, source in MODULES.items() for fault in environment_faults(module, source)] == []


def test_functions_and_files_are_short() -> None:
    assert [fault for module, source in MODULES.items() for fault in size_faults(module, source)] == []


def test_every_part_of_the_package_has_its_rules() -> None:
    parts = {_layer(module.removesuffix(".__init__")) for module in MODULES}
    assert parts - set(LAYERS) - ANYTHING == {""}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("creditd.domain.decide", "import msgpack"),
        ("creditd.domain.decide", "from creditd.hot import codec"),
        ("creditd.domain.decide", "from ..hot.codec import pack"),
        ("creditd.domain.decide", "def late():\n    import asyncpg"),
        ("creditd.hot.store", "from creditd.ledger.append import append"),
        ("creditd.hot.store", "from creditd import engine"),
        ("creditd.ledger.append", "import creditd.hot.store"),
        ("creditd.ledger.append", "from creditd.config import Settings"),
        ("creditd.engine.consume", "import asyncpg"),
        ("creditd.engine.consume", "from creditd.v1 import entitlements_pb2"),
        ("creditd.engine.consume", "from google.protobuf import message"),
        ("creditd.workers.reaper", "from redis.asyncio import Redis"),
        ("creditd.rpc.entitlements", "from creditd.ledger import append"),
        ("creditd.rpc.hosts.__init__", "import h2corn"),
        ("creditd.config", "from grpc_health.v1 import health"),
        ("creditd.__init__", "from creditd.engine import Engine"),
        ("creditd.engine.consume", "from creditd.app import serve"),
    ],
)
def test_an_import_against_the_rules_is_found(module: str, source: str) -> None:
    assert len(import_faults(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("creditd.domain.decide", "from creditd.domain.state import Segment\nimport dataclasses"),
        ("creditd.hot.__init__", "from .store import HotStore"),
        ("creditd.hot.store", "import hiredis\nfrom ..domain.accounts import Epoch"),
        ("creditd.engine.consume", "from creditd import __version__, domain\nfrom creditd.hot import store"),
        (
            "creditd.rpc.hosts.asgi",
            "import h2corn\nfrom .base import Host\nfrom creditd.v1 import entitlements_pb2",
        ),
        ("creditd.cli.main", "from creditd.ledger import migrate\nfrom grpc_health.v1 import health"),
    ],
)
def test_an_import_by_the_rules_is_fine(module: str, source: str) -> None:
    assert import_faults(module, source) == []


@pytest.mark.parametrize(
    "read", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"]
)
def test_a_look_at_the_environment_is_found(read: str) -> None:
    assert len(environment_faults("creditd.engine.consume", read)) == 1
    assert environment_faults("creditd.cli.server", read) == []


def test_a_long_function_and_a_long_file_are_found() -> None:
    function = "def work():\n" + "    pass\n" * FUNCTION_LINES
    assert len(size_faults("creditd.engine.consume", function)) == 1
    assert len(size_faults("creditd.engine.consume", "pass\n" * (FILE_LINES + 1))) == 1
    assert size_faults("creditd.engine.consume", "def work():\n" + "    pass\n" * (FUNCTION_LINES - 1)) == []
