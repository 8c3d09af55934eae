"""The chart of the sample backend."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.errors import ChartError

CHART = charts_directory() / "greeter"


def kinds(values: dict[str, Any], *, release: str = "rel") -> dict[str, Any]:
    manifests = render(CHART, values=values, release=release, namespace="ns")
    return {manifest["kind"]: manifest for manifest in manifests}


def pod(values: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = kinds(values)["Deployment"]["spec"]["template"]["spec"]
    return spec


def environment(values: dict[str, Any]) -> dict[str, Any]:
    return {
        each["name"]: each.get("value") or each["valueFrom"]["fieldRef"]["fieldPath"]
        for each in pod(values)["containers"][0]["env"]
    }


def test_each_pod_is_told_who_it_is() -> None:
    assert environment({}) == {
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
        "POD_IP": "status.podIP",
        "GRPCLB_DRAIN_S": "10",
    }


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (
            {"seconds": 0.25},
            {"GRPC_MAX_CONNECTION_AGE": "0.25", "GRPC_MAX_CONNECTION_AGE_GRACE": "5"},
        ),
        ({"seconds": 30, "graceSeconds": None}, {"GRPC_MAX_CONNECTION_AGE": "30"}),
        ({"seconds": None, "graceSeconds": 3}, {}),
    ],
)
def test_connection_age_reaches_the_server_only_if_there_is_one(
    age: dict[str, Any], told: dict[str, str]
) -> None:
    found = environment({"maxConnectionAge": age})
    assert {name: text for name, text in found.items() if "CONNECTION" in name} == told


def test_a_rolling_update_starts_a_successor_first() -> None:
    assert kinds({})["Deployment"]["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
    }


def test_a_pod_that_is_to_end_serves_on_and_then_drains() -> None:
    [container] = pod({"preStopSleepSeconds": 7})["containers"]
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert "lifecycle" not in pod({"preStopSleepSeconds": 0})["containers"][0]


def test_pods_that_would_be_killed_while_they_answer_are_refused() -> None:
    values = {"preStopSleepSeconds": 10, "drainSeconds": 25}
    with pytest.raises(ChartError) as caught:
        kinds(values)
    assert str(caught.value).partition("): ")[2] == (
        "terminationGracePeriodSeconds is 30, but preStopSleepSeconds and drainSeconds take 35 "
        "together: pods would be killed while they answer; make it 35 or more"
    )
    assert pod(values | {"terminationGracePeriodSeconds": 35})[
        "terminationGracePeriodSeconds"
    ] == 35  # fmt: skip


def test_clients_are_told_that_the_service_speaks_http2() -> None:
    assert kinds({"service": {"port": 80}, "containerPort": 9000})["Service"]["spec"] == {
        "type": "ClusterIP",
        "selector": {"app.kubernetes.io/name": "greeter", "app.kubernetes.io/instance": "rel"},
        "ports": [
            {
                "name": "grpc",
                "port": 80,
                "targetPort": "grpc",
                "protocol": "TCP",
                "appProtocol": "kubernetes.io/h2c",
            }
        ],
    }


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("rel", {}, "rel-greeter"),
        ("my-greeter", {}, "my-greeter"),
        ("rel", {"nameOverride": "shop"}, "rel-shop"),
        ("rel", {"fullnameOverride": "shop"}, "shop"),
        ("r" * 53, {}, "r" * 53 + "-greeter"),
        ("r" * 53, {"nameOverride": "n" * 63}, "r" * 53 + "-" + "n" * 9),
    ],
)
def test_names_begin_with_the_release(release: str, values: dict[str, Any], name: str) -> None:
    manifests = kinds(values, release=release)
    assert {each["metadata"]["name"] for each in manifests.values()} == {name}


def test_labels_of_ones_own_cannot_replace_those_that_select() -> None:
    values = {"podLabels": {"team": "shop", "app.kubernetes.io/name": "other"}}
    labels = kinds(values)["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["app.kubernetes.io/name"]) == ("shop", "greeter")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicaCount": -1}, "at '/replicaCount': minimum: got -1, want 0"),
        ({"replicaCount": "3"}, "at '/replicaCount': got string, want integer"),
        ({"replicas": 3}, "at '': additional properties 'replicas' not allowed"),
        ({"containerPort": 65536}, "at '/containerPort': maximum: got 65,536, want 65,535"),
        ({"image": {"repository": ""}}, "at '/image/repository': minLength: got 0, want 1"),
        ({"image": {"tag": 1.0}}, "at '/image/tag': got number, want string"),
        (
            {"maxConnectionAge": {"seconds": 0}},
            "at '/maxConnectionAge/seconds': minimum: got 0, want 0.001",
        ),
        (
            {"maxConnectionAge": {"seconds": "30s"}},
            "at '/maxConnectionAge/seconds': got string, want null or number",
        ),
        ({"drainSeconds": 0}, "at '/drainSeconds': minimum: got 0, want 1"),
        (
            {"extraEnv": [{"name": "A", "value": 1}]},
            "at '/extraEnv/0/value': got number, want string",
        ),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(
    values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ChartError) as caught:
        kinds(values)
    assert str(caught.value) == (
        f"chart {str(CHART)!r} does not render: values don't meet the specifications of the "
        f"schema(s) in the following chart(s):\ngreeter:\n- {complaint}"
    )


@pytest.mark.parametrize(
    ("security", "group"),
    [
        ({}, 65532),
        ({"runAsUser": 7, "runAsGroup": 7}, 7),
        ({"runAsUser": None, "runAsGroup": None}, None),
        ({"fsGroup": 9}, 9),
    ],
)
def test_the_programs_user_may_read_its_key_unless_the_cluster_sees_to_that(
    security: dict[str, Any], group: int | None
) -> None:
    found = pod({"tls": {"secretName": "keys"}, "podSecurityContext": security})
    assert found["securityContext"].get("fsGroup") == group
    assert "fsGroup" not in pod({"podSecurityContext": {}})["securityContext"]
