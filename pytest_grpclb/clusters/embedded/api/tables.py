"""Objects as the rows that ``kubectl get`` prints.

:source: Kubernetes, ``pkg/printers/internalversion/printers.go``; apimachinery,
    ``pkg/util/duration``
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_grpclb.clusters.embedded.api.pod_summary import pod_ready, pod_restarts, pod_status
from pytest_grpclb.clusters.embedded.store.selectors import selector_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["age", "table"]

_NONE = "<none>"
_MANY = 3
"""How many endpoints or ports are spelled out before "+ n more..."."""


class _Column(NamedTuple):
    name: str
    cell: Callable[[Object, datetime], Any]
    priority: int = 0
    """Above 0: only with ``-o wide``."""
    type: str = "string"


def table(kind: str, objects: Iterable[Object], now: datetime, *, include: str = "") -> Object:
    """Return a Table of objects.

    :param kind: plural with group
    :param include: "Object" for whole objects beside the cells, "None" for nothing, else metadata
    """
    columns = _COLUMNS.get(kind, _PLAIN)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": "name" if column.name == "Name" else "",
                "description": "",
                "priority": column.priority,
            }
            for column in columns
        ],
        "rows": [
            {
                "cells": [column.cell(obj, now) for column in columns],
                "object": _beside(obj, include),
            }
            for obj in objects
        ],
    }


def _beside(obj: Object, include: str) -> Object | None:
    if include == "Object":
        return obj
    if include == "None":
        return None
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


_AGES = (
    # Up to so many seconds: the unit, and the finer one beside it (0: none).
    (120, 1, "s", 0, ""),
    (600, 60, "m", 1, "s"),
    (3 * 3600, 60, "m", 0, ""),
    (8 * 3600, 3600, "h", 60, "m"),
    (48 * 3600, 3600, "h", 0, ""),
    (8 * 86400, 86400, "d", 3600, "h"),
)


def age(since: str | None, now: datetime) -> str:
    """Write how long ago a moment was, as people read it: ``90s``, ``5m``, ``3h10m``, ``9d``."""
    if not since:
        return "<unknown>"
    seconds = max(int((now - datetime.fromisoformat(since)).total_seconds()), 0)
    for limit, unit, name, finer, finer_name in _AGES:
        if seconds < limit:
            rest = seconds % unit // finer if finer else 0
            return f"{seconds // unit}{name}" + (f"{rest}{finer_name}" if rest else "")
    return f"{seconds // 86400}d"


def _at(*path: str, default: Any = _NONE) -> Callable[[Object, datetime], Any]:
    """Return a cell that is the value at a path."""

    def cell(obj: Object, _now: datetime) -> Any:
        value: Any = obj
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return default if value in (None, "") else value

    return cell


def _age(obj: Object, now: datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _count(*parts: str) -> Callable[[Object, datetime], int]:
    return lambda obj, _now: sum(len(obj.get(part) or ()) for part in parts)


def _listed(values: Iterable[str], *, most: int | None = None) -> str:
    told = list(values)
    if most is not None and len(told) > most:
        return ",".join(told[:most]) + f" + {len(told) - most} more..."
    return ",".join(told) or _NONE


def _of_template(field: str) -> Callable[[Object, datetime], str]:
    def cell(obj: Object, _now: datetime) -> str:
        spec = obj["spec"].get("template", {}).get("spec", {})
        return _listed(container[field] for container in spec.get("containers", ()))

    return cell


def _selector(obj: Object, _now: datetime) -> str:
    return selector_text(obj["spec"]["selector"]) or _NONE


def _workload_ready(obj: Object, _now: datetime) -> str:
    return f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec']['replicas']}"


def _service_selector(obj: Object, _now: datetime) -> str:
    return selector_text({"matchLabels": obj["spec"].get("selector") or {}}) or _NONE


def _service_ports(obj: Object, _now: datetime) -> str:
    return _listed(
        f"{port['port']}:{port['nodePort']}/{port['protocol']}"
        if port.get("nodePort")
        else f"{port['port']}/{port['protocol']}"
        for port in obj["spec"].get("ports", ())
    )


def _slice_ports(obj: Object, _now: datetime) -> str:
    ports = [str(port.get("port", "*")) for port in obj.get("ports") or ()]
    return _listed(ports, most=_MANY) if ports else "<unset>"


def _slice_endpoints(obj: Object, _now: datetime) -> str:
    addresses = [
        address for endpoint in obj.get("endpoints") or () for address in endpoint["addresses"]
    ]
    return _listed(addresses, most=_MANY) if addresses else "<unset>"


def _node_status(obj: Object, _now: datetime) -> str:
    conditions = obj.get("status", {}).get("conditions", ())
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    told = "Ready" if ready else "NotReady"
    return f"{told},SchedulingDisabled" if obj.get("spec", {}).get("unschedulable") else told


def _node_roles(obj: Object, _now: datetime) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels", {})
    return _listed(key.removeprefix(prefix) for key in sorted(labels) if key.startswith(prefix))


def _node_address(obj: Object, _now: datetime) -> str:
    addresses = obj.get("status", {}).get("addresses", ())
    return next((entry["address"] for entry in addresses if entry["type"] == "InternalIP"), _NONE)


def _event_seen(*fields: str) -> Callable[[Object, datetime], str]:
    def cell(obj: Object, now: datetime) -> str:
        found = (obj.get(field) for field in (*fields, "eventTime"))
        return age(next((moment for moment in found if moment), None), now)

    return cell


def _event_object(obj: Object, _now: datetime) -> str:
    involved = obj["involvedObject"]
    return f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"


def _event_source(obj: Object, _now: datetime) -> str:
    source = obj.get("source") or {}
    parts = (source.get("component") or obj.get("reportingComponent"), source.get("host"))
    return ", ".join(part for part in parts if part)


def _ingress_hosts(obj: Object, _now: datetime) -> str:
    hosts = [rule["host"] for rule in obj["spec"].get("rules", ()) if rule.get("host")]
    return _listed(hosts) if hosts else "*"


def _ingress_address(obj: Object, _now: datetime) -> str:
    entries = obj.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    return ",".join(entry.get("ip") or entry.get("hostname", "") for entry in entries)


def _ingress_ports(obj: Object, _now: datetime) -> str:
    return "80, 443" if obj["spec"].get("tls") else "80"


def _role_ref(obj: Object, _now: datetime) -> str:
    return f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"


def _restarts(obj: Object, now: datetime) -> str:
    count, last = pod_restarts(obj)
    return f"{count} ({age(last, now)} ago)" if count and last else str(count)


_NAME = _Column("Name", _at("metadata", "name"))
_AGE = _Column("Age", _age)
_PLAIN = (_NAME, _AGE)
_TEMPLATE = (
    _Column("Containers", _of_template("name"), 1),
    _Column("Images", _of_template("image"), 1),
    _Column("Selector", _selector, 1),
)
_ROLE = (_NAME, _Column("Created At", _at("metadata", "creationTimestamp")))
_BINDING = (_NAME, _Column("Role", _role_ref), _AGE)

_COLUMNS: Mapping[str, tuple[_Column, ...]] = {
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
    "clusterroles.rbac.authorization.k8s.io": _ROLE,
    "configmaps": (_NAME, _Column("Data", _count("data", "binaryData"), type="integer"), _AGE),
    "deployments.apps": (
        _NAME,
        _Column("Ready", _workload_ready),
        _Column("Up-to-date", _at("status", "updatedReplicas", default=0), type="integer"),
        _Column("Available", _at("status", "availableReplicas", default=0), type="integer"),
        _AGE,
        *_TEMPLATE,
    ),
    "endpointslices.discovery.k8s.io": (
        _NAME,
        _Column("AddressType", _at("addressType")),
        _Column("Ports", _slice_ports),
        _Column("Endpoints", _slice_endpoints),
        _AGE,
    ),
    "events": (
        _Column("Last Seen", _event_seen("lastTimestamp", "firstTimestamp")),
        _Column("Type", _at("type", default="")),
        _Column("Reason", _at("reason", default="")),
        _Column("Object", _event_object),
        _Column("Subobject", _at("involvedObject", "fieldPath", default=""), 1),
        _Column("Source", _event_source, 1),
        _Column("Message", lambda obj, _now: obj.get("message", "").strip()),
        _Column("First Seen", _event_seen("firstTimestamp"), 1),
        _Column("Count", _at("count", default=1), 1, "integer"),
        _Column("Name", _at("metadata", "name"), 1),
    ),
    "ingressclasses.networking.k8s.io": (
        _NAME,
        _Column("Controller", _at("spec", "controller")),
        _Column("Parameters", _at("spec", "parameters", "name")),
        _AGE,
    ),
    "ingresses.networking.k8s.io": (
        _NAME,
        _Column("Class", _at("spec", "ingressClassName")),
        _Column("Hosts", _ingress_hosts),
        _Column("Address", _ingress_address),
        _Column("Ports", _ingress_ports),
        _AGE,
    ),
    "leases.coordination.k8s.io": (
        _NAME,
        _Column("Holder", _at("spec", "holderIdentity", default="")),
        _AGE,
    ),
    "namespaces": (_NAME, _Column("Status", _at("status", "phase")), _AGE),
    "nodes": (
        _NAME,
        _Column("Status", _node_status),
        _Column("Roles", _node_roles),
        _AGE,
        _Column("Version", _at("status", "nodeInfo", "kubeletVersion", default="")),
        _Column("Internal-IP", _node_address, 1),
    ),
    "pods": (
        _NAME,
        _Column("Ready", lambda obj, _now: pod_ready(obj)),
        _Column("Status", lambda obj, _now: pod_status(obj)),
        _Column("Restarts", _restarts),
        _AGE,
        _Column("IP", _at("status", "podIP"), 1),
        _Column("Node", _at("spec", "nodeName"), 1),
        _Column("Nominated Node", _at("status", "nominatedNodeName"), 1),
        _Column("Readiness Gates", lambda _obj, _now: _NONE, 1),
    ),
    "replicasets.apps": (
        _NAME,
        _Column("Desired", _at("spec", "replicas", default=0), type="integer"),
        _Column("Current", _at("status", "replicas", default=0), type="integer"),
        _Column("Ready", _at("status", "readyReplicas", default=0), type="integer"),
        _AGE,
        *_TEMPLATE,
    ),
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    "roles.rbac.authorization.k8s.io": _ROLE,
    "secrets": (
        _NAME,
        _Column("Type", _at("type")),
        _Column("Data", _count("data"), type="integer"),
        _AGE,
    ),
    "services": (
        _NAME,
        _Column("Type", _at("spec", "type")),
        _Column("Cluster-IP", _at("spec", "clusterIP")),
        _Column("External-IP", _at("spec", "externalName")),
        _Column("Port(s)", _service_ports),
        _AGE,
        _Column("Selector", _service_selector, 1),
    ),
    "statefulsets.apps": (_NAME, _Column("Ready", _workload_ready), _AGE, *_TEMPLATE[:2]),
}
