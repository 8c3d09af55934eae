"""What is filled in, field by field as the Kubernetes API reference says."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.api.defaults import with_defaults

Json = dict[str, Any]


def pod(spec: Json) -> Json:
    return {"metadata": {"name": "a"}, "spec": spec}


def filled_container(container: Json) -> Json:
    spec = with_defaults("pods", pod({"containers": [{"name": "c", **container}]}))["spec"]
    found: Json = spec["containers"][0]
    return found


def test_a_bare_pod() -> None:
    given = pod({"containers": [{"name": "c", "image": "web"}]})
    before = copy.deepcopy(given)
    assert with_defaults("pods", given)["spec"] == {
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "containers": [
            {
                "name": "c",
                "image": "web",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }
        ],
    }
    assert given == before


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("localhost:5000/web", "Always"),
        ("localhost:5000/web:1", "IfNotPresent"),
        ("web@sha256:0123", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert filled_container({"image": image})["imagePullPolicy"] == policy


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes(probe: str) -> None:
    filled = filled_container({probe: {"grpc": {"port": 1}, "periodSeconds": 3}})
    assert filled[probe] == {
        "timeoutSeconds": 1,
        "periodSeconds": 3,
        "successThreshold": 1,
        "failureThreshold": 3,
        "grpc": {"port": 1, "service": ""},
    }
    filled = filled_container({probe: {"httpGet": {"port": 1}}})
    assert filled[probe]["httpGet"] == {"path": "/", "scheme": "HTTP", "port": 1}


def test_small_things_of_containers() -> None:
    filled = filled_container(
        {
            "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}],
            "env": [{"name": "A"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
            "lifecycle": {"preStop": {"httpGet": {"port": 1}}, "stopSignal": "SIGTERM"},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
        }
    )
    assert [port["protocol"] for port in filled["ports"]] == ["TCP", "UDP"]
    assert filled["env"][1]["valueFrom"]["fieldRef"] == {"apiVersion": "v1", "fieldPath": "x"}
    assert filled["lifecycle"]["preStop"]["httpGet"]["scheme"] == "HTTP"
    assert filled["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}


def test_volumes_and_service_account() -> None:
    spec = with_defaults(
        "pods",
        pod(
            {
                "containers": [],
                "serviceAccountName": "runner",
                "volumes": [{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}],
            }
        ),
    )["spec"]
    assert spec["serviceAccount"] == "runner"
    assert spec["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "secret": {"defaultMode": 0o644, "secretName": "s"}},
    ]


def test_a_bare_deployment() -> None:
    spec = with_defaults("deployments.apps", {"spec": {"template": {}}})["spec"]
    assert spec["replicas"] == 1
    assert spec["revisionHistoryLimit"] == 10
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert spec["template"]["spec"]["restartPolicy"] == "Always"
    assert "enableServiceLinks" not in spec["template"]["spec"]


def test_what_is_given_stays() -> None:
    given = {
        "spec": {
            "replicas": 0,
            "strategy": {"type": "Recreate"},
            "progressDeadlineSeconds": 5,
            "revisionHistoryLimit": 0,
        }
    }
    assert with_defaults("deployments.apps", given) == given


def test_replica_set() -> None:
    assert with_defaults("replicasets.apps", {"spec": {}}) == {"spec": {"replicas": 1}}


def test_service() -> None:
    spec = with_defaults("services", {"spec": {"ports": [{"port": 80}]}})["spec"]
    assert spec == {
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None",
        "type": "ClusterIP",
        "ports": [{"protocol": "TCP", "targetPort": 80, "port": 80}],
    }


def test_services_of_other_types() -> None:
    external = with_defaults("services", {"spec": {"type": "ExternalName"}})["spec"]
    assert external == {"sessionAffinity": "None", "type": "ExternalName"}
    balancer = with_defaults(
        "services", {"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}}
    )["spec"]
    assert balancer["externalTrafficPolicy"] == "Cluster"
    assert balancer["allocateLoadBalancerNodePorts"] is True
    assert balancer["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_secret_texts_become_data() -> None:
    secret = with_defaults("secrets", {"data": {"a": "YQ=="}, "stringData": {"b": "b"}})
    assert secret == {"type": "Opaque", "data": {"a": "YQ==", "b": "Yg=="}}


def test_namespace_endpoint_slice_and_binding() -> None:
    namespace = with_defaults("namespaces", {"metadata": {"name": "a", "labels": {"x": "y"}}})
    assert namespace["metadata"]["labels"] == {"x": "y", "kubernetes.io/metadata.name": "a"}
    assert namespace["spec"] == {"finalizers": ["kubernetes"]}
    slice_ = with_defaults("endpointslices.discovery.k8s.io", {"ports": [{"port": 1}]})
    assert slice_ == {"endpoints": [], "ports": [{"name": "", "protocol": "TCP", "port": 1}]}
    binding = with_defaults(
        "rolebindings.rbac.authorization.k8s.io",
        {
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "s"}, {"kind": "User", "name": "u"}],
        },
    )
    assert binding["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "s"},
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"},
    ]


def test_a_kind_without_defaults_is_left_alone() -> None:
    given = {"data": {"a": "b"}}
    assert with_defaults("configmaps", given) is given
