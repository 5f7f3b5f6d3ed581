"""Whatever the values, the manifests are valid: to Helm, to schemas of several Kubernetes, to the API server's code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import CHART, KUBERNETES, Helm, Manifests

DIGEST = "sha256:" + "0123456789abcdef" * 4

EVERYTHING_ON = """
image: {repository: registry.example:5000/team/creditd, tag: 1.2.3-rc.1, pullPolicy: Always}
imagePullSecrets: [{name: registry}]
commonLabels: {team: billing, shared: common}
stores:
  postgres: {secretName: ledger-app, key: uri}
  redis: {secretName: cache.prod, key: url}
config:
  CREDITD_TRANSPORT: grpcio
  CREDITD_MAX_MESSAGE_BYTES: 1e6
  CREDITD_REQUEST_TIMEOUT_S: 2.5
  CREDITD_TEST_CLOCKS: false
  CREDITD_POLICY_CACHE_ACCOUNTS: 10000000
  CREDITD_PG_TIMEOUT_S: 0.01
extraEnv:
  - {name: PGSSLROOTCERT, value: /certs/ca.pem}
  - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
extraVolumes: [{name: certs, configMap: {name: ca}}]
extraVolumeMounts: [{name: certs, mountPath: /certs, readOnly: true}]
service: {type: LoadBalancer, port: 443, headless: true, annotations: {example.com/internal: "true"}}
networkPolicy:
  enabled: true
  ingress: {from: [{namespaceSelector: {matchLabels: {team: api}}, podSelector: {matchLabels: {app: gateway}}}]}
  egress:
    enabled: true
    dns: {to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]}
    postgres: {port: 6432, to: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.2.0/24]}}]}
    redis: {port: 6380, to: [{podSelector: {matchLabels: {app: valkey}}}]}
    extra: [{ports: [{protocol: TCP, port: 4317}]}]
podDisruptionBudget: {minAvailable: 50%}
autoscaling:
  enabled: true
  minReplicas: 3
  maxReplicas: 12
  metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 800Mi}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 600}}
migration:
  serviceAccountName: migrator
  podAnnotations: {sidecar.istio.io/inject: "false"}
