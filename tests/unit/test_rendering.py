"""What a strategy is rendered to for the cluster at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from pytest_grpclb.model import Service
from pytest_grpclb.rendering import StrategyChart
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies import STRATEGIES

if TYPE_CHECKING:
    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.model import Manifest

SERVICE = Service(
    name="shop", namespace="ns", selector={"app": "shop"}, port=50051, deployment="shop"
)


class AnyCluster:
    programs_image = "registry.example.com:5000/programs:1"

    def check_image(self, image: str) -> None:
        """Have every image."""


def rendered(strategy: str, *, ipv6: bool) -> list[Manifest]:
    chart = StrategyChart(
        strategy=STRATEGIES[strategy],
        cluster=cast("Cluster", AnyCluster()),
        service=SERVICE,
        settings=Settings(),
        release="rel",
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
