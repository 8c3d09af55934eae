"""Kubernetes objects as texts have them: read, and put into the order in which they are applied."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from pytest_grpclb.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.model import Manifest

__all__ = ["install_order", "read_manifests", "read_yaml"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_KIND_ORDER = (
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)
"""The order in which Helm installs kinds; others come last, by name.

:source: Helm 4, pkg/release/v1/util/kind_sorter.go, InstallOrder
"""


def read_manifests(origin: str, text: str) -> Iterator[Manifest]:
    """Yield the Kubernetes objects of a text, those inside of lists one by one.

    :param origin: what the text is called in errors
    :raises ManifestError: if it is not YAML, or a document is no Kubernetes object
    """
    for document in read_yaml(origin, text):
        if document is not None:
            yield from _objects(origin, document)


def read_yaml(origin: str, text: str) -> list[Any]:
    """Return the documents of a text, read as Helm and Kubernetes read YAML.

    :raises ManifestError: if it is not YAML
    """
    try:
        return list(yaml.load_all(text, Loader=_loader()))
    except yaml.YAMLError as error:
        raise ManifestError(origin, message=f"is not YAML: {error}") from error


def _objects(origin: str, document: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise _refused(origin, document, "is no mapping")
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str) or not document[field]:
            raise _refused(origin, document, f"has no {field}")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _objects(origin, item)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise _refused(origin, document, "has no metadata.name")
    yield document


def _refused(origin: str, document: object, why: str) -> ManifestError:
    seen = repr(document)
    shown = seen if len(seen) <= 100 else f"{seen[:100]}..."
    return ManifestError(
        f"{origin}:", message=f"a document {why}, so it is no Kubernetes object: {shown}"
    )


def install_order(manifest: Manifest) -> tuple[int, str]:
    """Return what to sort manifests by, so that each finds what it needs."""
    kind = manifest["kind"]
    if kind in _KIND_ORDER:
        return _KIND_ORDER.index(kind), ""
    return len(_KIND_ORDER), kind


@cache
def _loader() -> Any:
    """Return a YAML loader that reads plain scalars as Helm and Kubernetes do.

    PyYAML's would make numbers of ``22:22`` and dates of ``2024-01-01``, which no JSON can carry,
    and strings of ``y``, ``0o644`` and ``1e+09``, which is how templates write large numbers.

    :source: sigs.k8s.io/yaml, goyaml.v2/resolve.go
    """
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    changed = {f"tag:yaml.org,2002:{name}" for name in ("float", "int", "timestamp", "value")}
    kept = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in changed]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    more_booleans = base.bool_values | {"y": True, "n": False}
    members = {"yaml_implicit_resolvers": kept, "bool_values": more_booleans}
    loader: Any = type("HelmLoader", (base,), members)
    for name, pattern, first in (
        ("bool", r"[yYnN]", "yYnN"),
        ("int", r"[-+]?(?:0b[01]+|0o?[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9_]*)", "-+0123456789"),
        (
            "float",
            r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?",
            "-+.0123456789",
        ),
    ):
        tag = f"tag:yaml.org,2002:{name}"
        loader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), list(first))
    loader.add_constructor("tag:yaml.org,2002:float", _construct_number)
    return loader


def _construct_number(loader: Any, node: Any) -> float:
    """Read a float; one without a fraction is an integer, as in the JSON that Helm makes of it."""
    number: float = loader.construct_yaml_float(node)
    return int(number) if number.is_integer() else number
