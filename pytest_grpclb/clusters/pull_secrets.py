"""Secrets by which nodes may pull the images of a run's pods, brought to the namespace of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.clusters.api.kube import KubeApi, Resource
from pytest_grpclb.errors import ApiError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb.model import Manifest
    from pytest_grpclb.settings import PullSecret

__all__ = ["copied_secrets"]

_OPTION = "--grpclb-image-pull-secret"
_SECRETS = Resource("v1", "secrets", namespaced=True)
_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")
""":source: Kubernetes documentation, "Secrets", "Docker config Secrets" """


def copied_secrets(api: KubeApi, wanted: Sequence[PullSecret]) -> list[Manifest]:
    """Return copies of those of *wanted* that are to be taken from another namespace.

    :raises OptionError: if one cannot be read, or is none for pulling images
    """
    return [_copied(api, each) for each in wanted if each.namespace]


def _copied(api: KubeApi, wanted: PullSecret) -> Manifest:
    given = f"{wanted.namespace}/{wanted.name}"
    try:
        found = api.get(_SECRETS, wanted.namespace, wanted.name)
    except ApiError as error:
        raise OptionError(
            _OPTION,
            given,
            expected=f"NAMESPACE/NAME of a Secret that this user may read; {error}",
        ) from error
    kind = found.get("type", "Opaque")
    if kind not in _TYPES:
        raise OptionError(
            _OPTION, given, expected=f"a Secret of the type {' or '.join(_TYPES)}, not {kind}"
        )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": wanted.copied_name},
        "type": kind,
        "data": found.get("data") or {},
    }