serviceAccount: {name: creditd-server, annotations: {example.com/role: creditd}}
deploymentAnnotations: {reloader.stakater.com/auto: "true"}
podAnnotations: {example.com/scrape: "true"}
podLabels: {tier: backend, shared: pod}
priorityClassName: high
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {podAntiAffinity: {}}
topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
"""
EVERYTHING_OFF = """
replicaCount: 0
config: {CREDITD_LOG_LEVEL: null, CREDITD_LOG_FORMAT: null, CREDITD_DRAIN_GRACE_S: null}
service: {headless: false}
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
migration: {enabled: false}
serviceAccount: {create: false}
preStopSeconds: 0
resources: {requests: null, limits: null}
"""
OPENSHIFT = "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}"

CASES = {
    "defaults": "",
    "everything on": EVERYTHING_ON,
    "everything off": EVERYTHING_OFF,
    "one replica": "replicaCount: 1",
    "autoscaling": "autoscaling: {enabled: true}",
    "autoscaling without the CPU": """
        autoscaling:
          enabled: true
          targetCPUUtilizationPercentage: 0
          metrics: [{type: Pods, pods: {metric: {name: calls}, target: {type: AverageValue, averageValue: "500"}}}]
    """,
    "a digest": f"image: {{repository: registry.example/creditd, tag: v9, digest: '{DIGEST}'}}",
    "a full name of 63 characters": f"fullnameOverride: {'n' * 63}",
    "a name of 63 characters": f"nameOverride: {'n' * 63}",
    "egress": "networkPolicy: {egress: {enabled: true}}",
    "nobody may call": "networkPolicy: {ingress: {from: []}}",
    "a budget by number": "{replicaCount: 5, podDisruptionBudget: {maxUnavailable: 2}}",
    "a budget by percentage": "podDisruptionBudget: {maxUnavailable: 100%}",
    "a node port": "service: {type: NodePort}",
    "openshift": OPENSHIFT,
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def values(request: pytest.FixtureRequest) -> str:
    return request.param


# Each tool is built by the first test that needs it: one for each, so that none waits for all of them.
def test_lint_is_strict_and_silent(helm: Helm, values: str) -> None:
    done = helm.render(values, "lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["defaults", "everything on", "everything off"])
def test_helm_3_renders_the_same(helm: Helm, helm3: Helm, case: str) -> None:
    assert helm3.render(CASES[case], "lint", "--strict", CHART).returncode == 0
    options = ("--kube-version", "1.33")  # built from source, Helm 3 takes itself to be of the age of 1.20
    new, old = (Manifests(each.template(values=CASES[case], options=options)).all for each in (helm, helm3))
    assert sorted(map(str, old)) == sorted(map(str, new))


def test_the_schemas_of_each_kubernetes_take_it(
    helm: Helm, kubectl_validate: Path, values: str, tmp_path: Path
) -> None:
    for version in KUBERNETES:
        path = tmp_path / f"{version}.yaml"
        path.write_text(helm.template(values=values, options=("--kube-version", version)))
        assert not schema_faults(kubectl_validate, path, version)


def test_the_api_server_takes_it_and_all_pods_are_restricted(
    helm: Helm, manifests_checker: Path, values: str
) -> None:
    """On Kubernetes 1.37, whose code this is."""
    assert not api_faults(manifests_checker, helm.template(values=values, options=("--kube-version", "1.37")))


@pytest.mark.parametrize("name", ["c", "r" * 53, "my-creditd-2"])
def test_the_longest_and_shortest_release_names_are_taken(
    helm: Helm, manifests_checker: Path, name: str
) -> None:
    text = helm.template(name=name, values="networkPolicy: {egress: {enabled: true}}")
    assert not api_faults(manifests_checker, text)
    names = [each["metadata"]["name"] for each in Manifests(text).all]
    assert max(map(len, names)) <= 63


def test_a_kubernetes_without_stable_grpc_probes_is_refused(helm: Helm) -> None:
    assert "kubeVersion: >=1.27" in helm.refused("", options=("--kube-version", "1.26"))


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("replicas: 2", "replicas: two", "spec.replicas"),
        ("maxUnavailable: 0", "maxUnavailible: 0", "maxUnavailible"),
        (
            "terminationGracePeriodSeconds: 40",
            "terminationGracePeriodSeconds: soon",
            "terminationGracePeriod",
        ),
    ],
)
def test_the_schema_check_finds_faults(
    helm: Helm, kubectl_validate: Path, tmp_path: Path, right: str, wrong: str, named: str
) -> None:
    text = helm.template()
    assert right in text
    (tmp_path / "wrong.yaml").write_text(text.replace(right, wrong))
    assert named in schema_faults(kubectl_validate, tmp_path / "wrong.yaml", KUBERNETES[-1])


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        (
            "maxUnavailable: 0",
            "maxUnavailible: 0",
            'unknown field "spec.strategy.rollingUpdate.maxUnavailible"',
        ),
        ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot != true"),
        (
            "allowPrivilegeEscalation: false",
            "allowPrivilegeEscalation: true",
            "allowPrivilegeEscalation != false",
        ),
        ("failureThreshold: 6", "failureThreshold: -6", "livenessProbe.failureThreshold"),
        ("name: x-creditd\n", "name: x_creditd\n", "metadata.name"),
        (
            "\nkind: ConfigMap",
            "\nkind: Secret\nmetadata: {name: s}\n---\napiVersion: v1\nkind: ConfigMap",
            "no business",
        ),
    ],
)
def test_the_api_check_finds_faults(
    helm: Helm, manifests_checker: Path, right: str, wrong: str, named: str
) -> None:
    text = helm.template()
    assert right in text
    assert named in api_faults(manifests_checker, text.replace(right, wrong))


def schema_faults(kubectl_validate: Path, path: Path, version: str) -> str:
    """What the schemas of a Kubernetes version have against a file; nothing outside this machine is asked."""
    done = subprocess.run(
        [kubectl_validate, "--version", version, path],
        env={"PATH": os.defpath, "KUBECONFIG": os.devnull},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr if done.returncode else ""


def api_faults(checker: Path, text: str) -> str:
    """What Kubernetes' own code has against manifests."""
    done = subprocess.run([checker], input=text, check=False, capture_output=True, text=True)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout
