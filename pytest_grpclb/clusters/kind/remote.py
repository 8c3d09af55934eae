"""Containers that run on another machine, as with GitLab's docker:dind beside a job.

:source: Docker documentation, "docker", environment variables; podman-remote(1); kind
    documentation, "Configuration", networking and kubeadm config patches
"""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["EVERYWHERE", "lead_to", "remote_host", "served_to"]

_VARIABLES = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST", "nerdctl": ""}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - of the machine with the containers, whose network is the job's
_HERE = frozenset({EVERYWHERE, "127.0.0.1", "::", "::1", "localhost"})


def remote_host(engine: str) -> str:
    """Return the name of the machine where *engine* runs containers; empty: it is this one.

    Over ssh, ports of that machine are not those of a job's network: whoever forwards them has them
    here.
    """
    url = urlsplit(os.environ.get(_VARIABLES.get(engine, ""), ""))
    host = url.hostname or ""
    if url.scheme not in {"tcp", "http", "https"} or host in _HERE:
        return ""
    try:
        return "" if ipaddress.ip_address(host).is_loopback else host
    except ValueError:
        return host


def served_to(config: dict[str, Any], host: str) -> dict[str, Any]:
    """Return a configuration of kind whose API can be reached, and trusted, by the name *host*.

    What is set there already wins.
    """
    patch = {
        "kind": "ClusterConfiguration",
        "apiServer": {"certSANs": ["localhost", "127.0.0.1", host]},
    }
    networking: Mapping[str, Any] = config.get("networking") or {}
    return {
        **config,
        "networking": {"apiServerAddress": EVERYWHERE, **networking},
        # The user's come after it, and change it.
        "kubeadmConfigPatches": [
            yaml.safe_dump(patch),
            *(config.get("kubeadmConfigPatches") or ()),
        ],
    }


def lead_to(kubeconfig: Path, context: str, host: str) -> None:
    """Have *context* of a kubeconfig lead to *host*, where it names an address of "here"."""
    config = yaml.safe_load(kubeconfig.read_text())
    [cluster] = [
        each["context"]["cluster"] for each in config["contexts"] if each["name"] == context
    ]
    for each in config["clusters"]:
        url = urlsplit(each["cluster"]["server"])
        if each["name"] == cluster and url.hostname in _HERE:
            name = f"[{host}]" if ":" in host else host
            each["cluster"]["server"] = url._replace(netloc=f"{name}:{url.port}").geturl()
    kubeconfig.write_text(yaml.safe_dump(config))
