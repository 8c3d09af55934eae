"""The objects of the embedded cluster: versions, history, watches. No I/O, one thread.

Objects are JSON values that belong to the store once they were given to it, and are never changed
in place, neither here nor by a caller: every write makes new outer dictionaries around the parts
that stay. So nothing is copied deeply, and what was read stays as it was.

:source: Kubernetes API conventions, "Concurrency Control and Consistency"; Kubernetes
    documentation, "API concepts", "Efficient detection of changes"
"""

from __future__ import annotations

import random
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pytest_grpclb.clusters.embedded.store.deletion import Propagation, is_held, mark, timestamp
from pytest_grpclb.clusters.embedded.store.kinds import KINDS, Kind
from pytest_grpclb.clusters.embedded.store.status import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    NotFoundError,
)
from pytest_grpclb.clusters.embedded.store.watch import Event, History, Object, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Event", "Object", "Propagation", "Store", "Watch", "timestamp"]

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes ends generated names with: no vowels, so no words. (apimachinery, util/rand)"""
_FROM_OBJECT: Any = object()


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Every object of the cluster, by kind, namespace and name.

    A *kind* is named by its plural with group: ``pods``, ``deployments.apps``.
    """

    def __init__(self, *, now: Callable[[], datetime] = _utc_now) -> None:
        self.revision = 0
        """The last resourceVersion given out; one counter for the whole store."""
        self.now = now
        self._objects: dict[str, dict[tuple[str, str], Object]] = {name: {} for name in KINDS}
        self._histories = {name: History() for name in KINDS}
        self._observers: list[tuple[frozenset[str] | None, Callable[[Event], None]]] = []
        self._unheard: deque[tuple[str, Event]] = deque()
        self._telling = False

    # --- reading

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        """Return one object.

        :raises NotFoundError: if there is none
        """
        found = self.find(kind, name, namespace)
        if found is None:
            raise NotFoundError.of(kind, name)
        return found

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None."""
        return self._objects[kind].get((namespace, name))

    def list(self, kind: str, namespace: str = "") -> list[Object]:
        """Return the objects of a namespace, or of all, by namespace and name."""
        objects = self._objects[kind]
        if namespace:
            return [objects[key] for key in sorted(objects) if key[0] == namespace]
        return [objects[key] for key in sorted(objects)]

    # --- writing

    def create(self, kind: str, obj: Object, *, dry_run: bool = False) -> Object:
        """Add an object; the store gives it its uid, creation time, version and, if asked, name.

        A status that *obj* does not bring is the one that new objects of the kind have.

        :raises AlreadyExistsError: if the name is taken
        """
        what = KINDS[kind]
        given: Object = obj.get("metadata") or {}
        namespace = given.get("namespace", "") if what.namespaced else ""
        if what.namespaced and not namespace:
            raise BadRequestError(f"{kind} belong to a namespace; set metadata.namespace")
        objects = self._objects[kind]
        name = given.get("name") or self._generate_name(objects, namespace, given)
        if (namespace, name) in objects:
            raise AlreadyExistsError.of(kind, name)
        metadata: Object = {"name": name}
        if namespace:
            metadata["namespace"] = namespace
        metadata["uid"] = str(uuid.uuid4())
        if what.counted:
            metadata["generation"] = 1
        metadata["creationTimestamp"] = timestamp(self.now())
        metadata |= {
            key: value
            for key, value in given.items()
            if key not in _SET_BY_STORE and value not in (None, "", {}, [])
        }
        new = _assemble(what, metadata, obj)
        if "status" not in new and what.name in _INITIAL_STATUS:
            new["status"] = _INITIAL_STATUS[what.name]
        return self._write(kind, "ADDED", new, None, dry_run=dry_run)

    def update(
        self, kind: str, obj: Object, *, expect: str | None = _FROM_OBJECT, dry_run: bool = False
    ) -> Object:
        """Replace an object, but for its status and what only the store may set.

        :param expect: resourceVersion that must still be the current one; None: any will do;
            unless given, the one that *obj* carries
        :raises NotFoundError: if there is none
        :raises ConflictError: if it has changed, or is another object of the same name (uid)
        """
        what = KINDS[kind]
        old = self._current(kind, obj, expect)
        kept = old["metadata"]
        metadata: Object = {key: kept[key] for key in _SET_BY_STORE if key in kept}
        metadata |= {
            key: value
            for key, value in obj["metadata"].items()
            if key not in _SET_BY_STORE and value not in (None, "", {}, [])
        }
        new = _assemble(what, metadata, obj)
        if what.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        if what.counted and any(new.get(field) != old.get(field) for field in what.counted):
            metadata["generation"] = kept.get("generation", 0) + 1
        if "deletionTimestamp" in metadata and not is_held(kind, new):
            return self._drop(kind, new, old, dry_run=dry_run)
        return self._write(kind, "MODIFIED", new, old, dry_run=dry_run)

    def update_status(
        self, kind: str, obj: Object, *, expect: str | None = _FROM_OBJECT, dry_run: bool = False
    ) -> Object:
        """Replace an object's status and nothing else.

        :raises NotFoundError: if there is none
        :raises ConflictError: as `update`
        """
        old = self._current(kind, obj, expect)
        new = {**old, "metadata": {**old["metadata"]}, "status": obj.get("status") or {}}
        return self._write(kind, "MODIFIED", new, old, dry_run=dry_run)

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        grace_s: int | None = None,
        propagation: Propagation | None = None,
        uid: str | None = None,
        expect: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Delete an object, or mark it where something has to happen before it may go.

        A pod with grace left stays, marked, until a later call asks for no grace; an object with
        finalizers stays until an `update` takes the last one away; a namespace until `remove`.

        :param grace_s: for pods: 0 is at once, None is what the pod says
        :param propagation: what becomes of the objects that it owns; None: as if Background
        :param uid: uid that it must have
        :param expect: resourceVersion that it must have
        :returns: the last state, or the marked one
        :raises NotFoundError: if there is none
        :raises ConflictError: if it is not the one that was meant
        :source: Kubernetes documentation, "Finalizers", "Garbage Collection", "Pod Lifecycle"
        """
        old = self.get(kind, name, namespace)
        _check_preconditions(kind, old, uid, expect)
        new = mark(kind, old, self.now(), grace_s, propagation)
        if not is_held(kind, new):
            return self._drop(kind, new, old, dry_run=dry_run)
        return self._write(kind, "MODIFIED", new, old, dry_run=dry_run)

    def remove(self, kind: str, name: str, namespace: str = "", uid: str | None = None) -> Object:
        """Take an object away whatever would hold it: the last step of a controller's deletion.

        :raises NotFoundError: if there is none
        :raises ConflictError: if it has another *uid*
        """
        old = self.get(kind, name, namespace)
        _check_preconditions(kind, old, uid, None)
        return self._drop(kind, {**old, "metadata": {**old["metadata"]}}, old)

    # --- following

    def subscribe(
        self, kinds: Iterable[str] | None, wake: Callable[[Event], None]
    ) -> Callable[[], None]:
        """Have *wake* called with every change of some kinds, before the write returns.

        It may write: what it changes is told to everybody after what it is being told of.

        :param kinds: None: all
        :returns: what ends the subscription
        """
        entry = (None if kinds is None else frozenset(kinds), wake)
        self._observers.append(entry)
        return lambda: self._observers.remove(entry)

    def watch(self, kind: str, namespace: str = "", since: int | None = None) -> Watch:
        """Follow the changes of a kind.

        :param namespace: empty: all of them
        :param since: the last revision that the caller knows of; None: the present one
        :raises GoneError: if changes after *since* are no longer kept
        :raises BadRequestError: if *since* lies in the future
        """
        if since is None:
            since = self.revision
        if since > self.revision:
            raise BadRequestError(
                f"resource version {since} was never given out, the last one is {self.revision}; "
                "list and watch from what the list says"
            )
        return self._histories[kind].watch(namespace, since)

    # --- inside

    def _current(self, kind: str, obj: Object, expect: str | None) -> Object:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "") if KINDS[kind].namespaced else ""
        old = self.get(kind, metadata["name"], namespace)
        if expect is _FROM_OBJECT:
            expect = metadata.get("resourceVersion") or None
        if expect is not None and expect != old["metadata"]["resourceVersion"]:
            raise ConflictError.of(kind, metadata["name"])
        _check_preconditions(kind, old, metadata.get("uid") or None, None)
        return old

    def _generate_name(
        self, objects: dict[tuple[str, str], Object], namespace: str, metadata: Object
    ) -> str:
        prefix: str = metadata.get("generateName") or ""
        if not prefix:
            raise BadRequestError("name or generateName is required in metadata")
        while True:
            # Names need to be different, not secret.
            name = prefix + "".join(random.choices(_NAME_ALPHABET, k=5))  # noqa: S311
            if (namespace, name) not in objects:
                return name

    def _write(
        self,
        kind: str,
        change: Literal["ADDED", "MODIFIED"],
        new: Object,
        old: Object | None,
        *,
        dry_run: bool,
    ) -> Object:
        """Store *new*, whose ``metadata`` nobody else holds yet."""
        metadata = new["metadata"]
        if old is not None:
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
            if new == old:
                return old
        elif dry_run:
            metadata.pop("resourceVersion", None)
        if dry_run:
            return new
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        key = (metadata.get("namespace", ""), metadata["name"])
        self._objects[kind][key] = new
        self._publish(kind, Event(change, new, old, self.revision))
        return new

    def _drop(self, kind: str, last: Object, old: Object, *, dry_run: bool = False) -> Object:
        if dry_run:
            return last
        self.revision += 1
        metadata = last["metadata"]
        metadata["resourceVersion"] = str(self.revision)
        del self._objects[kind][metadata.get("namespace", ""), metadata["name"]]
        self._publish(kind, Event("DELETED", last, old, self.revision))
        return last

    def _publish(self, kind: str, event: Event) -> None:
        self._histories[kind].add(event)
        self._unheard.append((kind, event))
        if self._telling:
            return
        self._telling = True
        try:
            while self._unheard:
                name, oldest = self._unheard.popleft()
                for kinds, wake in tuple(self._observers):
                    if kinds is None or name in kinds:
                        wake(oldest)
        finally:
            self._telling = False


