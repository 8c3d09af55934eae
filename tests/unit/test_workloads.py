"""Which of some manifests is the service under test."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.errors import ServiceError
from pytest_grpclb.model import Service
from pytest_grpclb.workloads import fitted, images_of, service_of


def workload(
    name: str = "shop",
    kind: str = "Deployment",
    *,
    ports: tuple[tuple[str, int], ...] = (("grpc", 8080),),
    selector: Any = None,
) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": f"{name}:1",
        "env": [{"name": "AGE", "value": "9"}, {"name": "OTHER", "value": "x"}],
        "ports": [{"name": port, "containerPort": number} for port, number in ports],
    }
    sidecar = {"name": "sidecar", "image": "proxy:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": selector or {"matchLabels": {"app": name}},
            "template": {"spec": {"containers": [sidecar, container]}},
        },
    }


def find(*manifests: Any, **more: Any) -> Service:
    return service_of(manifests, namespace="ns", source="here", **more)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_the_only_workload_is_found_with_its_port(kind: str) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    ports = (("metrics", 9090), ("grpc", 8080))
    assert find(config, workload(kind=kind, ports=ports)) == Service(
        name="shop",
        namespace="ns",
        selector={"app": "shop"},
        port=8080,
        deployment="shop",
        kind=kind,
    )


def test_a_name_chooses_and_a_kind_before_it_chooses_more() -> None:
    both = workload(), workload(kind="StatefulSet"), workload("cache")
    assert find(*both, workload="cache").deployment == "cache"
    assert find(*both, workload="statefulset/shop").kind == "StatefulSet"


def test_a_port_that_is_given_needs_no_declared_one() -> None:
    assert find(workload(ports=()), port=7000).port == 7000


@pytest.mark.parametrize(
    ("manifests", "name", "message"),
    [
        (
            [workload(), workload("db", "StatefulSet")],
            "",
            "here: one workload is the service under test, it has 2: Deployment/shop, "
            "StatefulSet/db; say which with --grpclb-workload=NAME",
        ),
        (
            [workload(), workload("db", "StatefulSet")],
            "sho",
            "here: no Deployment or StatefulSet is called 'sho'; it has: Deployment/shop, "
            "StatefulSet/db; correct --grpclb-workload",
        ),
        (
            [workload(), workload(kind="StatefulSet")],
            "shop",
            "here: several workloads are called 'shop': Deployment/shop, StatefulSet/shop; say "
            "which with --grpclb-workload=Deployment/shop",
        ),
        (
            [{"kind": "DaemonSet", "metadata": {"name": "shop"}}],
            "",
            "here: it has no Deployment or StatefulSet, only: DaemonSet; the service under test "
            "must be one",
        ),
        (
            [workload(ports=(("a", 1), ("b", 2)))],
            "",
            "here: Deployment/shop needs one container port, or one named 'grpc'; it has: a:1, "
            "b:2; say where its pods listen with --grpclb-service-port=N",
        ),
        (
            [workload(selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]})],
            "",
            "here: Deployment/shop selects its pods by {'matchExpressions': [{'key': 'app', "
            "'operator': 'Exists'}]}; it must have matchLabels and nothing else, for a Service has "
            "no expressions",
        ),
    ],
)
def test_what_is_not_clear_is_refused(manifests: Any, name: str, message: str) -> None:
    with pytest.raises(ServiceError) as caught:
        find(*manifests, workload=name)
    assert str(caught.value) == message


def test_a_fitted_workload_has_replicas_and_variables_where_it_listens() -> None:
    before = workload()
    after = fitted(before, replicas=4, environment={"AGE": "1"}, port=8080)
    sidecar, main = after["spec"]["template"]["spec"]["containers"]
    assert after["spec"]["replicas"] == 4
    assert "env" not in sidecar
    assert main["env"] == [{"name": "OTHER", "value": "x"}, {"name": "AGE", "value": "1"}]
    assert before == workload()


def test_images_are_those_of_all_workloads() -> None:
    assert images_of([workload(), workload("db", "StatefulSet")]) == ["proxy:1", "shop:1", "db:1"]
