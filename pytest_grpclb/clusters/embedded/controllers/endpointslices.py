"""EndpointSlices: the pods behind each Service, and whether they are to be used.

:source: Kubernetes, ``staging/src/k8s.io/endpointslice``; documentation, "EndpointSlices"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.controllers.manager import Key
from pytest_grpclb.clusters.embedded.controllers.owners import is_deleted, reference
from pytest_grpclb.clusters.embedded.controllers.replicasets import is_ready
from pytest_grpclb.clusters.embedded.store.selectors import matches_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["SERVICE_LABEL", "SLICES", "EndpointSlices"]

SLICES = "endpointslices.discovery.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"
_MANAGED_LABEL = "endpointslice.kubernetes.io/managed-by"
_MANAGER = "endpointslice-controller.k8s.io"
_LARGEST = 100
"""Endpoints of one slice, the default of kube-controller-manager's --max-endpoints-per-slice."""


class EndpointSlices:
    """Keeps the slices of Services that have a selector."""

    kinds = ("services", "pods", SLICES)

    def __init__(self, store: Store) -> None:
        self._store = store

    def concerned(self, event: Event) -> Iterable[Key]:
        """Name the Services that changed, or pick a changed pod, or own a changed slice."""
        metadata = event.object["metadata"]
        namespace = metadata["namespace"]
        match event.object["kind"]:
            case "Service":
                yield Key(namespace, metadata["name"])
            case "EndpointSlice":
                labels = metadata.get("labels") or {}
                if labels.get(_MANAGED_LABEL) == _MANAGER and SERVICE_LABEL in labels:
                    yield Key(namespace, labels[SERVICE_LABEL])
            case _:
                for service in self._store.list("services", namespace):
                    selector = service["spec"].get("selector") or {}
                    if any(
                        matches_labels(selector, pod)
                        for pod in (event.object, event.previous)
                        if pod is not None
                    ):
                        yield Key(namespace, service["metadata"]["name"])

    def sync(self, key: Key) -> None:
        """Make the slices of a Service say what its pods are."""
        service = self._store.find("services", key.name, key.namespace)
        present = [
            each
            for each in self._store.list(SLICES, key.namespace)
            if (each["metadata"].get("labels") or {}).get(SERVICE_LABEL) == key.name
            and each["metadata"]["labels"].get(_MANAGED_LABEL) == _MANAGER
        ]
        if service is None or is_deleted(service):
            return  # the garbage collector takes what belonged to it
        wanted = self._wanted(service) if service["spec"].get("selector") else []
        for ports, endpoints in wanted:
            same = next((each for each in present if (each.get("ports") or []) == ports), None)
            if same is None:
                same = present[0] if present else None
            if same is None:
                self._store.create(SLICES, self._slice(service, ports, endpoints))
            else:
                present.remove(same)
                self._store.update(SLICES, {**same, "ports": ports, "endpoints": endpoints})
        for each in present:
            self._store.delete(SLICES, each["metadata"]["name"], key.namespace)

    def _wanted(self, service: Object) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield ports and endpoints of each slice; pods whose named ports differ are apart."""
        grouped: dict[str, tuple[list[Any], list[Any]]] = {}
        for pod in self._store.list("pods", service["metadata"]["namespace"]):
            status = pod.get("status", {})
            if (
                not matches_labels(service["spec"]["selector"], pod)
                or status.get("phase") in {"Succeeded", "Failed"}
                or not status.get("podIP")
            ):
                continue
            ports = list(_resolved_ports(service, pod))
            grouped.setdefault(repr(ports), (ports, []))[1].append(_endpoint(service, pod))
        if not grouped:
            grouped[""] = ([], [])
        for ports, endpoints in grouped.values():
            for first in range(0, max(len(endpoints), 1), _LARGEST):
                yield ports, endpoints[first : first + _LARGEST]

    def _slice(self, service: Object, ports: list[Any], endpoints: list[Any]) -> Object:
        metadata = service["metadata"]
        own = metadata.get("labels") or {}
        headless = service["spec"].get("clusterIP") == "None"
        return {
            "metadata": {
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                "labels": {
                    **own,
                    SERVICE_LABEL: metadata["name"],
                    _MANAGED_LABEL: _MANAGER,
                    **({"service.kubernetes.io/headless": ""} if headless else {}),
                },
                "ownerReferences": [reference("services", service)],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        }


def _resolved_ports(service: Object, pod: Object) -> Iterator[Object]:
    """Yield where each port of a Service leads on one pod; a name that it has not leads nowhere."""
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        target = port.get("targetPort") or port["port"]
        if isinstance(target, str):
            target = next(
                (
                    each["containerPort"]
                    for container in _containers(pod)
                    for each in container.get("ports") or ()
                    if each.get("name") == target and each.get("protocol", "TCP") == protocol
                ),
                None,
            )
        if target is not None:
            resolved = {"name": port.get("name", ""), "port": target, "protocol": protocol}
            if "appProtocol" in port:
                resolved["appProtocol"] = port["appProtocol"]
            yield resolved


def _containers(pod: Object) -> list[Any]:
    sidecars = [
        each
        for each in pod["spec"].get("initContainers") or ()
        if each.get("restartPolicy") == "Always"
    ]
    return [*pod["spec"]["containers"], *sidecars]


def _endpoint(service: Object, pod: Object) -> Object:
    """Describe a pod as an endpoint.

    :source: Kubernetes, ``staging/src/k8s.io/endpointslice/utils.go``, podToEndpoint
    """
    serving, terminating = is_ready(pod), is_deleted(pod)
    early = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": early or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"].get("nodeName", ""),
        "targetRef": {
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "namespace": pod["metadata"]["namespace"],
            "uid": pod["metadata"]["uid"],
        },
    }
    hostname = pod["spec"].get("hostname")
    if hostname and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = hostname
    return endpoint
