"""What the manifests make happen: who selects whom, what is restricted, what settings become, how long a stop takes."""

from __future__ import annotations

from typing import Any

import pytest

import creditd
from creditd.config import load_settings

from .conftest import Helm, Manifests
from .test_valid import CASES, DIGEST, EVERYTHING_OFF, EVERYTHING_ON, OPENSHIFT

ALL = pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())


def environment(container: dict[str, Any], config: dict[str, str]) -> dict[str, str]:
    """The variables of a container as its process finds them, with addresses for those that come from Secrets."""
    found = dict(config)
    for each in container["env"]:
        secret = each.get("valueFrom", {}).get("secretKeyRef")
        found[each["name"]] = (
            {
                "CREDITD_POSTGRES_DSN": "postgresql://u:p@db/creditd",
                "CREDITD_REDIS_URL": "redis://:p@cache:6379/0",
            }[each["name"]]
            if secret
            else each.get("value", "")
        )
    return found


def is_subset(labels: dict[str, str], of: dict[str, str]) -> bool:
    return labels.items() <= of.items()


@ALL
def test_what_selects_the_servers_pods_selects_them_and_no_other(helm: Helm, values: str) -> None:
    made = Manifests(helm.template(values=values))
    deployment = made.one("Deployment")
    server = deployment["spec"]["template"]["metadata"]["labels"]
    others = [meta["labels"] for meta, _ in made.pods() if meta["labels"] != server]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in made.of("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in made.of("PodDisruptionBudget")]
    selectors += [
        each["spec"]["podSelector"]["matchLabels"]
        for each in made.of("NetworkPolicy")
        if "helm.sh/hook" not in each["metadata"].get("annotations", {})
    ]
    spreads = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selectors += [each["labelSelector"]["matchLabels"] for each in spreads]

    assert others
    for selector in selectors:
        assert is_subset(selector, server)
        assert not [each for each in others if is_subset(selector, each)]


@ALL
def test_no_secret_and_no_value_of_one_is_in_the_chart(helm: Helm, values: str) -> None:
    made = Manifests(helm.template(values=values))
    assert not list(made.of("Secret"))
    for name in ("CREDITD_POSTGRES_DSN", "CREDITD_REDIS_URL"):
        (variable,) = [each for each in made.server["env"] if each["name"] == name]
        assert set(variable) == {"name", "valueFrom"}
        assert set(variable["valueFrom"]) == {"secretKeyRef"}


@ALL
def test_every_pod_is_restricted_field_by_field(helm: Helm, values: str) -> None:
    for _, spec in Manifests(helm.template(values=values)).pods():
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"].get("runAsUser", 1) != 0
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not [port for port in container.get("ports", []) if "hostPort" in port]


@ALL
def test_the_settings_of_server_and_migration_are_ones_that_creditd_takes(helm: Helm, values: str) -> None:
    made = Manifests(helm.template(values=values))
    config = made.one("ConfigMap")["data"]
    assert made.server["envFrom"] == [{"configMapRef": {"name": made.one("ConfigMap")["metadata"]["name"]}}]

    server = load_settings(environment(made.server, config))
    assert server.listen == "0.0.0.0:50051"
    assert server.postgres_dsn is not None
    assert server.redis_url is not None
    for job in made.of("Job"):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        migrating = load_settings(environment(container, {}))
        # All but what it has no use for: so that what is wrong with them stops an upgrade before it begins.
        unused = {"listen": server.listen, "redis_url": server.redis_url}
        assert migrating.model_copy(update=unused) == server


@pytest.mark.parametrize(
    ("given", "name", "text"),
    [
        ("1e6", "MAX_MESSAGE_BYTES", "1000000"),
        ("67108864", "MAX_MESSAGE_BYTES", "67108864"),
        ("10000000", "POLICY_CACHE_ACCOUNTS", "10000000"),
        ("2.5", "REQUEST_TIMEOUT_S", "2.5"),
        ("1e-2", "PG_TIMEOUT_S", "0.01"),
        ("0", "DRAIN_GRACE_S", "0"),
        ("true", "TEST_CLOCKS", "true"),
        ("false", "TEST_CLOCKS", "false"),
    ],
)
def test_numbers_and_switches_are_written_as_creditd_reads_them(
    helm: Helm, given: str, name: str, text: str
) -> None:
    by_file = helm.template(values=f"config: {{CREDITD_{name}: {given}}}")
    assert Manifests(by_file).one("ConfigMap")["data"][f"CREDITD_{name}"] == text
    if "e" not in given or given in {"true", "false"}:  # --set has no exponents
        by_option = helm.template(options=("--set", f"config.CREDITD_{name}={given}"))
        assert Manifests(by_option).one("ConfigMap")["data"][f"CREDITD_{name}"] == text


@ALL
def test_calls_in_flight_have_their_grace_before_the_pod_is_killed(helm: Helm, values: str) -> None:
    made = Manifests(helm.template(values=values))
    grace = load_settings(environment(made.server, made.one("ConfigMap")["data"])).drain_grace_s
    command = (
        made.server.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    )
    killed = made.one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert command[0] == "sleep"
    assert killed > float(command[1]) + grace


def test_a_drain_is_over_before_failed_liveness_probes_would_end_it(helm: Helm) -> None:
    """Kubernetes stops probing a pod that terminates; this holds for a process that was told to stop otherwise."""
    made = Manifests(helm.template())
    probe = made.server["livenessProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > 20


def test_liveness_asks_for_the_process_and_readiness_for_the_service(helm: Helm) -> None:
    server = Manifests(helm.template(values="port: 6000")).server
    assert server["livenessProbe"]["grpc"] == {"port": 6000, "service": "liveness"}
    assert server["startupProbe"]["grpc"] == {"port": 6000, "service": "liveness"}
    assert server["readinessProbe"]["grpc"] == {"port": 6000, "service": ""}


def test_an_autoscaler_finds_its_deployment_and_alone_sets_the_replicas(helm: Helm) -> None:
    made = Manifests(helm.template(values="{replicaCount: 4, autoscaling: {enabled: true}}"))
    spec = made.one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x-creditd"}
    assert "replicas" not in made.one("Deployment")["spec"]

    made = Manifests(helm.template(values="replicaCount: 4"))
    assert made.one("Deployment")["spec"]["replicas"] == 4
    assert not list(made.of("HorizontalPodAutoscaler"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("", {"maxUnavailable": 1}),
        ("podDisruptionBudget: {maxUnavailable: 2}", {"maxUnavailable": 2}),
        ("podDisruptionBudget: {minAvailable: 1}", {"minAvailable": 1}),
        ("podDisruptionBudget: {minAvailable: 50%}", {"minAvailable": "50%"}),
    ],
)
def test_a_budget_has_one_limit(helm: Helm, values: str, expected: dict[str, object]) -> None:
    spec = Manifests(helm.template(values=values)).one("PodDisruptionBudget")["spec"]
    assert {name: spec[name] for name in ("minAvailable", "maxUnavailable") if name in spec} == expected


def test_callers_are_those_that_were_named_and_the_chart_s_own_test(helm: Helm) -> None:
    made = Manifests(
        helm.template(values="networkPolicy: {ingress: {from: [{ipBlock: {cidr: 10.0.0.0/8}}]}}")
    )
    spec = made.one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    (rule,) = spec["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 50051}]
    block, test = rule["from"]
    assert block == {"ipBlock": {"cidr": "10.0.0.0/8"}}
    assert is_subset(test["podSelector"]["matchLabels"], made.one("Pod")["metadata"]["labels"])
    # An empty list would be everybody to Kubernetes.
    nobody = Manifests(helm.template(values="networkPolicy: {ingress: {from: []}}")).one("NetworkPolicy")
    assert nobody["spec"]["ingress"][0]["from"] == [test]


def test_the_pods_reach_only_dns_and_their_stores(helm: Helm) -> None:
    made = Manifests(helm.template(values=EVERYTHING_ON))
    server, migration = made.one("NetworkPolicy", "x-creditd"), made.one("NetworkPolicy", "x-creditd-migrate")

    def ports(policy: dict[str, Any]) -> list[int]:
        return [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]

    assert server["spec"]["policyTypes"] == migration["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert sorted(ports(server)) == [53, 53, 4317, 6380, 6432]
    assert sorted(ports(migration)) == [53, 53, 4317, 6432]
    assert "ingress" not in migration["spec"]
    job = made.one("Job")["spec"]["template"]["metadata"]["labels"]
    assert is_subset(migration["spec"]["podSelector"]["matchLabels"], job)


def test_the_migration_needs_nothing_of_the_chart_that_is_made_after_it(helm: Helm) -> None:
    """A hook: it runs before an install, when there is nothing, and before an upgrade, when the old release serves."""
    made = Manifests(helm.template(values="networkPolicy: {egress: {enabled: true}}"))
    job = made.one("Job")
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    policy = made.one("NetworkPolicy", "x-creditd-migrate")
    notes = job["metadata"]["annotations"]
    assert (
        notes["helm.sh/hook"]
        == policy["metadata"]["annotations"]["helm.sh/hook"]
        == "pre-install,pre-upgrade"
    )
    assert "before-hook-creation" in notes["helm.sh/hook-delete-policy"]
    assert int(policy["metadata"]["annotations"]["helm.sh/hook-weight"]) < int(notes["helm.sh/hook-weight"])
    assert "serviceAccountName" not in spec
    assert "envFrom" not in container
    assert container["args"] == ["migrate"]
    assert container["image"] == made.server["image"]
    assert spec["restartPolicy"] == "Never"


def test_an_upgrade_replaces_replicas_one_by_one_and_takes_none_away_first(helm: Helm) -> None:
    strategy = Manifests(helm.template()).one("Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_a_change_of_a_setting_is_a_rollout_and_one_of_the_replicas_is_not(helm: Helm) -> None:
    def pods(values: str) -> Any:
        return Manifests(helm.template(values=values)).one("Deployment")["spec"]["template"]

    assert pods("config: {CREDITD_PG_POOL_MAX: 9}") != pods("config: {CREDITD_PG_POOL_MAX: 10}")
    assert pods("replicaCount: 3") == pods("")


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ("", f"creditd:{creditd.__version__}"),
        ("image: {repository: r.example/c, tag: v2}", "r.example/c:v2"),
        (f"image: {{tag: v2, digest: '{DIGEST}'}}", f"creditd@{DIGEST}"),
    ],
)
def test_all_pods_run_the_same_image(helm: Helm, values: str, image: str) -> None:
    pods = [spec for _, spec in Manifests(helm.template(values=values)).pods()]
    assert {container["image"] for spec in pods for container in spec["containers"]} == {image}
    assert len(pods) == 3


def test_what_is_added_reaches_server_and_migration(helm: Helm) -> None:
    made = Manifests(helm.template(values=EVERYTHING_ON))
    for kind in ("Deployment", "Job"):
        spec = made.one(kind)["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert {"name": "PGSSLROOTCERT", "value": "/certs/ca.pem"} in container["env"]
        assert [each["mountPath"] for each in container["volumeMounts"]] == ["/tmp", "/certs"]
        assert [each["name"] for each in spec["volumes"]] == ["tmp", "certs"]
    labels = made.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["tier"], labels["shared"]) == ("billing", "backend", "pod")
    assert all(each["metadata"]["labels"]["team"] == "billing" for each in made.all)


def test_everything_off_leaves_the_service_itself(helm: Helm) -> None:
    made = Manifests(helm.template(values=EVERYTHING_OFF))
    assert sorted(each["kind"] for each in made.all) == ["ConfigMap", "Deployment", "Pod", "Service"]
    assert made.one("Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "default"


def test_a_null_takes_a_line_out_of_the_security_context(helm: Helm) -> None:
    for _, spec in Manifests(helm.template(values=OPENSHIFT)).pods():
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_test_pod_asks_the_service(helm: Helm) -> None:
    made = Manifests(helm.template(values="service: {port: 443}"))
    (container,) = made.one("Pod")["spec"]["containers"]
    assert container["args"] == ["health", "--address", "x-creditd:443"]
    assert made.one("Service", "x-creditd")["spec"]["ports"][0]["port"] == 443
    assert made.one("Pod")["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_the_headless_service_leads_to_the_pods_own_port(helm: Helm) -> None:
    made = Manifests(helm.template(values="{port: 6000, service: {port: 443, type: LoadBalancer}}"))
    spec = made.one("Service", "x-creditd-headless")["spec"]
    assert (spec["type"], spec["clusterIP"], spec["ports"][0]["port"]) == ("ClusterIP", "None", 6000)
