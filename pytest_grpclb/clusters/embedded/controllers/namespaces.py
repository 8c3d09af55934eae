"""Namespaces: what every one has, and emptying those that are deleted.

:source: Kubernetes, ``pkg/controller/namespace/deletion``, ``pkg/controller/serviceaccount``
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.controllers.manager import Key
from pytest_grpclb.clusters.embedded.controllers.owners import is_deleted
from pytest_grpclb.clusters.embedded.store.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event

__all__ = ["Namespaces"]

_NAMESPACED = tuple(kind.name for kind in KINDS.values() if kind.namespaced)
_LAST = "events"
"""Deleting makes events; they are worth reading until the end."""


class Namespaces:
    """Gives each namespace its service account, and takes a deleted one's contents away first."""

    kinds = ("namespaces", *_NAMESPACED)

    def __init__(self, store: Store) -> None:
        self._store = store

    def concerned(self, event: Event) -> Iterable[Key]:
        """Name the namespace that changed, or that something is missing from now."""
        metadata = event.object["metadata"]
        if event.object["kind"] == "Namespace":
            if event.type != "DELETED":
                yield Key("", metadata["name"])
        elif event.type == "DELETED":
            yield Key("", metadata["namespace"])

    def sync(self, key: Key) -> None:
        """Complete a namespace, or take away what is left of it."""
        namespace = self._store.find("namespaces", key.name)
        if namespace is None:
            return
        if not is_deleted(namespace):
            if self._store.find("serviceaccounts", "default", key.name) is None:
                metadata = {"name": "default", "namespace": key.name}
                self._store.create("serviceaccounts", {"metadata": metadata})
            return
        left = False
        for kind in _NAMESPACED:
            if kind == _LAST:
                continue
            for obj in self._store.list(kind, key.name):
                left = True
                if not is_deleted(obj):
                    self._store.delete(kind, obj["metadata"]["name"], key.name)
        left = left and any(
            self._store.list(kind, key.name) for kind in _NAMESPACED if kind != _LAST
        )
        if left:
            self._tell_finalizers(key.name)
            return  # pods have their grace, others their finalizers: their end wakes this again
        for event in self._store.list(_LAST, key.name):
            self._store.remove(_LAST, event["metadata"]["name"], key.name)
        self._store.remove("namespaces", key.name)

    def _tell_finalizers(self, name: str) -> None:
        """Say in the namespace's status whose finalizers it waits for, as long as there are any.

        :source: ``pkg/controller/namespace/deletion/status_condition_utils.go``
        """
        namespace = self._store.find("namespaces", name)
        if namespace is None:
            return
        waiting = Counter(
            finalizer
            for kind in _NAMESPACED
            for obj in self._store.list(kind, name)
            for finalizer in obj["metadata"].get("finalizers") or ()
        )
        told = ", ".join(
            f"{finalizer} in {count} resource instances"
            for finalizer, count in sorted(waiting.items())
        )
        condition = {
            "type": "NamespaceFinalizersRemaining",
            "status": "True" if told else "False",
            "reason": "SomeFinalizersRemain" if told else "ContentHasNoFinalizers",
            "message": f"Some content in the namespace has finalizers remaining: {told}"
            if told
            else "All content-preserving finalizers finished",
        }
        status = namespace.get("status") or {}
        if status.get("conditions") != [condition]:
            status = {**status, "conditions": [condition]}
            self._store.update_status("namespaces", {**namespace, "status": status}, expect=None)
