"""Which Kubernetes a cluster is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from pytest_grpclb.clusters.api.kube import KubeApi

__all__ = ["kube_version"]

_VERSION = re.compile(r"v?\d+\.\d+\.\d+")
_KNOWN: WeakKeyDictionary[KubeApi, str] = WeakKeyDictionary()


def kube_version(api: KubeApi) -> str:
    """Return what the cluster says, such as "v1.36.0" or "v1.34.1-gke.100"; it is asked once.

    Empty: what it says is no version.

    :raises ApiError: if it does not answer
    """
    if api not in _KNOWN:
        told = str(api.request("GET", "/version").get("gitVersion", ""))
        _KNOWN[api] = told if _VERSION.match(told) else ""
    return _KNOWN[api]
