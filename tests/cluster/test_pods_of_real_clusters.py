"""Pods as others make of them: evicted ones stay, refused ones are not made, some get company."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import EVENTS, PODS, KubeApi
from pytest_grpclb.deployment import Deployment
from pytest_grpclb.errors import NotReadyError
from pytest_grpclb.model import Service

from .faulty_api import Fault, FaultyApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

LABELS = {"app": "shop"}
CONTAINER = {"name": "main", "image": "shell", "args": ["-c", "exec sleep 1000"]}
EVICTED = {**CONTAINER, "args": ["-c", "exit 1"]}


def apply(api: KubeApi, namespace: str, *, replicas: int, **spec: Any) -> None:
    template: dict[str, Any] = {
        "metadata": {"labels": LABELS},
        "spec": {"containers": [CONTAINER], "terminationGracePeriodSeconds": 0, **spec},
    }
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "template": template,
        },
    }
    api.apply([manifest], namespace=namespace)


def service_in(namespace: str) -> Service:
    return Service(name="shop", namespace=namespace, selector=LABELS, port=1, deployment="shop")


@pytest.fixture
def shop(api: KubeApi, namespace: str) -> Iterator[Deployment]:
    made = Deployment(api, service_in(namespace), ready_timeout_s=20.0)
    yield made
    made.close()


def test_an_evicted_pod_does_not_stand_in_the_way_of_those_that_run(
    api: KubeApi, namespace: str, shop: Deployment
) -> None:
    apply(api, namespace, replicas=1)
    shop.wait_ready(1)
    pod = {
        "metadata": {"name": "evicted", "labels": LABELS},
        "spec": {"containers": [EVICTED], "restartPolicy": "Never"},
    }
    api.request("POST", PODS.path(namespace), body=pod)
    assert shop.watch.wait_for(lambda pods: any(each.ended for each in pods), timeout_s=20)
    shop.scale(2)
    shop.kill()
    shop.restart()
    assert len(shop.serving()) == 2


def test_old_pods_have_their_own_grace_besides_the_time_that_new_ones_may_take(
    api: KubeApi, namespace: str
) -> None:
    """Where DNS caches, the sample's pods serve on for as long as most take to start."""
    ready_timeout_s, serves_on_s = 2.0, 4
    serving_on = {**CONTAINER, "lifecycle": {"preStop": {"sleep": {"seconds": serves_on_s}}}}
    grace = {"terminationGracePeriodSeconds": 2 * serves_on_s}
    apply(api, namespace, replicas=1, containers=[serving_on], **grace)
    shop = Deployment(api, service_in(namespace), ready_timeout_s=ready_timeout_s)
    try:
        shop.wait_ready(1)
        [old] = shop.watch.pods()
        shop.restart(until_ended=True)
        assert old.uid not in {pod.uid for pod in shop.watch.pods()}
    finally:
        shop.close()


def test_pods_that_are_refused_are_told_of_by_who_would_make_them(
    api: KubeApi, namespace: str
) -> None:
    why = "exceeded quota: compute, requested: pods=1, used: pods=2, limited: pods=2"
    event = {
        "metadata": {"name": "shop-5d9.1", "namespace": namespace},
        "involvedObject": {"kind": "ReplicaSet", "name": "shop-5d9", "namespace": namespace},
        "reason": "FailedCreate",
        "message": f'Error creating: pods "shop-5d9-x" is forbidden: {why}',
        "type": "Warning",
    }
    api.request("POST", EVENTS.path(namespace), body=event)
    shop = Deployment(api, service_in(namespace), ready_timeout_s=1.5)
    try:
        with pytest.raises(NotReadyError) as caught:
            shop.wait_ready(2)
    finally:
        shop.close()
    told = str(caught.value).splitlines()
    assert re.sub("after [0-9.]+ s", "after T s", told[0]) == (
        "deployment 'shop': 0 of 2 replicas ready after T s; the cluster makes no pod for "
        f"ReplicaSet 'shop-5d9': {why}; a ResourceQuota of the namespace leaves no room for it: "
        "run fewer replicas (--grpclb-replicas), or have the quota raised"
    )
    assert told[1] == "it has no pods"


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({}, "proxy here"),
        ({"kubectl.kubernetes.io/default-container": "main"}, "main here"),
    ],
)
def test_of_several_containers_the_log_of_the_main_one_is_read(
    api: KubeApi,
    namespace: str,
    shop: Deployment,
    annotations: dict[str, str],
    words: str,
) -> None:
    def container(name: str) -> dict[str, Any]:
        script = f"echo {name} here; exec sleep 1000"
        probe = {"exec": {"command": ["true"]}}
        return {"name": name, "image": "shell", "args": ["-c", script], "readinessProbe": probe}

    pod = {
        "metadata": {"name": "several", "labels": LABELS, "annotations": annotations},
        "spec": {"containers": [container("proxy"), container("main")]},
    }
    api.request("POST", PODS.path(namespace), body=pod)
    shop.wait_ready(1)
    until_s = time.monotonic() + 20
    while not (log := shop.logs("several")):
        assert time.monotonic() < until_s
        time.sleep(0.01)  # the pause between two looks
    assert log == f"{words}\n"


def test_who_may_not_open_readiness_gates_is_told_so_and_does_not_ask_for_ever(
    embedded_cluster: EmbeddedCluster, api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    def plan(verb: str, path: str) -> Fault | None:
        return Fault(status=403) if verb == "PATCH" and path.endswith("/status") else None

    with FaultyApi(embedded_cluster.kubeconfig, tmp_path, plan) as proxy:
        through = KubeApi(proxy.leads_here, embedded_cluster.context, scratch=tmp_path)
        gated = {"readinessGates": [{"conditionType": "pytest-grpclb/serving"}]}
        pod = {
            "metadata": {"name": "gated", "labels": LABELS},
            "spec": {"containers": [CONTAINER], **gated},
        }
        api.request("POST", PODS.path(namespace), body=pod)
        shop = Deployment(through, service_in(namespace), ready_timeout_s=20.0, gated=True)
        try:
            with pytest.raises(NotReadyError) as caught:
                shop.wait_ready(1)
        finally:
            shop.close()
            through.close()
        asked = [path for verb, path in proxy.seen if verb == "PATCH"]
    assert caught.value.advice == (
        "their readiness gate cannot be opened: give this user the right to patch pods/status, or "
        f"do without readiness_gate (PATCH {PODS.path(namespace, 'gated', 'status')}: the "
        "Kubernetes API answered 403: Injected: injected)"
    )
    assert caught.value.timeout_s < 10
    assert len(asked) == 1
