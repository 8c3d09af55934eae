"""What clients may do to objects: decode, default, validate, admit, store.

:source: Kubernetes documentation, "API concepts"; "Admission Control in Kubernetes"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_grpclb.clusters.embedded.api import ownership
from pytest_grpclb.clusters.embedded.api.decoding import decode
from pytest_grpclb.clusters.embedded.api.defaults import with_defaults
from pytest_grpclb.clusters.embedded.api.patch import json_patch, merge_patch, strategic_merge_patch
from pytest_grpclb.clusters.embedded.api.shapes import PLAIN, Shape, shape_of
from pytest_grpclb.clusters.embedded.api.validation import validate
from pytest_grpclb.clusters.embedded.store.selectors import selector_text
from pytest_grpclb.clusters.embedded.store.status import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    UnsupportedMediaTypeError,
)
from pytest_grpclb.clusters.embedded.store.store import Object, Store

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.api.routing import Place
    from pytest_grpclb.clusters.embedded.store.kinds import Kind

__all__ = ["APPLY", "Admit", "Validation", "WriteOptions", "Writer", "scale_of"]

Admit = Callable[[str, Object], Object]
"""Last word on an object that is about to be created, by kind: gives what it lacks, or raises.

It returns another object and leaves the one that it is given as it is.
"""

Validation = Literal["Ignore", "Strict", "Warn"]

APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What a request says of how to write."""

    manager: str
    dry_run: bool = False
    force: bool = False
    validation: Validation = "Warn"
    """What becomes of fields that the kind does not have; they are never stored."""
    warnings: list[str] = field(default_factory=list)
    """Filled by the write: what the client is to be told though all went well."""


class Writer:
    """Writes for clients, with all the checks that controllers inside the cluster do without."""

    def __init__(self, store: Store, admit: Admit) -> None:
        self._store, self._admit = store, admit

    def create(self, place: Place, obj: Any, options: WriteOptions) -> Object:
        """Create an object from what a client sent."""
        kind = place.kind
        obj = _addressed(obj, place)
        if obj["metadata"].get("resourceVersion"):
            raise BadRequestError("resourceVersion should not be set on objects to be created")
        obj = self._prepare(kind, obj, None, options)
        if kind.has_status and kind.name != "nodes":  # a node registers itself with its status
            obj = {key: value for key, value in obj.items() if key != "status"}
        owned = ownership.note_update(
            None, obj, shape_of(kind.name), manager=options.manager, now=self._store.now()
        )
        return self._create(kind, owned, options)

    def update(self, place: Place, obj: Any, options: WriteOptions) -> Object:
        """Replace an object, or its status or scale, by what a client sent."""
        old = self._store.get(place.kind.name, place.name, place.namespace)
        obj = _addressed(obj, place)
        return self._replace(place, old, _inherit(place.kind, obj, old), options)

    def patch(self, place: Place, media_type: str, patch: Any, options: WriteOptions) -> Object:
        """Change an object, or its status or scale, by a patch."""
        old = self._store.get(place.kind.name, place.name, place.namespace)
        scale = place.subresource == "scale"
        before = scale_of(old) if scale else old
        new = _patched(before, media_type, patch, PLAIN if scale else shape_of(place.kind.name))
        return self._replace(place, old, _addressed(new, place), options)

    def apply(self, place: Place, applied: Any, options: WriteOptions) -> tuple[Object, bool]:
        """Create or change an object by server-side apply; return it and whether it is new."""
        kind = place.kind
        applied = _addressed(applied, place)
        if place.subresource:
            raise BadRequestError(
                f"server-side apply to {kind.name}/{place.subresource} is not there in the "
                "embedded cluster; use a merge patch"
            )
        applied, unknown = decode(applied, kind.kind)
        _tell_unknown(kind, unknown, options)
        old = self._store.find(kind.name, place.name, place.namespace)
        new = ownership.apply(
            old,
            {key: value for key, value in applied.items() if key != "status"},
            shape_of(kind.name),
            manager=options.manager,
            force=options.force,
            now=self._store.now(),
            kind=kind.name,
        )
        new = with_defaults(kind.name, new)
        validate(kind.name, new, old)
        if old is None:
            return self._create(kind, new, options), True
        expect = applied["metadata"].get("resourceVersion")
        return self._store.update(kind.name, new, expect=expect, dry_run=options.dry_run), False

    def _replace(self, place: Place, old: Object, new: Object, options: WriteOptions) -> Object:
        kind = place.kind
        if place.subresource == "status":
            new, unknown = decode(new, kind.kind)
            _tell_unknown(kind, unknown, options)
            return self._store.update_status(kind.name, new, dry_run=options.dry_run)
        if place.subresource == "scale":
            scale, unknown = decode(new, "Scale")
            _tell_unknown(kind, unknown, options)
            replicas = scale.get("spec", {}).get("replicas", 0)
            metadata = {**old["metadata"]}
            version = scale["metadata"].get("resourceVersion")
            if version:
                metadata["resourceVersion"] = version
            new = {**old, "metadata": metadata, "spec": {**old["spec"], "replicas": replicas}}
            validate(kind.name, new, old)
        else:
            new = self._prepare(kind, new, old, options)
        owned = ownership.note_update(
            old, new, shape_of(kind.name), manager=options.manager, now=self._store.now()
        )
        return self._store.update(kind.name, owned, dry_run=options.dry_run)

    def _prepare(
        self, kind: Kind, obj: Object, old: Object | None, options: WriteOptions
    ) -> Object:
        clean, unknown = decode(obj, kind.kind)
        _tell_unknown(kind, unknown, options)
        clean = with_defaults(kind.name, clean)
        validate(kind.name, clean, old)
        return clean

    def _create(self, kind: Kind, obj: Object, options: WriteOptions) -> Object:
        if kind.namespaced:
            self._check_namespace(obj)
        obj = self._admit(kind.name, obj)
        return self._store.create(kind.name, obj, dry_run=options.dry_run)

    def _check_namespace(self, obj: Object) -> None:
        metadata = obj["metadata"]
        namespace = self._store.find("namespaces", metadata["namespace"])
        if namespace is None:
            raise NotFoundError.of("namespaces", metadata["namespace"])
        if "deletionTimestamp" in namespace["metadata"]:
            name = metadata.get("name") or metadata.get("generateName", "")
            raise ForbiddenError(
                f'{obj["kind"]} "{name}" is forbidden: unable to create new content in namespace '
                f"{metadata['namespace']} because it is being terminated",
                details={
                    "name": name,
                    "causes": [
                        {
                            "reason": "NamespaceTerminating",
                            "message": f"namespace {metadata['namespace']} is being terminated",
                            "field": "metadata.namespace",
                        }
                    ],
                },
            )


