"""A container's environment variables, as the kubelet makes them. Pure: objects in, strings out.

:source: Kubernetes documentation, "Define Environment Variables for a Container", "Define Dependent
    Environment Variables", "Downward API"
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["ConfigError", "config_data", "expand", "field_of", "variables"]

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(GrpclbError):
    """A container's configuration names something that is not there."""


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by what is known; ``$$`` is a dollar sign, an unknown name stays.

    :source: Kubernetes, ``third_party/forked/golang/expansion``
    """

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return known.get(found[1], found[0])

    return _REFERENCE.sub(value, text)


def field_of(pod: Object, path: str) -> str:  # noqa: PLR0911 - one for each field
    """Return a field of a pod for ``fieldRef``.

    :raises ConfigError: if the downward API has no such field
    """
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.rpartition(".")[2]])
        case "metadata.labels" | "metadata.annotations":
            pairs = sorted((metadata.get(path.rpartition(".")[2]) or {}).items())
            return "\n".join(f'{key}="{value}"' for key, value in pairs)
        case "spec.nodeName":
            return str(spec.get("nodeName", ""))
        case "spec.serviceAccountName":
            return str(spec.get("serviceAccountName") or "default")
        case "status.hostIP" | "status.hostIPs":
            return str(status.get("hostIP", ""))
        case "status.podIP" | "status.podIPs":
            return str(status.get("podIP", ""))
        case _:
            raise ConfigError(f"fieldRef {path!r}: the downward API has no such field")


def config_data(
    store: Store, kind: str, namespace: str, name: str, *, optional: bool
) -> dict[str, bytes] | None:
    """Return the contents of a config map or secret; None if it is optional and not there.

    :param kind: ``configmaps`` or ``secrets``
    :raises ConfigError: if it is not there and should be
    """
    found = store.find(kind, name, namespace)
    if found is None:
        if optional:
            return None
        raise ConfigError(f'{kind.removesuffix("s")} "{name}" not found')
    if kind == "secrets":
        return _decoded(found.get("data")) | _encoded(found.get("stringData"))
    return _encoded(found.get("data")) | _decoded(found.get("binaryData"))


def variables(
    store: Store, pod: Object, container: Object, base: Mapping[str, str]
) -> dict[str, str]:
    """Return all variables of a container: *base*, ``envFrom``, ``env``; the last one wins.

    :raises ConfigError: if a config map, secret, key or field that it names is not there
    """
    namespace = pod["metadata"]["namespace"]
    result = dict(base)
    for source in container.get("envFrom") or ():
        result |= _imported(store, namespace, source)
    for entry in container.get("env") or ():
        if "valueFrom" in entry:
            value = _value_from(store, pod, entry["valueFrom"])
            if value is not None:
                result[entry["name"]] = value
        else:
            result[entry["name"]] = expand(entry.get("value", ""), result)
    return result


def _imported(store: Store, namespace: str, source: Mapping[str, Any]) -> Iterator[Any]:
    prefix = source.get("prefix", "")
    for field, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
        if field in source:
            reference = source[field]
            optional = bool(reference.get("optional"))
            data = config_data(store, kind, namespace, reference["name"], optional=optional) or {}
            for key, value in data.items():
                yield f"{prefix}{key}", value.decode(errors="surrogateescape")


def _value_from(store: Store, pod: Object, source: Mapping[str, Any]) -> str | None:
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    namespace = pod["metadata"]["namespace"]
    for field, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if field in source:
            reference = source[field]
            name, key = reference["name"], reference["key"]
            optional = bool(reference.get("optional"))
            data = config_data(store, kind, namespace, name, optional=optional)
            if data is None:
                return None
            if key in data:
                return data[key].decode(errors="surrogateescape")
            if optional:
                return None
            what = "ConfigMap" if kind == "configmaps" else "Secret"
            raise ConfigError(f"couldn't find key {key} in {what} {namespace}/{name}")
    raise ConfigError(
        f"valueFrom {', '.join(sorted(source))}: the embedded cluster knows fieldRef, "
        "configMapKeyRef and secretKeyRef"
    )


def _encoded(data: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: value.encode() for key, value in (data or {}).items()}


def _decoded(data: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (data or {}).items()}