_SET_BY_STORE = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
"""Metadata that clients cannot change; in the order in which objects show it."""

_INITIAL_STATUS: dict[str, Object] = {
    "deployments.apps": {},
    "ingresses.networking.k8s.io": {"loadBalancer": {}},
    "namespaces": {"phase": "Active"},
    "pods": {"phase": "Pending", "qosClass": "BestEffort"},
    "replicasets.apps": {"replicas": 0},
    "services": {"loadBalancer": {}},
    "statefulsets.apps": {"replicas": 0},
}


def _assemble(kind: Kind, metadata: Object, obj: Object) -> Object:
    rest = {key: value for key, value in obj.items() if key not in _HEAD}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **rest}


_HEAD = frozenset({"apiVersion", "kind", "metadata"})


def _check_preconditions(kind: str, obj: Object, uid: str | None, expect: str | None) -> None:
    metadata = obj["metadata"]
    for label, wanted, found in (
        ("UID", uid, metadata["uid"]),
        ("ResourceVersion", expect, metadata["resourceVersion"]),
    ):
        if wanted is not None and wanted != found:
            why = (
                f"Precondition failed: {label} in precondition: {wanted}, "
                f"{label} in object meta: {found}"
            )
            raise ConflictError.of(kind, metadata["name"], why)