def scale_of(obj: Object) -> Object:
    """Return the Scale object of a deployment or replica set.

    :source: Kubernetes API reference, autoscaling/v1, Scale
    """
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: obj["metadata"][key] for key in kept},
        "spec": {"replicas": obj["spec"]["replicas"]},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": selector_text(obj["spec"]["selector"]),
        },
    }


def _addressed(obj: Any, place: Place) -> Object:
    """Return what a client sent with the name and namespace of the path that it sent it to.

    :raises BadRequestError: if it says of itself that it is something else
    """
    kind = place.kind
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata") or {}, dict):
        raise BadRequestError(f"the body of the request is not a {kind.kind} object: {obj!r:.100}")
    if place.subresource != "scale":
        said = (obj.get("apiVersion", kind.api_version), obj.get("kind", kind.kind))
        if said != (kind.api_version, kind.kind):
            raise BadRequestError(
                f"{said[1]} in version {said[0]!r} cannot be handled as a {kind.kind} of "
                f"{kind.api_version}, which this path is for"
            )
    metadata = {**(obj.get("metadata") or {})}
    for key, told, wanted in (
        ("namespace", metadata.get("namespace"), place.namespace),
        ("name", metadata.get("name"), place.name),
    ):
        if told and wanted and told != wanted:
            raise BadRequestError(
                f"the {key} of the provided object does not match the {key} sent on the request: "
                f"{told!r} and {wanted!r}"
            )
        if wanted:
            metadata[key] = wanted
    if not kind.namespaced:
        metadata.pop("namespace", None)
    head = {"apiVersion": kind.api_version, "kind": kind.kind}
    return {**head, **obj, "metadata": metadata}


def _patched(before: Object, media_type: str, patch: Any, shape: Shape) -> Any:
    match media_type:
        case "application/merge-patch+json":
            return merge_patch(before, patch)
        case "application/strategic-merge-patch+json":
            return strategic_merge_patch(before, patch, shape)
        case "application/json-patch+json":
            return json_patch(before, patch)
        case _:
            raise UnsupportedMediaTypeError(
                f"the body of the request was in an unknown format - {media_type!r}; accepted "
                "media types include: application/json-patch+json, application/merge-patch+json, "
                f"application/strategic-merge-patch+json, {APPLY}"
            )


def _inherit(kind: Kind, obj: Object, old: Object) -> Object:
    """Return a replacement with what the cluster had allocated and the client left out.

    :source: Kubernetes, ``pkg/registry/core/service/storage``, patchAllocatedValues
    """
    if kind.name != "services" or not isinstance(obj.get("spec"), dict):
        return obj
    allocated = {
        key: old["spec"][key]
        for key in ("clusterIP", "clusterIPs")
        if key in old["spec"] and not obj["spec"].get(key)
    }
    return {**obj, "spec": {**obj["spec"], **allocated}} if allocated else obj


def _tell_unknown(kind: Kind, unknown: list[str], options: WriteOptions) -> None:
    told = [f'unknown field "{path}"' for path in unknown]
    if told and options.validation == "Strict":
        raise BadRequestError(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"strict decoding error: {', '.join(told)}"
        )
    if options.validation == "Warn":
        options.warnings.extend(told)
