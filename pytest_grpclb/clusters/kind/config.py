"""kind's configuration file: what the plugin needs, merged into what the user has.

:source: kind documentation, "Configuration"
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import yaml

from pytest_grpclb.clusters.kind.remote import EVERYWHERE, served_to
from pytest_grpclb.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "CONTROL_NODE_PORT",
    "IMAGE_FOR_CGROUP_V1",
    "NODE_IMAGE",
    "merged",
    "needs_cgroup_v2",
    "read",
]

NODE_IMAGE = (
    "kindest/node:v1.35.0@sha256:452d707d4862f52530247495d180205e029056831160e22870e37e3f6c1ac31f"
)
"""Kubernetes 1.35: ingress-nginx 1.15.1, its last release, supports nothing newer.

:source: kind, release v0.31.0; ingress-nginx, "Supported Versions table"
"""
IMAGE_FOR_CGROUP_V1 = (
    "kindest/node:v1.34.3@sha256:08497ee19eace7b4b5348db5c6a1591d7752b164530a36f855cb0f2bdcbadd48"
)
"""The newest of the same release of kind whose kubelet starts with control groups of version 1.

:source: kind, release v0.31.0, "Images pre-built for this release"
"""
_CGROUP_V2_SINCE = 35
"""The minor version of Kubernetes since which a kubelet by default does not start without.

:source: Kubernetes, KEP-5573, "Remove cgroup v1 support"
"""
CONTROL_NODE_PORT = 30052
"""A NodePort for control traffic that shall not go through the API's port-forward."""

_KIND = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
_PORTS = (80, 443, CONTROL_NODE_PORT)
"""Of the node's container: where an ingress controller listens, and the one for control."""
_LABELS = {"ingress-ready": "true"}
_FREE = 0
"""kind chooses a free port of the host."""


def read(path: Path | None, *, image: str = "", remote: str = "") -> dict[str, Any]:
    """Return the configuration of the cluster, with what the user has in the file *path*.

    :raises OptionError: if that is no configuration of kind
    """
    if path is None:
        return merged(None, image=image, remote=remote)
    source = str(path)
    try:
        user = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        expected = f"a YAML file with a configuration of kind; it says: {error}"
        raise OptionError("--grpclb-kind-config", source, expected=expected) from error
    if not isinstance(user, dict):
        raise OptionError("--grpclb-kind-config", source, expected="a mapping in the file")
    return merged(user, image=image, source=source, remote=remote)


def needs_cgroup_v2(config: Mapping[str, Any]) -> str:
    """Return the image of the first node that does not start with control groups of version 1.

    Empty: there is none, as far as the tags of their images tell.
    """
    for node in config["nodes"]:
        found = re.search(r":v1\.(\d+)\.", node["image"])
        if found and int(found[1]) >= _CGROUP_V2_SINCE:
            return str(node["image"])
    return ""


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
