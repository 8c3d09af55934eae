"""What the API says of itself: version, groups, resources, and a minimal OpenAPI.

:source: Kubernetes documentation, "API concepts", "Discovery API"; ``k8s.io/api/apidiscovery/v2``
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.store.kinds import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["aggregated", "describe", "openapi"]

Json = dict[str, Any]

_VERSION = {
    # The release whose behaviour the embedded cluster follows; "+" is what semver has for builds.
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+grpclb",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/embedded",
}
_STATUS_VERBS = ("get", "patch", "update")
_SUBRESOURCES: Mapping[str, tuple[str, str, str, tuple[str, ...]]] = {
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "portforward": ("", "v1", "PodPortForwardOptions", ("create", "get")),
    "scale": ("autoscaling", "v1", "Scale", _STATUS_VERBS),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
}
"""Group, version, kind and verbs of the subresources whose objects are of a kind of their own."""


def describe(path: str) -> Json | None:
    """Return the document at a discovery path, or None if the path is none."""
    return _documents().get(path.rstrip("/"))


def aggregated(path: str) -> Json | None:
    """Return all groups, versions and resources below ``/api`` or ``/apis`` in one document."""
    core = {"/api": True, "/apis": False}.get(path.rstrip("/"))
    if core is None:
        return None
    items = []
    for (group, version), kinds in _by_version().items():
        if (group == "") == core:
            resources = [_aggregated_resource(kind) for kind in kinds]
            versions = [{"version": version, "resources": resources, "freshness": "Current"}]
            items.append({"metadata": {"name": group} if group else {}, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def openapi(path: str) -> Json | None:
    """Return the OpenAPI document at a path, or None if the path is none.

    It says only which kinds there are and that writes take ``fieldValidation``: what kubectl looks
    for before it leaves the checking of fields to the server.
    """
    prefix = "/openapi/v3"
    if path == prefix:
        roots = [_root(group, version) for group, version in _by_version()]
        return {"paths": {root[1:]: {"serverRelativeURL": prefix + root} for root in roots}}
    for (group, version), kinds in _by_version().items():
        if path == prefix + _root(group, version):
            return {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": _VERSION["gitVersion"]},
                "paths": dict(_openapi_path(kind) for kind in kinds),
            }
    return None


def _by_version() -> dict[tuple[str, str], list[Kind]]:
    found: dict[tuple[str, str], list[Kind]] = {}
    for kind in KINDS.values():
        found.setdefault((kind.group, kind.version), []).append(kind)
    return found


def _root(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


@functools.cache
def _documents() -> Mapping[str, Json]:
    groups = [_group(group, version) for group, version in _by_version() if group]
    roots = [_root(group, version) for group, version in _by_version()]
    documents: dict[str, Json] = {
        "/version": _VERSION,
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        "": {"paths": ["/api", "/apis", "/version", *roots]},
    }
    for entry in groups:
        documents[f"/apis/{entry['name']}"] = {"kind": "APIGroup", "apiVersion": "v1", **entry}
    for (group, version), kinds in _by_version().items():
        documents[_root(group, version)] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": list(itertools.chain.from_iterable(map(_resources, kinds))),
        }
    return documents


def _group(group: str, version: str) -> Json:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _resources(kind: Kind) -> Iterable[Json]:
    entry: Json = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    }
    yield entry | _names(kind)
    for name in kind.subresources:
        group, version, of, verbs = _subresource(kind, name)
        other = {"group": group, "version": version} if of != kind.kind else {}
        yield {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            **other,
            "kind": of,
            "verbs": verbs,
        }


def _aggregated_resource(kind: Kind) -> Json:
    entry: Json = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    }
    subresources = []
    for name in kind.subresources:
        group, version, of, verbs = _subresource(kind, name)
        response = {"group": group, "version": version, "kind": of}
        subresources.append({"subresource": name, "responseKind": response, "verbs": verbs})
    return entry | _names(kind) | ({"subresources": subresources} if subresources else {})


def _names(kind: Kind) -> Json:
    names = {"shortNames": kind.short_names, "categories": kind.categories}
    return {key: value for key, value in names.items() if value}


def _subresource(kind: Kind, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    verbs = ("get",) if name == "log" else _STATUS_VERBS
    return _SUBRESOURCES.get(name, (kind.group, kind.version, kind.kind, verbs))


def _openapi_path(kind: Kind) -> tuple[str, Json]:
    scope = "/namespaces/{namespace}" if kind.namespaced else ""
    which = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    operation = {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": which,
        "parameters": [
            {
                "name": "fieldValidation",
                "in": "query",
                "schema": {"type": "string", "uniqueItems": True},
            }
        ],
        "responses": {"200": {"description": "OK"}},
    }
    path = f"{_root(kind.group, kind.version)}{scope}/{kind.plural}/{{name}}"
    return path, {"patch": operation}
