"""What of some manifests can be applied to a cluster; what is left out is named, never dropped."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pytest_grpclb.errors import ApiError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.model import Manifest

__all__ = ["LeftOutWarning", "applicable", "moved"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_SCALERS = frozenset({"HorizontalPodAutoscaler", "VerticalPodAutoscaler", "ScaledObject"})
"""They would undo what tests do."""
_HARMLESS = frozenset(
    {
        "LimitRange",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PodMonitor",
        "PriorityClass",
        "PrometheusRule",
        "ResourceQuota",
        "ServiceMonitor",
    }
)
"""Pods that can run do so in the same way without them, so they are left out where unknown."""


class LeftOutWarning(UserWarning):
    """Something that belongs to the service under test is not put into the cluster."""


def applicable(
    manifests: Sequence[Manifest], api: KubeApi, *, source: str, skipped_kinds: frozenset[str]
) -> list[Manifest]:
    """Return those of *manifests* that are to be applied; a LeftOutWarning names the others.

    :param skipped_kinds: what the user does without where it cannot be applied; it is not named
    :raises ServiceError: if there are others that cannot be applied: of kinds that the cluster
        does not know, or of the whole cluster
    """
    applied: list[Manifest] = []
    refused: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        kind = manifest["kind"]
        if not (why := _unwanted(kind) or _problem(manifest, api)):
            applied.append(manifest)
        elif kind in skipped_kinds:
            continue  # the user has named it: no need to name it again in every run
        elif kind in _HARMLESS or _unwanted(kind):
            _warn(source, manifest, why)
        else:
            refused.setdefault(why, []).append(manifest)
    if refused:
        kinds = dict.fromkeys(each["kind"] for found in refused.values() for each in found)
        raise ServiceError(
            source,
            message="; ".join(
                f"{why}: {', '.join(_words(each) for each in found)}"
                for why, found in refused.items()
            ),
            advice=f"if the pods run without them, set grpclb_skip_kinds = {' '.join(kinds)}; "
            "else have them in the cluster beforehand (--grpclb-cluster)",
        )
    return applied


def moved(manifests: Sequence[Manifest], workload: Manifest, namespace: str) -> list[Manifest]:
    """Return *manifests* with those of the workload's own namespace in that of the test.

    As `kubectl kustomize` does it with its setting ``namespace``: subjects of bindings go along.
    """
    home = workload["metadata"].get("namespace")
    return [_moved(each, home, namespace) for each in manifests] if home else list(manifests)


def _moved(manifest: Manifest, home: str, namespace: str) -> Manifest:
    result = dict(manifest)
    if manifest["metadata"].get("namespace") == home:
        result["metadata"] = {**manifest["metadata"], "namespace": namespace}
    if subjects := manifest.get("subjects"):
        result["subjects"] = [
            {**each, "namespace": namespace} if each.get("namespace") == home else each
            for each in subjects
        ]
    return result


def _unwanted(kind: str) -> str:
    if kind == "Namespace":
        return "each test has a namespace of its own"
    return "it would undo what tests do" if kind in _SCALERS else ""


def _problem(manifest: Manifest, api: KubeApi) -> str:
    try:
        where = api.resource(manifest["apiVersion"], manifest["kind"])
    except ApiError as error:
        if error.status == 404:
            return "the cluster does not know its kind"
        raise
    # It would stay when the namespace of the test goes, and may be somebody else's.
    return "" if where.namespaced else "it belongs to the whole cluster"


def _warn(source: str, manifest: Manifest, why: str) -> None:
    told = f"{source}: {_words(manifest)} is left out: {why}; if that is well, name its kind in "
    warnings.warn(f"{told}grpclb_skip_kinds", LeftOutWarning, stacklevel=4)


def _words(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']!r} ({manifest['apiVersion']})"
