"""Cluster providers: where the Kubernetes under test comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.clusters.protocol import Cluster, ClusterRequest, Provider
from pytest_grpclb.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROVIDERS", "Cluster", "ClusterRequest", "Provider", "find"]


def _embedded(request: ClusterRequest) -> Cluster:
    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

    return EmbeddedCluster(
        request.directory,
        images=request.embedded_images,
        commands_directory=request.commands_directory,
    )


def _kubeconfig(request: ClusterRequest) -> Cluster:
    from pytest_grpclb.clusters.kubeconfig import KubeconfigCluster

    return KubeconfigCluster(request)


def _kind(request: ClusterRequest) -> Cluster:
    from pytest_grpclb.clusters.kind.provider import KindProvider

    return KindProvider(request)


PROVIDERS: Mapping[str, Provider] = {
    "embedded": _embedded,
    "kind": _kind,
    "kubeconfig": _kubeconfig,
}


def find(name: str, providers: Mapping[str, Provider] = PROVIDERS) -> Provider:
    """Return the provider called *name*.

    :raises OptionError: if there is none; the message lists those there are
    """
    try:
        return providers[name]
    except KeyError:
        known = ", ".join(sorted(providers))
        raise OptionError("--grpclb-cluster", name, expected=f"one of {known}") from None
