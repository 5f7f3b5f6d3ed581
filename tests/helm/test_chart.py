"""The chart as a package: its version, its files, its documentation, its notes."""

from __future__ import annotations

import importlib.util
import json
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

import creditd
from creditd.config import Settings, variable

from .conftest import CHART, Helm

ROOT = CHART.parents[1]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = YAML(typ="safe").load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_chart", ROOT / "scripts" / "generate_chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_chart_and_service_have_one_version() -> None:
    about = YAML(typ="safe").load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == creditd.__version__


def test_readme_and_schema_are_fresh(generator: ModuleType) -> None:
    stale = [path.name for path, text in generator.fresh().items() if path.read_text() != text]
    assert not stale, "run `make chart`"


def test_every_value_is_described(generator: ModuleType) -> None:
    readme = (CHART / "README.md").read_text()
    for value in generator.values():  # raises for one without a description
        assert f"| `{value.path}` | " in readme


def test_a_value_without_a_description_is_an_error(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "values.yaml").write_text("# What a is.\na: 1\nb:\n  c: 2\n")
    monkeypatch.setattr(generator, "VALUES", tmp_path / "values.yaml")
    with pytest.raises(ValueError, match=r"b\.c has no comment above it"):
        list(generator.values())


def test_the_schema_knows_the_values_and_no_others() -> None:
    assert _paths(VALUES) == _properties(SCHEMA) - {"global"}


def test_the_schema_knows_every_setting_but_those_of_the_chart() -> None:
    own = {"CREDITD_POSTGRES_DSN", "CREDITD_REDIS_URL", "CREDITD_LISTEN"}
    assert (
        set(SCHEMA["properties"]["config"]["properties"]) == set(map(variable, Settings.model_fields)) - own
    )


def test_the_package_has_the_chart_and_nothing_else(helm: Helm, tmp_path: Path) -> None:
    done = helm.run("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / f"creditd-{creditd.__version__}.tgz") as package:
        names = {name.removeprefix("creditd/") for name in package.getnames()}
    templates = {f"templates/{path.relative_to(CHART / 'templates')}" for path in _files(CHART / "templates")}
    assert names == templates | {
        ".helmignore",
        "Chart.yaml",
        "README.md",
        "values.schema.json",
        "values.yaml",
    }


@pytest.mark.parametrize("name", ["values-prod.yaml", "templates/x.yaml.orig", ".git/HEAD", "old.tgz"])
def test_what_lies_beside_the_chart_is_not_packaged(helm: Helm, tmp_path: Path, name: str) -> None:
    copied = tmp_path / "creditd"
    for path in (*_files(CHART), Path(name)):
        target = copied / (path.relative_to(CHART) if path.is_absolute() else path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text() if path.is_absolute() else "password: hunter2")
    done = helm.run("package", copied, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / f"creditd-{creditd.__version__}.tgz") as package:
        assert f"creditd/{name}" not in package.getnames()
        assert "creditd/values.yaml" in package.getnames()


def test_the_packaged_chart_renders_as_the_folder_does(helm: Helm, tmp_path: Path) -> None:
    helm.run("package", CHART, "--destination", tmp_path)
    packaged = helm.run("template", "x", tmp_path / f"creditd-{creditd.__version__}.tgz")
    assert packaged.stdout == helm.template()


def notes(helm: Helm, values: str = "") -> str:
    """What Helm prints after an install; only Helm 4 does so without a cluster."""
    done = helm.render(values, "install", "credits", CHART, "--namespace", "billing", "--dry-run=client")
    assert done.returncode == 0, done.stderr
    return done.stdout.split("NOTES:\n")[1]


def test_notes_say_what_to_do_next(helm: Helm) -> None:
    assert notes(helm).rstrip() == (Path(__file__).parent / "notes.txt").read_text().rstrip()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ("migration: {enabled: false}", "run `creditd migrate` before each upgrade"),
        ("networkPolicy: {enabled: false}", "whoever reaches the port can burn credits"),
        (
            "service: {type: LoadBalancer}",
            "The Service is a LoadBalancer, and this release has no authentication",
        ),
        ("config: {CREDITD_TEST_CLOCKS: true}", "Never in production"),
        (
            "stores: {redis: {secretName: cache, key: url}}",
            "create secret generic cache \\\n       --from-literal=url=redis://",
        ),
    ],
)
def test_notes_warn_of_what_was_chosen(helm: Helm, values: str, line: str) -> None:
    assert line not in notes(helm)
    assert line in notes(helm, values)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


# Whose content is Kubernetes' own.
_OPAQUE = {"podSecurityContext", "securityContext", "resources", "migration.resources", "config", "affinity"}


def _paths(tree: dict[str, Any], above: str = "") -> set[str]:
    found = set()
    for key, value in tree.items():
        path = f"{above}{key}"
        inner = isinstance(value, dict) and value and path not in _OPAQUE
        found |= _paths(value, f"{path}.") if inner else {path}
    return found


def _properties(schema: dict[str, Any], above: str = "") -> set[str]:
    found = set()
    for key, each in schema["properties"].items():
        path = f"{above}{key}"
        resolved = each
        if "$ref" in each:
            resolved = SCHEMA["definitions"][each["$ref"].rpartition("/")[2]]
        free = path in _OPAQUE or path == "autoscaling.behavior" or "properties" not in resolved
        found |= {path} if free else _properties(resolved, f"{path}.")
    return found
