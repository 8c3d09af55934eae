"""How the parts of objects merge: which lists are maps in disguise, which values are one piece.

Patches and server-side apply share this description. Whatever it does not mention is a plain
mapping, merged key by key, or a plain list, replaced as a whole.

:source: the ``patchStrategy``, ``patchMergeKey``, ``listType``, ``listMapKey`` and ``mapType`` tags
    in ``k8s.io/api`` (``core/v1/types.go``, ``apps/v1/types.go``, ...)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PLAIN", "Shape", "shape_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one value merges."""

    fields: Mapping[str, Shape] = field(default_factory=dict)
    """Of a mapping: the fields that are more than plain."""
    key: str = ""
    """Of a list: the field by which a strategic merge patch tells its items apart."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Of a list: those by which server-side apply does, with the values that stand for none."""
    item: Shape | None = None
    """Of a list with a key: its items."""
    merged: bool = False
    """Of a list of plain values: a patch adds to it (a set)."""
    whole: bool = False
    """Of a mapping: server-side apply takes it as one piece, though patches do not."""

    def at(self, name: str) -> Shape:
        """Return the shape of a field."""
        return self.fields.get(name, PLAIN)

    @property
    def of_items(self) -> Shape:
        """Return the shape of a list's items."""
        return self.item or PLAIN


PLAIN = Shape()
_WHOLE = Shape(whole=True)
_SET = Shape(merged=True)


def _map(key: str, item: Shape = PLAIN, **more: Any) -> Shape:
    return Shape(key=key, keys={key: None} | more, item=item)


def _only_patch(key: str) -> Shape:
    """Return a list that has a key in patches and is one piece in server-side apply."""
    return Shape(key=key)


_CONTAINER = Shape(
    fields={
        "env": _map("name"),
        "ports": _map("containerPort", protocol="TCP"),
        "volumeDevices": _map("devicePath"),
        "volumeMounts": _map("mountPath"),
    }
)
_POD_SPEC = Shape(
    fields={
        "containers": _map("name", _CONTAINER),
        "ephemeralContainers": _map("name", _CONTAINER),
        "hostAliases": _map("ip"),
        "imagePullSecrets": _map("name"),
        "initContainers": _map("name", _CONTAINER),
        "nodeSelector": _WHOLE,
        "resourceClaims": _map("name"),
        "schedulingGates": _map("name"),
        "topologySpreadConstraints": _map("topologyKey", whenUnsatisfiable=None),
        "volumes": _map("name"),
    }
)
_METADATA = Shape(fields={"finalizers": _SET, "ownerReferences": _map("uid")})
_TEMPLATE = Shape(fields={"metadata": _METADATA, "spec": _POD_SPEC})
_WORKLOAD_SPEC = Shape(fields={"selector": _WHOLE, "template": _TEMPLATE})
_CONDITIONS = Shape(fields={"conditions": _map("type")})


def _kind(**fields: Shape) -> Shape:
    return Shape(fields={"metadata": _METADATA} | fields)


_ANY_KIND = _kind()
_KINDS = {
    "clusterroles.rbac.authorization.k8s.io": _kind(aggregationRule=_WHOLE),
    "deployments.apps": _kind(spec=_WORKLOAD_SPEC, status=_CONDITIONS),
    "namespaces": _kind(status=_CONDITIONS),
    "nodes": _kind(
        spec=Shape(fields={"podCIDRs": _SET, "taints": _only_patch("key")}),
        status=Shape(fields={"addresses": _map("type"), "conditions": _map("type")}),
    ),
    "pods": _kind(
        spec=_POD_SPEC,
        status=Shape(
            fields={"conditions": _map("type"), "hostIPs": _only_patch("ip"), "podIPs": _map("ip")}
        ),
    ),
    "replicasets.apps": _kind(spec=_WORKLOAD_SPEC, status=_CONDITIONS),
    "serviceaccounts": _kind(secrets=_map("name"), imagePullSecrets=_only_patch("name")),
    "services": _kind(
        spec=Shape(fields={"ports": _map("port", protocol="TCP"), "selector": _WHOLE}),
        status=_CONDITIONS,
    ),
    "statefulsets.apps": _kind(spec=_WORKLOAD_SPEC, status=_CONDITIONS),
}


def shape_of(kind: str) -> Shape:
    """Return the shape of the objects of a kind, by its plural with group."""
    return _KINDS.get(kind, _ANY_KIND)
