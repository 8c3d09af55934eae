"""The kinds of object that the embedded cluster knows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "Kind", "by_kind", "by_resource"]

READ = ("get", "list", "watch")
ALL_VERBS = ("create", "delete", "deletecollection", *READ, "patch", "update")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of object, as discovery describes it."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    counted: tuple[str, ...] = ()
    """Fields whose changes ``metadata.generation`` counts; empty: the kind has no generation."""

    @cached_property
    def name(self) -> str:
        """Return the plural with its group, ``deployments.apps``: the store's name of the kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @cached_property
    def singular(self) -> str:
        """Return the name for one, as ``deployment``."""
        return self.kind.lower()

    @cached_property
    def api_version(self) -> str:
        """Return what objects carry as ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def has_status(self) -> bool:
        """Tell whether ``status`` is written through a path of its own."""
        return "status" in self.subresources


_APPS = {"group": "apps", "categories": ("all",), "subresources": ("scale", "status")}
_RBAC = "rbac.authorization.k8s.io"
_NETWORKING = "networking.k8s.io"

_ALL = (
    Kind(kind="ConfigMap", plural="configmaps", short_names=("cm",)),
    Kind(kind="Event", plural="events", short_names=("ev",)),
    Kind(
        kind="Namespace",
        plural="namespaces",
        short_names=("ns",),
        namespaced=False,
        subresources=("status",),
    ),
    Kind(
        kind="Node",
        plural="nodes",
        short_names=("no",),
        namespaced=False,
        subresources=("status",),
    ),
    Kind(
        kind="Pod",
        plural="pods",
        short_names=("po",),
        categories=("all",),
        subresources=("eviction", "log", "portforward", "status"),
        counted=("spec",),
    ),
    Kind(kind="Secret", plural="secrets"),
    Kind(
        kind="ServiceAccount",
        plural="serviceaccounts",
        short_names=("sa",),
        subresources=("token",),
    ),
    Kind(
        kind="Service",
        plural="services",
        short_names=("svc",),
        categories=("all",),
        subresources=("status",),
    ),
    Kind(
        kind="Deployment",
        plural="deployments",
        short_names=("deploy",),
        counted=("spec",),
        **_APPS,  # type: ignore[arg-type]
    ),
    Kind(
        kind="ReplicaSet",
        plural="replicasets",
        short_names=("rs",),
        counted=("spec",),
        **_APPS,  # type: ignore[arg-type]
    ),
    Kind(
        kind="StatefulSet",
        plural="statefulsets",
        short_names=("sts",),
        counted=("spec",),
        **_APPS,  # type: ignore[arg-type]
    ),
    Kind(
        kind="EndpointSlice",
        plural="endpointslices",
        group="discovery.k8s.io",
        counted=("addressType", "endpoints", "ports"),
    ),
    Kind(
        kind="Ingress",
        plural="ingresses",
        group=_NETWORKING,
        short_names=("ing",),
        subresources=("status",),
        counted=("spec",),
    ),
    Kind(
        kind="IngressClass",
        plural="ingressclasses",
        group=_NETWORKING,
        namespaced=False,
        counted=("spec",),
    ),
    Kind(kind="Lease", plural="leases", group="coordination.k8s.io"),
    Kind(kind="Role", plural="roles", group=_RBAC),
    Kind(kind="RoleBinding", plural="rolebindings", group=_RBAC),
    Kind(kind="ClusterRole", plural="clusterroles", group=_RBAC, namespaced=False),
    Kind(kind="ClusterRoleBinding", plural="clusterrolebindings", group=_RBAC, namespaced=False),
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
"""Every kind, by its plural with group."""

_BY_KIND = {(kind.api_version, kind.kind): kind for kind in _ALL}


def by_resource(group: str, version: str, plural: str) -> Kind | None:
    """Return the kind that a URL path speaks of."""
    kind = KINDS.get(f"{plural}.{group}" if group else plural)
    return kind if kind is not None and kind.version == version else None


def by_kind(api_version: str, kind: str) -> Kind | None:
    """Return the kind that an object's own ``apiVersion`` and ``kind`` name."""
    return _BY_KIND.get((api_version, kind))
