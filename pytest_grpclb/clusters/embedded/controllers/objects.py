"""What a new cluster has in it: its controllers, namespaces, node, and the way to its own API."""

from __future__ import annotations

import platform
import uuid
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.api.rbac import DEFAULTS
from pytest_grpclb.clusters.embedded.controllers.deployments import Deployments
from pytest_grpclb.clusters.embedded.controllers.endpointslices import EndpointSlices
from pytest_grpclb.clusters.embedded.controllers.garbage import GarbageCollector
from pytest_grpclb.clusters.embedded.controllers.namespaces import Namespaces
from pytest_grpclb.clusters.embedded.controllers.replicasets import ReplicaSets
from pytest_grpclb.clusters.embedded.controllers.statefulsets import StatefulSets
from pytest_grpclb.clusters.embedded.store.store import Store, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb.clusters.embedded.controllers.manager import Controller

__all__ = ["NODE", "bootstrap", "controllers"]

NODE = "embedded"
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_PODS = "1000"
"""More than a machine runs with pleasure; Kubernetes' own limit of 110 is about its network."""


def controllers(store: Store) -> Sequence[Controller]:
    """Return the control loops of a cluster; to be made before anything is in the store."""
    return (
        GarbageCollector(store),
        Namespaces(store),
        Deployments(store),
        ReplicaSets(store),
        StatefulSets(store),
        EndpointSlices(store),
    )


def bootstrap(store: Store, *, node_address: str, api: tuple[str, int], version: str) -> None:
    """Put into the store what a new Kubernetes has.

    Namespaces, roles, a node, the Service of the API.
    """
    for kind, obj in DEFAULTS:
        store.create(kind, obj)
    for name in _NAMESPACES:
        labels = {"kubernetes.io/metadata.name": name}
        metadata = {"name": name, "labels": labels}
        store.create("namespaces", {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}})
    address, port = api
    ports = [{"name": "https", "port": port, "protocol": "TCP", "targetPort": port}]
    labels = {"component": "apiserver", "provider": "kubernetes"}
    store.create(
        "services",
        {
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": address,
                "clusterIPs": [address],
                "ports": ports,
                "sessionAffinity": "None",
            },
        },
    )
    now = timestamp(store.now())
    store.create(
        "nodes",
        {
            "metadata": {
                "name": NODE,
                "labels": {
                    "ingress-ready": "true",  # what manifests made for kind select
                    "kubernetes.io/hostname": NODE,
                    "kubernetes.io/arch": _architecture(),
                    "kubernetes.io/os": "linux",
                    "node-role.kubernetes.io/control-plane": "",
                },
            },
            "spec": {},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": node_address},
                    {"type": "Hostname", "address": NODE},
                ],
                "allocatable": {"pods": _PODS},
                "capacity": {"pods": _PODS},
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True",
                        "reason": "KubeletReady",
                        "message": "processes can be started",
                        "lastHeartbeatTime": now,
                        "lastTransitionTime": now,
                    }
                ],
                "nodeInfo": _node_info(version),
            },
        },
    )


def _node_info(version: str) -> dict[str, str]:
    """Return what a node tells of itself; clients with types refuse one that leaves anything out.

    :source: Kubernetes API, ``NodeSystemInfo``
    """
    return {
        "architecture": _architecture(),
        "bootID": str(uuid.uuid4()),
        "containerRuntimeVersion": "processes://1",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "",
        "kubeletVersion": version,
        "machineID": uuid.uuid4().hex,
        "operatingSystem": "linux",
        "osImage": platform.system(),
        "systemUUID": str(uuid.uuid4()),
    }


def _architecture() -> str:
    """Return this machine's, as Go calls it."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
