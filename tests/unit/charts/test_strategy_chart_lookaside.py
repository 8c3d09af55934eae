"""What the strategy chart makes for lookaside: balancers that may see EndpointSlices, no more."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.errors import ChartError

from .test_charts import restricted_violations

CHART = charts_directory() / "strategy"
BASE: dict[str, Any] = {
    "strategy": "lookaside",
    "backend": {"selector": {"app": "shop"}, "port": 8080},
}
BALANCERS = {
    "app.kubernetes.io/name": "strategy",
    "app.kubernetes.io/instance": "rel",
    "app.kubernetes.io/component": "balancer",
}


def objects(*, release: str = "rel", **balancer: Any) -> dict[tuple[str, str], Any]:
    """Return the chart's objects, by kind and name."""
    values = BASE | {"balancer": balancer}
    manifests = render(CHART, values=values, release=release, namespace="ns")
    assert {each["metadata"]["namespace"] for each in manifests} == {"ns"}
    return {(each["kind"], each["metadata"]["name"]): each for each in manifests}


def test_helm_lint_finds_nothing() -> None:
    report = helm_python.lint(CHART, BASE, strict=True)
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


def test_it_makes_these_objects_in_this_order() -> None:
    assert list(objects()) == [
        ("ServiceAccount", "rel-balancer"),
        ("Role", "rel-balancer"),
        ("RoleBinding", "rel-balancer"),
        ("Service", "rel-backends"),
        ("Service", "rel-lookaside"),
        ("Deployment", "rel-driver"),
        ("Deployment", "rel-balancer"),
    ]


def test_the_balancer_may_see_endpoint_slices_of_its_namespace_and_nothing_else() -> None:
    made = objects()
    assert made["Role", "rel-balancer"]["rules"] == [
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    binding = made["RoleBinding", "rel-balancer"]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": "rel-balancer",
    }
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "rel-balancer", "namespace": "ns"}
    ]


def test_only_the_balancers_pods_get_the_token() -> None:
    made = objects()
    field = "automountServiceAccountToken"
    assert made["ServiceAccount", "rel-balancer"][field] is False
    pods = {
        name: made["Deployment", name]["spec"]["template"]["spec"]
        for name in ("rel-balancer", "rel-driver")
    }
    assert pods["rel-balancer"][field] is True
    assert pods["rel-balancer"]["serviceAccountName"] == "rel-balancer"
    assert pods["rel-driver"][field] is False


def test_srv_records_of_the_port_grpclb_lead_to_the_balancers() -> None:
    made = objects(port=7000)
    service = made["Service", "rel-lookaside"]["spec"]
    assert service == {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": BALANCERS,
        "ports": [
            {
                "name": "grpclb",
                "port": 7000,
                "targetPort": "grpclb",
                "protocol": "TCP",
                "appProtocol": "kubernetes.io/h2c",
            }
        ],
    }
    balancers = made["Deployment", "rel-balancer"]["spec"]
    assert balancers["selector"]["matchLabels"] == BALANCERS
    assert balancers["template"]["metadata"]["labels"].items() >= BALANCERS.items()
    [container] = balancers["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "grpclb", "containerPort": 7000, "protocol": "TCP"}]


def test_there_are_two_balancers_of_the_drivers_image_and_for_the_backends() -> None:
    balancers = objects()["Deployment", "rel-balancer"]["spec"]
    assert balancers["replicas"] == 2
    [container] = balancers["template"]["spec"]["containers"]
    assert container["image"] == "pytest-grpclb:0.1.0"
    assert container["args"] == [
        "balancer",
        "--port=50053",
        "--service=rel-backends",
        "--port-name=grpc",
        "--report-interval-s=1",
    ]
    assert container["readinessProbe"]["grpc"] == {
        "port": 50053,
        "service": "grpc.lb.v1.LoadBalancer",
    }
    assert container["livenessProbe"]["grpc"] == {"port": 50053}


def test_the_backends_have_a_service_whose_endpoints_can_be_read() -> None:
    service = objects()["Service", "rel-backends"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["selector"] == {"app": "shop"}
    assert [(port["name"], port["targetPort"]) for port in service["ports"]] == [("grpc", 8080)]


def test_roles_may_be_somebody_elses_to_give() -> None:
    made = objects(rbac={"create": False})
    assert [kind for kind, _ in made if "Role" in kind] == []
    assert ("ServiceAccount", "rel-balancer") in made


@pytest.mark.parametrize(
    ("account", "name"),
    [
        ({"create": True, "name": "mine"}, "mine"),
        ({"create": False, "name": "mine"}, "mine"),
        ({"create": False}, "default"),
    ],
)
def test_the_account_may_be_another(account: dict[str, Any], name: str) -> None:
    made = objects(serviceAccount=account)
    assert (("ServiceAccount", name) in made) is account["create"]
    assert made["RoleBinding", "rel-balancer"]["subjects"][0]["name"] == name
    pod = made["Deployment", "rel-balancer"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == name


def test_its_pods_satisfy_the_restricted_pod_security_standard() -> None:
    pod = objects()["Deployment", "rel-balancer"]["spec"]["template"]["spec"]
    assert restricted_violations(pod) == []


def test_the_longest_names_that_helm_allows_fit_uncut() -> None:
    longest = "r" * 53
    names = {name for _, name in objects(release=longest)}
    assert names == {f"{longest}-{end}" for end in ("backends", "balancer", "driver", "lookaside")}
    assert max(map(len, names)) == 63


def test_its_other_values_reach_the_pods() -> None:
    made = objects(
        replicas=3,
        reportIntervalSeconds=0,
        extraEnv=[{"name": "GRPC_VERBOSITY", "value": "debug"}],
        podAnnotations={"sidecar.istio.io/inject": "false"},
        resources={"limits": {"memory": "1Gi"}},
        nodeSelector={"kubernetes.io/os": "linux"},
        tolerations=[{"operator": "Exists"}],
        affinity={"nodeAffinity": {}},
    )["Deployment", "rel-balancer"]["spec"]
    pod = made["template"]["spec"]
    [container] = pod["containers"]
    assert made["replicas"] == 3
    assert made["template"]["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert container["args"][-1] == "--report-interval-s=0"
    assert container["env"] == [{"name": "GRPC_VERBOSITY", "value": "debug"}]
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["affinity"] == {"nodeAffinity": {}}


@pytest.mark.parametrize(
    ("balancer", "complaint"),
    [
        ({"replicas": 0}, "at '/balancer/replicas': minimum: got 0, want 1"),
        ({"rbac": {"make": True}}, "at '/balancer/rbac': additional properties 'make' not allowed"),
        (
            {"serviceAccount": {"create": "yes"}},
            "at '/balancer/serviceAccount/create': got string, want boolean",
        ),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(
    balancer: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ChartError) as caught:
        objects(**balancer)
    assert str(caught.value).endswith(f"\nstrategy:\n- {complaint}")
