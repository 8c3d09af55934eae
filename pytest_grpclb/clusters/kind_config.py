"""kind's configuration file: what the plugin needs, merged into what the user has. Pure.

:source: kind documentation, "Configuration"
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.remote import EVERYWHERE, served_to
from pytest_grpclb.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONTROL_NODE_PORT", "NODE_IMAGE", "merged"]

NODE_IMAGE = (
    "kindest/node:v1.35.0@sha256:452d707d4862f52530247495d180205e029056831160e22870e37e3f6c1ac31f"
)
"""Kubernetes 1.35: ingress-nginx 1.15.1, its last release, supports nothing newer.

:source: kind, release v0.31.0; ingress-nginx, "Supported Versions table"
"""
CONTROL_NODE_PORT = 30052
"""A NodePort for control traffic that shall not go through the API's port-forward."""

_KIND = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
_PORTS = (80, 443, CONTROL_NODE_PORT)
"""Of the node's container: where an ingress controller listens, and the one for control."""
_LABELS = {"ingress-ready": "true"}
_FREE = 0
"""kind chooses a free port of the host."""


def merged(
    user: Mapping[str, Any] | None, *, image: str = "", source: str = "", remote: str = ""
) -> dict[str, Any]:
    """Return the configuration of the cluster: what *user* says wins, but for *image*.

    :param user: the content of the user's file
    :param image: of every node; empty: `NODE_IMAGE` for nodes that name none
    :param source: where *user* is from, for errors
    :param remote: name of the machine where the nodes run; empty: this one
    :raises OptionError: if *user* is no configuration of kind, or has no control plane
    """
    config: dict[str, Any] = copy.deepcopy(dict(user or {}))
    for key, value in _KIND.items():
        if config.setdefault(key, value) != value:
            raise OptionError("--grpclb-kind-config", source, expected=f"{key}: {value} in it")
    nodes = config.setdefault("nodes", None) or [{"role": "control-plane"}]
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise OptionError("--grpclb-kind-config", source, expected="a list of nodes under 'nodes'")
    config["nodes"] = nodes
    for node in nodes:
        node["image"] = image or node.get("image") or NODE_IMAGE
    planes = [node for node in nodes if node.get("role", "control-plane") == "control-plane"]
    if not planes:
        raise OptionError(
            "--grpclb-kind-config", source, expected="a node with the role 'control-plane'"
        )
    first = planes[0]
    first["labels"] = _LABELS | (first.get("labels") or {})
    mappings = first["extraPortMappings"] = list(first.get("extraPortMappings") or ())
    taken = {mapping.get("containerPort") for mapping in mappings}
    mappings += [
        {
            "containerPort": port,
            "hostPort": _FREE,
            "listenAddress": EVERYWHERE if remote else "127.0.0.1",
            "protocol": "TCP",
        }
        for port in _PORTS
        if port not in taken
    ]
    return served_to(config, remote) if remote else config
