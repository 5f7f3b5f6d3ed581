"""What docs/deploy.md says of the chart is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from .conftest import CHART, Helm, Manifests
from .test_valid import api_faults

# What the page writes the same way: names of Kubernetes and of files.
NO_VALUES = ("resources.", "pod-security", "requirements.lock", "creditd.env")

PAGE = (CHART.parents[1] / "docs" / "deploy.md").read_text()


def block(language: str, containing: str) -> str:
    (found,) = [
        text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if containing in text
    ]
    return found


def test_the_install_command_is_taken(helm: Helm) -> None:
    commands = block("console", "helm install").replace("\\\n", " ").splitlines()
    (install,) = [each for each in commands if each.startswith("$ helm install")]
    done = helm.run(*shlex.split(install)[2:], "--dry-run=client")
    assert done.returncode == 0, done.stderr
    assert 'image: "registry.example/creditd:' in done.stdout


def test_the_policy_s_values_are_taken(helm: Helm, manifests_checker: Path) -> None:
    text = helm.template(values=block("yaml", "networkPolicy"))
    assert not api_faults(manifests_checker, text)
    assert len(list(Manifests(text).of("NetworkPolicy"))) == 2


def test_the_refusal_is_told_as_shown(helm: Helm) -> None:
    told = helm.refused("{config: {CREDITD_LOGLEVEL: INFO}, replicaCount: x}")
    # Helm tells them in no fixed order.
    assert set(block("text", "CREDITD_LOGLEVEL").splitlines()) <= set(told.splitlines())


def test_the_values_named_on_the_page_are_there() -> None:
    readme = (CHART / "README.md").read_text()
    named = re.findall(r"`([a-z][A-Za-z]+\.[A-Za-z.]+)`", PAGE.replace("config.CREDITD", ""))
    values = [each for each in named if not each.startswith(NO_VALUES)]
    assert len(values) > 5
    assert not [each for each in values if f"| `{each}" not in readme]
