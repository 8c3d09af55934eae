"""The objects of a strategy, as one cluster, one service and one test need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters.api.kube import PODS
from pytest_grpclb.clusters.pods.watch import selector_text
from pytest_grpclb.settings import OwnPods
from pytest_grpclb.workloads import images_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.model import Manifest, Service
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.sources.tls import Tls
    from pytest_grpclb.strategies import Strategy

__all__ = ["DRIVER", "StrategyChart", "asked_by_ipv6", "is_driver"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_AS_CHARTED = OwnPods()
DRIVER = "driver"
"""The component that every strategy's chart has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyChart:
    """A strategy's chart, and what it is rendered with."""

    strategy: Strategy
    cluster: Cluster
    service: Service
    settings: Settings
    release: str
    tls: Tls | None = None
    """What the pods' own TLS takes, where they have it."""
    own_pods: OwnPods = _AS_CHARTED
    """How the pods of the chart are on the cluster, where that is this package's own."""
    kube_version: str = ""
    """The cluster's."""

    @property
    def path(self) -> Path:
        """The strategy's own, or the one that all strategies of the package share."""
        return self.strategy.chart or charts_directory() / "strategy"

    def rendered(self, *, ipv6: bool = False) -> list[Manifest]:
        """Return the strategy's objects.

        :param ipv6: whether the kubelet asks pods by IPv6: who listens on 0.0.0.0 does not hear it,
            and who listens on [::] needs a kernel that has it
        :raises ChartError: if its chart does not render
        :raises ClusterUnavailableError: if an image cannot be had
        """
        repository, _, tag = self.cluster.programs_image.rpartition(":")
        values = self.strategy.values(self.service, self.settings) | {
            "driver": {"image": {"repository": repository, "tag": tag}}
        }
        if ipv6 and "envoy" in values:
            values["envoy"] = {"probeAddress": "::"} | values["envoy"]
        beside: list[Manifest] = []
        if self.tls is not None:
            values, beside = self.tls.proxied(values, release=self.release, service=self.service)
        if self.strategy.chart is None:
            values = _merged(values, self.own_pods.strategy_values())
        rendered = render(
            self.path,
            values=values,
            release=self.release,
            namespace=self.service.namespace,
            kube_version=self.kube_version,
        )
        for image in images_of(rendered):
            self.cluster.check_image(image)
        return [*beside, *rendered]


def _merged(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* with *others*, which win; maps that both have are merged."""
    both = {
        key: _merged(values[key], other)
        for key, other in others.items()
        if isinstance(other, dict) and isinstance(values.get(key), dict)
    }
    return {**values, **others, **both}


def is_driver(manifest: Manifest) -> bool:
    """Tell whether an object is the Deployment of the driver."""
    component = manifest["metadata"].get("labels", {}).get("app.kubernetes.io/component")
    return bool(manifest["kind"] == "Deployment" and component == DRIVER)


def asked_by_ipv6(api: KubeApi, service: Service) -> bool:
    """Tell whether pods are reached by IPv6: of dual-stack pods, whether that comes first."""
    pods = api.list(PODS, service.namespace, selector=selector_text(service.selector))
    return any(":" in pod.get("status", {}).get("podIP", "") for pod in pods)
