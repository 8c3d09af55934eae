"""What the embedded API answers, a real one could: the fields that Kubernetes has, and no more."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, KubeApi, Resource
from pytest_grpclb.clusters.pods.watch import PodWatch
from pytest_grpclb.samples import greeter_values
from pytest_grpclb.settings import Settings
from tests.published_schemas import refusals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster


def test_objects_of_every_kind_have_the_fields_that_are_published(
    embedded_cluster: EmbeddedCluster, api: KubeApi, namespace: str
) -> None:
    sample = greeter_values(Settings(replicas=2), image=embedded_cluster.programs_image)
    balanced = {
        "strategy": "lookaside",
        "backend": {"selector": {"app.kubernetes.io/instance": "sample"}},
        "driver": {"image": dict(zip(("repository", "tag"), split(embedded_cluster), strict=True))},
    }
    through_ingress = {
        "strategy": "ingress-nginx",
        "backend": {"selector": {"app.kubernetes.io/instance": "sample"}},
        "ingress": {"host": "shop.example.com", "tls": {"secretName": "none"}},
    }
    made = [
        manifest
        for chart, release, values in (
            ("greeter", "sample", sample),
            ("strategy", "balanced", balanced),
            ("strategy", "entered", through_ingress),
        )
        for manifest in render(
            charts_directory() / chart, values=values, release=release, namespace=namespace
        )
    ]
    api.apply(made, namespace=namespace)
    watch = PodWatch(api, namespace, {})
    try:
        assert watch.wait_for(
            lambda pods: len(pods) == 5 and all(pod.serves for pod in pods), timeout_s=60
        )
    finally:
        watch.close()
    scaled = api.request("GET", DEPLOYMENTS.path(namespace, "sample-greeter", "scale"))
    found = [scaled, *listed(api)]
    assert {each["kind"] for each in found} > {"Pod", "EndpointSlice", "Event", "Node", "Ingress"}
    assert refusals(found) == []


def split(cluster: EmbeddedCluster) -> tuple[str, str]:
    repository, _, tag = cluster.programs_image.rpartition(":")
    return repository, tag


def listed(api: KubeApi) -> Iterator[dict[str, Any]]:
    """Give every object of the cluster, with the kind that a list leaves out of its items."""
    groups = api.request("GET", "/apis")["groups"]
    versions = [each["preferredVersion"]["groupVersion"] for each in groups]
    for version in itertools.chain(["v1"], versions):
        path = Resource(version, "", namespaced=False).prefix
        for each in api.request("GET", path)["resources"]:
            if "list" in each["verbs"]:
                for item in api.list(Resource(version, each["name"], namespaced=False)):
                    yield {"apiVersion": version, "kind": each["kind"]} | item
