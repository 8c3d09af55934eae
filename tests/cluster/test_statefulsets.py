"""StatefulSets of the embedded cluster, and the handle on their pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import PODS, STATEFULSETS, KubeApi, Resource
from pytest_grpclb.deployment import Deployment
from pytest_grpclb.errors import ApiError
from pytest_grpclb.workloads import service_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLICES = Resource("discovery.k8s.io/v1", "endpointslices", namespaced=True)


def stateful_set(image: str, *, replicas: int = 3, **more: Any) -> dict[str, Any]:
    labels = {"app": "shop"}
    container = {
        "name": "main",
        "image": image,
        "args": ["greeter"],
        "ports": [{"name": "grpc", "containerPort": 50051}],
        "readinessProbe": {"grpc": {"port": 50051}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": replicas,
            "serviceName": "shop",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **more,
        },
    }


@pytest.fixture
def installed(
    embedded_cluster: Any, api: KubeApi, namespace: str
) -> Iterator[Callable[..., Deployment]]:
    opened = []

    def install(**more: Any) -> Deployment:
        manifest = stateful_set(embedded_cluster.programs_image, **more)
        api.apply([manifest], namespace=namespace)
        service = service_of([manifest], namespace=namespace, source="here")
        opened.append(Deployment(api, service, ready_timeout_s=60.0))
        opened[-1].wait_ready(manifest["spec"]["replicas"])
        return opened[-1]

    yield install
    for each in opened:
        each.close()


def names(deployment: Deployment) -> list[str]:
    """Return the names of the pods, in order of readiness."""
    return [backend.name for backend in deployment.backends()]


def test_pods_come_in_order_and_have_names_that_dns_knows(
    installed: Callable[..., Deployment], api: KubeApi, namespace: str
) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop"},
        "spec": {"clusterIP": "None", "selector": {"app": "shop"}, "ports": [{"port": 50051}]},
    }
    api.apply([service], namespace=namespace)
    deployment = installed()
    assert names(deployment) == ["shop-0", "shop-1", "shop-2"]
    pod = api.get(PODS, namespace, "shop-1")
    assert pod["spec"]["hostname"] == "shop-1"
    assert pod["spec"]["subdomain"] == "shop"
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "shop-1"


def test_scaled_down_the_highest_go_and_scaled_up_they_come_back(
    installed: Callable[..., Deployment],
) -> None:
    deployment = installed()
    deployment.scale(1)
    assert names(deployment) == ["shop-0"]
    deployment.scale(3)
    assert names(deployment) == ["shop-0", "shop-1", "shop-2"]


def test_a_killed_pod_comes_back_under_its_name(installed: Callable[..., Deployment]) -> None:
    deployment = installed(replicas=2)
    victim = deployment.kill("shop-0")
    assert sorted(names(deployment)) == ["shop-0", "shop-1"]
    assert victim.uid not in {backend.uid for backend in deployment.backends()}


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_a_restart_replaces_the_highest_first(
    installed: Callable[..., Deployment], api: KubeApi, namespace: str, policy: str
) -> None:
    deployment = installed(replicas=2, podManagementPolicy=policy)
    before = {backend.uid for backend in deployment.backends()}
    deployment.restart()
    assert names(deployment) == ["shop-1", "shop-0"]
    assert before.isdisjoint(backend.uid for backend in deployment.backends())
    status = api.get(STATEFULSETS, namespace, "shop")["status"]
    assert (status["readyReplicas"], status["updatedReplicas"]) == (2, 2)
    assert status["currentRevision"] == status["updateRevision"]


def test_a_partition_keeps_the_lower_ones_as_they_are(
    installed: Callable[..., Deployment], api: KubeApi, namespace: str
) -> None:
    deployment = installed(replicas=2, updateStrategy={"rollingUpdate": {"partition": 1}})
    first = api.get(PODS, namespace, "shop-0")["metadata"]["uid"]
    api.request(
        "PATCH",
        STATEFULSETS.path(namespace, "shop"),
        body={"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}},
        content_type="application/merge-patch+json",
    )
    deployment.watch.wait_for(
        lambda pods: (
            [pod.name for pod in pods if pod.ready and _version(pod.manifest) == "2"] == ["shop-1"]
        ),
        timeout_s=60.0,
    )
    assert _version(api.get(PODS, namespace, "shop-1")) == "2"
    assert api.get(PODS, namespace, "shop-0")["metadata"]["uid"] == first


def _version(pod: Any) -> str:
    return str((pod["metadata"].get("annotations") or {}).get("version", ""))


def test_volume_claims_are_refused_and_not_left_out(api: KubeApi, namespace: str) -> None:
    claims = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]
    with pytest.raises(ApiError) as caught:
        api.apply([stateful_set("shop", volumeClaimTemplates=claims)], namespace=namespace)
    assert caught.value.status == 422
    assert caught.value.message == (
        'StatefulSet.apps "shop" is invalid: spec.volumeClaimTemplates: Forbidden: the embedded '
        "cluster has no persistent volumes; use an emptyDir, or --grpclb-cluster=kind"
    )
