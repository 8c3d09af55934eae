"""What a strategy is rendered to for the cluster at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from pytest_grpclb.model import Service
from pytest_grpclb.rendering import StrategyChart
from pytest_grpclb.settings import PROGRAMS, OwnPods, PullSecret, Settings
from pytest_grpclb.strategies import STRATEGIES

if TYPE_CHECKING:
    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.model import Manifest

SERVICE = Service(
    name="shop", namespace="ns", selector={"app": "shop"}, port=50051, deployment="shop"
)


AS_CHARTED = OwnPods()
OWN = OwnPods(
    envoy_image="mirror.example.org/envoy@sha256:" + "1" * 64,
    pull_secrets=(PullSecret(name="registry"),),
    cluster_domain="corp.example",
    security={"runAsUser": None, "runAsGroup": None},
    resources={each: {"limits": {"cpu": "1", "memory": None}} for each in PROGRAMS},
)


class AnyCluster:
    programs_image = "registry.example.com:5000/programs:1"

    def check_image(self, image: str) -> None:
        """Have every image."""


def rendered(
    strategy: str, *, ipv6: bool = False, own_pods: OwnPods = AS_CHARTED, image: str = ""
) -> list[Manifest]:
    cluster = AnyCluster()
    cluster.programs_image = image or cluster.programs_image
    chart = StrategyChart(
        strategy=STRATEGIES[strategy],
        cluster=cast("Cluster", cluster),
        service=SERVICE,
        settings=Settings(),
        release="rel",
        own_pods=own_pods,
    )
    return chart.rendered(ipv6=ipv6)


def place_of_probes(manifests: list[Manifest]) -> Any:
    [config] = [each for each in manifests if each["kind"] == "ConfigMap"]
    bootstrap = yaml.safe_load(config["data"]["envoy.yaml"])
    [place] = [
        each["address"]["socket_address"]["address"]
        for each in bootstrap["static_resources"]["listeners"]
        if each["name"] == "probes"
    ]
    return place


def test_a_kubelet_that_asks_by_ipv6_is_heard_by_envoy() -> None:
    old, new = rendered("envoy-sidecar", ipv6=False), rendered("envoy-sidecar", ipv6=True)
    assert (place_of_probes(old), place_of_probes(new)) == ("0.0.0.0", "::")
    # Its configuration, and the driver's pod, which carries that one's checksum.
    changed = [each["kind"] for each in new if each not in old]
    assert changed == ["ConfigMap", "Deployment"]


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"envoy-sidecar", "ingress-nginx"}))
def test_nothing_else_depends_on_the_family(strategy: str) -> None:
    assert rendered(strategy, ipv6=True) == rendered(strategy, ipv6=False)


def pods(manifests: list[Manifest]) -> list[Any]:
    return [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "Deployment"]


@pytest.mark.parametrize(
    ("strategy", "containers"),
    [
        ("headless", {"driver"}),
        ("lookaside", {"driver", "balancer"}),
        ("envoy-sidecar", {"driver", "envoy"}),
    ],
)
def test_every_pod_is_as_the_cluster_wants_it(strategy: str, containers: set[str]) -> None:
    found = pods(rendered(strategy, own_pods=OWN))
    for pod in found:
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    by_name = {each["name"]: each for pod in found for each in pod["containers"]}
    assert by_name.keys() == containers
    assert all(each["resources"]["limits"] == {"cpu": "1"} for each in by_name.values())
    assert all("memory" in each["resources"]["requests"] for each in by_name.values())
    if "envoy" in containers:
        assert by_name["envoy"]["image"] == OWN.envoy_image


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_clusters_domain_is_in_every_name(strategy: str) -> None:
    service = replace(SERVICE, domain=OWN.cluster_domain)
    target = STRATEGIES[strategy].target(service, Settings(), release="rel")
    found = repr([target, rendered(strategy, own_pods=OWN)])
    assert "cluster.local" not in found
    assert ".ns.svc.corp.example" in found or strategy == "ingress-nginx"


def test_an_image_by_its_digest_is_asked_for_by_it() -> None:
    image = "registry.example.com:5000/programs@sha256:" + "0" * 64
    for pod in pods(rendered("lookaside", image=image)):
        assert [each["image"] for each in pod["containers"]] == [image]
