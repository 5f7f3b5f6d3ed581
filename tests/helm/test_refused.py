"""Wrong values are refused before anything is installed, by a message that names the field."""

from __future__ import annotations

import pytest

from .conftest import Helm


@pytest.mark.parametrize(
    ("values", "told"),
    [
        # Names that are not there.
        ("replicas: 3", ["additional properties 'replicas' not allowed"]),
        ("image: {version: v1}", ["/image", "'version'"]),
        ("networkpolicy: {enabled: false}", ["'networkpolicy'"]),
        ("networkPolicy: {ingress: {form: []}}", ["/networkPolicy/ingress", "'form'"]),
        ("probes: {liveness: {service: x}}", ["/probes/liveness", "'service'"]),
        ("config: {CREDITD_LOGLEVEL: INFO}", ["/config", "'CREDITD_LOGLEVEL'"]),
        ("config: {LOG_LEVEL: INFO}", ["/config", "'LOG_LEVEL'"]),
        ("affinity: {podAntiAfinity: {}}", ["/affinity", "'podAntiAfinity'"]),
        # Wrong types.
        ("replicaCount: '3'", ["/replicaCount", "got string, want integer"]),
        ("replicaCount: 1.5", ["/replicaCount", "got number, want integer"]),
        ("autoscaling: {enabled: 'yes'}", ["/autoscaling/enabled", "got string, want boolean"]),
        ("tolerations: {key: dedicated}", ["/tolerations", "got object, want array"]),
        ("podAnnotations: {scrape: true}", ["/podAnnotations/scrape", "got boolean, want string"]),
        ("config: {CREDITD_DRAIN_GRACE_S: 20s}", ["/config/CREDITD_DRAIN_GRACE_S", "pattern"]),
        ("config: {CREDITD_TEST_CLOCKS: 'false'}", ["/config/CREDITD_TEST_CLOCKS", "want boolean"]),
        # Out of range, or not one of.
        ("replicaCount: -1", ["/replicaCount", "minimum"]),
        ("port: 80", ["/port", "minimum", "1,024"]),
        ("service: {port: 70000}", ["/service/port", "maximum", "65,535"]),
        ("service: {type: ExternalName}", ["/service/type", "ClusterIP"]),
        ("image: {pullPolicy: Sometimes}", ["/image/pullPolicy", "IfNotPresent"]),
        ("config: {CREDITD_PG_POOL_MAX: 0}", ["/config/CREDITD_PG_POOL_MAX", "minimum"]),
        ("config: {CREDITD_LOG_LEVEL: LOUD}", ["/config/CREDITD_LOG_LEVEL", "'WARNING'"]),
        ("probes: {readiness: {periodSeconds: 0}}", ["/probes/readiness/periodSeconds", "minimum"]),
        # Texts of another form.
        ("image: {digest: 'sha256:abc'}", ["/image/digest", "pattern"]),
        ("image: {repository: 'https://registry.example/creditd'}", ["/image/repository", "pattern"]),
        ("image: {repository: 'registry.example/creditd:v1'}", ["/image/repository", "pattern"]),
        ("image: {tag: 'a b'}", ["/image/tag", "pattern"]),
        (f"fullnameOverride: {'n' * 64}", ["/fullnameOverride", "pattern"]),
        ("fullnameOverride: Creditd", ["/fullnameOverride", "pattern"]),
        ("stores: {postgres: {key: a/b}}", ["/stores/postgres/key", "pattern"]),
        ("extraVolumeMounts: [{name: x, mountPath: certs}]", ["/extraVolumeMounts/0/mountPath", "pattern"]),
        # What is missing.
        ("stores: {redis: {secretName: ''}}", ["/stores/redis/secretName", "minLength"]),
        ("stores: {redis: null}", ["/stores", "missing property 'redis'"]),
        ("probes: {startup: null}", ["/probes", "missing property 'startup'"]),
        # Secrets, and what the chart sets itself.
        (
            "config: {CREDITD_POSTGRES_DSN: 'postgresql://u:hunter2@h/d'}",
            ["/config", "'CREDITD_POSTGRES_DSN'"],
        ),
        ("config: {CREDITD_REDIS_URL: 'redis://:hunter2@h'}", ["/config", "'CREDITD_REDIS_URL'"]),
        ("config: {CREDITD_LISTEN: '0.0.0.0:1'}", ["/config", "'CREDITD_LISTEN'"]),
        ("stores: {postgres: {dsn: 'postgresql://u:hunter2@h/d'}}", ["/stores/postgres", "'dsn'"]),
        (
            "extraEnv: [{name: CREDITD_REDIS_URL, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
            ["/extraEnv/0/name"],
        ),
        (
            "extraEnv: [{name: CREDITD_API_KEY, value: hunter2}]",
            ["/extraEnv/0", "missing property 'valueFrom'"],
        ),
        # Privileges.
        ("podSecurityContext: {runAsNonRoot: false}", ["/podSecurityContext/runAsNonRoot", "true"]),
        ("podSecurityContext: {runAsUser: 0}", ["/podSecurityContext/runAsUser", "minimum"]),
        ("securityContext: {privileged: true}", ["/securityContext/privileged", "false"]),
        ("securityContext: {allowPrivilegeEscalation: true}", ["/securityContext/allowPrivilegeEscalation"]),
        ("securityContext: {capabilities: {drop: [NET_RAW]}}", ["/securityContext/capabilities/drop", "ALL"]),
        # Labels that are the chart's own: the Deployment's selector, for one, can't be changed.
        ("podLabels: {app.kubernetes.io/instance: y}", ["/podLabels", "app.kubernetes.io/instance"]),
        ("commonLabels: {helm.sh/chart: y}", ["/commonLabels", "helm.sh/chart"]),
        # Two that exclude each other.
        (
            "podDisruptionBudget: {minAvailable: 1, maxUnavailable: 1}",
            ["/podDisruptionBudget", "minAvailable"],
        ),
        ("podDisruptionBudget: {maxUnavailable: 0}", ["/podDisruptionBudget/maxUnavailable", "minimum"]),
        ("podDisruptionBudget: {minAvailable: 100%}", ["/podDisruptionBudget/minAvailable", "pattern"]),
        ("networkPolicy: {ingress: {from: [{}]}}", ["/networkPolicy/ingress/from/0", "minProperties"]),
    ],
)
def test_the_schema_refuses(helm: Helm, values: str, told: list[str]) -> None:
    said = helm.refused(values)
    assert "values don't meet the specifications of the schema" in said
    assert not [each for each in told if each not in said], said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            "autoscaling: {enabled: true, minReplicas: 7}",
            "autoscaling.minReplicas is 7, which is more than autoscaling.maxReplicas, 6",
        ),
        (
            "terminationGracePeriodSeconds: 25",
            "must be more than preStopSeconds (5) and config.CREDITD_DRAIN_GRACE_S (20) together",
        ),
        ("config: {CREDITD_DRAIN_GRACE_S: '35.5'}", "(35.5) together"),
        ("config: {CREDITD_DRAIN_GRACE_S: 35}", "terminationGracePeriodSeconds is 40"),
        ("{preStopSeconds: 20, config: {CREDITD_DRAIN_GRACE_S: null}}", "(20) together"),
        (
            "{autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}",
            "a share of resources.requests.cpu, which is not set",
        ),
        (
            "autoscaling: {enabled: true, targetCPUUtilizationPercentage: 0}",
            "autoscaling has nothing to go by",
        ),
        ("podDisruptionBudget: {minAvailable: 2}", "podDisruptionBudget.minAvailable is 2 of 2 replicas"),
        (
            "{podDisruptionBudget: {minAvailable: 3}, autoscaling: {enabled: true, minReplicas: 3}}",
            "podDisruptionBudget.minAvailable is 3 of 3 replicas",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(helm: Helm, values: str, told: str) -> None:
    assert told in helm.refused(values)


def test_a_release_whose_name_is_no_services_is_refused(helm: Helm) -> None:
    assert '"1st-creditd" can\'t be the name of a Service' in helm.refused("", name="1st")


@pytest.mark.parametrize(
    "values",
    [
        "{terminationGracePeriodSeconds: 26, config: {CREDITD_DRAIN_GRACE_S: 20.5}}",
        "{terminationGracePeriodSeconds: 6, config: {CREDITD_DRAIN_GRACE_S: 0}}",
        "{replicaCount: 3, podDisruptionBudget: {minAvailable: 2}}",
        "{replicaCount: 0, podDisruptionBudget: {minAvailable: 1}}",
        "autoscaling: {enabled: true, minReplicas: 6, maxReplicas: 6}",
        "global: {anything: 1}",
    ],
)
def test_values_that_just_fit_are_taken(helm: Helm, values: str) -> None:
    helm.template(values=values)


def test_all_faults_are_told_at_once(helm: Helm) -> None:
    said = helm.refused("{replicaCount: x, port: y, config: {CREDITD_X: 1}}")
    assert all(each in said for each in ("/replicaCount", "/port", "CREDITD_X"))
