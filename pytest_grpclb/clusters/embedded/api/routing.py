"""Which object, or collection of objects, a URL path speaks of.

:source: Kubernetes documentation, "API concepts", "Resource URIs"
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from pytest_grpclb.clusters.embedded.store.kinds import KINDS, Kind, by_resource
from pytest_grpclb.clusters.embedded.store.status import NotFoundError

__all__ = ["Place", "locate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path leads to; without a name it is a collection."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def locate(path: str) -> Place:
    """Return what a path leads to.

    :raises NotFoundError: if it leads nowhere; the message says what there is
    """
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise NotFoundError(
            f"the embedded cluster has nothing at {path!r}; it has /api, /apis, /openapi/v3, "
            "/version, /healthz, /livez and /readyz"
        )
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group or rest[2] != "status"):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    kind = by_resource(group, version, plural)
    if kind is None or len(rest) > 3:
        full = f"{plural}.{group}" if group else plural
        raise NotFoundError(
            f'the embedded cluster does not know the kind "{full}" in version {version}; '
            f"it knows: {', '.join(sorted(KINDS))}; use --grpclb-cluster=kind for others"
        )
    if namespace and not kind.namespaced:
        raise NotFoundError(f"{kind.name} do not belong to a namespace; leave it out of {path!r}")
    if subresource and subresource not in kind.subresources:
        known = ", ".join(f"{kind.name}/{each}" for each in kind.subresources) or "none"
        raise NotFoundError(
            f'the embedded cluster does not know "{kind.name}/{subresource}"; of the '
            f"subresources of {kind.name} it knows: {known}; use --grpclb-cluster=kind for others"
        )
    return Place(kind=kind, namespace=namespace, name=name, subresource=subresource)
