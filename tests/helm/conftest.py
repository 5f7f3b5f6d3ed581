"""The chart, rendered by real Helm and judged by Kubernetes' own code; all of it built by the Go toolchain."""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.go import go_module, go_program

CHART = Path(__file__).parents[2] / "helm" / "creditd"
# Building Helm takes two minutes of two cores when nothing is cached.
BUILD_TIMEOUT_S = 1500
# Those whose schemas kubectl-validate brings; tests/helm/manifests stands for the newest.
KUBERNETES = ("1.27", "1.28", "1.29", "1.30")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(BUILD_TIMEOUT_S))


@dataclass(frozen=True)
class Helm:
    """A Helm program that sees no cluster, and nothing of its user's settings."""

    program: Path
    home: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        folders = {f"HELM_{name}_HOME": str(self.home / name) for name in ("CACHE", "CONFIG", "DATA")}
        return subprocess.run(
            [self.program, *arguments],
            env={"PATH": os.defpath, "HOME": str(self.home), "KUBECONFIG": os.devnull, **folders},
            check=False,
            capture_output=True,
            text=True,
        )

    def template(
        self, *, values: str = "", name: str = "x", namespace: str = "default", options: tuple[str, ...] = ()
    ) -> str:
        """The manifests for values given as YAML."""
        done = self.render(values, "template", name, CHART, "--namespace", namespace, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, values: str, name: str = "x", options: tuple[str, ...] = ()) -> str:
        """What Helm says against these values."""
        done = self.render(values, "template", name, CHART, *options)
        assert done.returncode != 0, "these values were taken"
        return done.stderr

    def render(self, values: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        path = self.home / "values.yaml"
        path.write_text(values)
        return self.run(*arguments, "--values", path)


class Manifests:
    """Rendered manifests by kind and component."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.all: list[dict[str, Any]] = [each for each in YAML(typ="safe").load_all(text) if each]

    def of(self, kind: str) -> Iterator[dict[str, Any]]:
        return (copy.deepcopy(each) for each in self.all if each["kind"] == kind)

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        (found,) = [each for each in self.of(kind) if not name or each["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Metadata and spec of each pod that there would be."""
        for each in self.all:
            if each["kind"] in ("Deployment", "Job"):
                yield each["spec"]["template"]["metadata"], each["spec"]["template"]["spec"]
            elif each["kind"] == "Pod":
                yield each["metadata"], each["spec"]

    @property
    def server(self) -> dict[str, Any]:
        """The server's container."""
        (container,) = self.one("Deployment")["spec"]["template"]["spec"]["containers"]
        return container


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(go_program("helm.sh/helm/v4/cmd/helm", "v4.3.1"), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def helm3(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(go_program("helm.sh/helm/v3/cmd/helm", "v3.22.0"), tmp_path_factory.mktemp("helm3"))


@pytest.fixture(scope="session")
def kubectl_validate() -> Path:
    return go_program("sigs.k8s.io/kubectl-validate", "v0.0.4")


@pytest.fixture(scope="session")
def manifests_checker() -> Path:
    return go_module(Path(__file__).parent / "manifests")
