"""The chart of what stands between clients and backends."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.errors import ChartError

CHART = charts_directory() / "strategy"
BACKEND = {"selector": {"app": "shop", "tier": "back"}, "port": 8080}


def kinds(values: dict[str, Any], *, release: str = "rel") -> dict[str, Any]:
    manifests = render(CHART, values=values, release=release, namespace="ns")
    by_kind: dict[str, Any] = {manifest["kind"]: manifest for manifest in manifests}
    assert list(by_kind) == ["Service", "Deployment"]
    assert len(manifests) == 2
    return by_kind


PORT = {
    "name": "grpc",
    "port": 8080,
    "targetPort": 8080,
    "protocol": "TCP",
    "appProtocol": "kubernetes.io/h2c",
}


def test_headless_is_a_service_without_an_address() -> None:
    service = kinds({"strategy": "headless", "backend": BACKEND})["Service"]
    assert service["metadata"]["name"] == "rel-headless"
    assert service["spec"] == {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": {"app": "shop", "tier": "back"},
        "ports": [PORT],
    }


def test_clusterip_is_a_service_with_an_address_of_the_clusters_choice() -> None:
    service = kinds({"strategy": "clusterip", "backend": BACKEND})["Service"]
    assert service["metadata"]["name"] == "rel-clusterip"
    assert service["spec"] == {
        "type": "ClusterIP",
        "selector": {"app": "shop", "tier": "back"},
        "ports": [PORT],
    }


@pytest.mark.parametrize("target", [9090, "api", "1e3"])
def test_pods_may_listen_elsewhere(target: int | str) -> None:
    service = kinds({"backend": BACKEND | {"targetPort": target, "portName": "web"}})["Service"]
    assert service["spec"]["ports"] == [PORT | {"targetPort": target, "name": "web"}]


def test_the_driver_is_one_pod_that_is_found_by_its_component() -> None:
    driver = kinds({"backend": BACKEND, "driver": {"port": 7000}})["Deployment"]
    assert driver["metadata"]["name"] == "rel-driver"
    assert driver["metadata"]["labels"]["app.kubernetes.io/component"] == "driver"
    assert driver["spec"]["replicas"] == 1
    assert driver["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "strategy",
        "app.kubernetes.io/instance": "rel",
        "app.kubernetes.io/component": "driver",
    }
    [container] = driver["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "pytest-grpclb:0.1.0"
    assert container["args"] == ["driver", "--port=7000"]
    assert container["ports"] == [{"name": "grpc", "containerPort": 7000, "protocol": "TCP"}]


def test_the_drivers_image_may_come_from_a_registry() -> None:
    image = {"repository": "localhost:5000/pytest-grpclb", "tag": "dev"}
    driver = kinds({"backend": BACKEND, "driver": {"image": image}})["Deployment"]
    [container] = driver["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "localhost:5000/pytest-grpclb:dev"


@pytest.mark.parametrize("strategy", ["headless", "clusterip"])
def test_the_longest_names_that_helm_allows_fit_uncut(strategy: str) -> None:
    longest = "r" * 53
    expected = {f"{longest}-{strategy}", f"{longest}-driver"}
    for manifests in (
        kinds({"strategy": strategy, "backend": BACKEND}, release=longest),
        kinds({"strategy": strategy, "backend": BACKEND, "fullnameOverride": longest}),
    ):
        assert {each["metadata"]["name"] for each in manifests.values()} == expected
    assert max(map(len, expected)) <= 63


@pytest.mark.parametrize("strategy", ["headless", "clusterip"])
def test_without_a_selector_the_chart_says_what_is_missing(strategy: str) -> None:
    with pytest.raises(ChartError) as caught:
        kinds({"strategy": strategy})
    assert str(caught.value).partition("): ")[2] == (
        "backend.selector is empty; give the labels of the pods that answer, as in "
        "--set backend.selector.app=NAME"
    )


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"strategy": "random"},
            "at '/strategy': value must be one of 'headless', 'clusterip', 'lookaside', "
            "'envoy-sidecar', 'ingress-nginx'",
        ),
        ({"backend": BACKEND | {"port": 0}}, "at '/backend/port': minimum: got 0, want 1"),
        (
            {"backend": BACKEND | {"selector": {"app": 1}}},
            "at '/backend/selector/app': got number, want string",
        ),
        (
            {"backend": BACKEND | {"selecter": {}}},
            "at '/backend': additional properties 'selecter' not allowed",
        ),
        ({"fullnameOverride": "n" * 54}, "at '/fullnameOverride': maxLength: got 54, want 53"),
        ({"image": {"tag": "1"}}, "at '': additional properties 'image' not allowed"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(
    values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ChartError) as caught:
        kinds({"backend": BACKEND} | values)
    assert str(caught.value) == (
        f"chart {str(CHART)!r} does not render: values don't meet the specifications of the "
        f"schema(s) in the following chart(s):\nstrategy:\n- {complaint}"
    )
