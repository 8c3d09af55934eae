"""Garbage collection: what is owned goes with its owners.

:source: Kubernetes documentation, "Garbage Collection"; kubernetes,
    ``pkg/controller/garbagecollector``
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.controllers.manager import Key
from pytest_grpclb.clusters.embedded.controllers.owners import is_deleted
from pytest_grpclb.clusters.embedded.store.kinds import KINDS, by_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_grpclb.clusters.embedded.store.deletion import Propagation
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["GarbageCollector"]

_FOREGROUND = "foregroundDeletion"
_ORPHAN = "orphan"
_Place = tuple[str, str, str]
"""Kind, namespace and name."""


class GarbageCollector:
    """Deletes what has lost all its owners, first or last, or lets it be, as the deletion asked.

    Its keys are made of uids: an owner is the object with that uid, not one of the same name.
    """

    kinds = tuple(KINDS)

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: dict[str, _Place] = {}
        self._owned: dict[str, set[str]] = defaultdict(set)
        """Uids of what an object owns, by its uid."""

    def concerned(self, event: Event) -> Iterable[Key]:
        """Name an object that may have to go, or whose owner waits for it to go."""
        metadata = event.object["metadata"]
        uid = metadata["uid"]
        owners = _owner_uids(event.object)
        before = _owner_uids(event.previous) if event.previous is not None else []
        if event.type == "DELETED":
            del self._places[uid]
            for owner in before:
                self._owned[owner].discard(uid)
                if not self._owned[owner]:
                    del self._owned[owner]
            yield from (Key("", owned) for owned in self._owned.get(uid, ()))
            yield from (Key("", owner) for owner in before)
            return
        kind = by_kind(event.object["apiVersion"], event.object["kind"])
        assert kind is not None
        self._places[uid] = (kind.name, metadata.get("namespace", ""), metadata["name"])
        for owner in before:
            if owner not in owners:
                self._owned[owner].discard(uid)
                yield Key("", owner)
        for owner in owners:
            self._owned[owner].add(uid)
        if owners != before or is_deleted(event.object):
            yield Key("", uid)

    def sync(self, key: Key) -> None:
        """Delete the object with that uid, or go on with its deletion, if it is time."""
        obj = self._find(key.name)
        if obj is None:
            return
        owners = _owner_uids(obj)
        if owners and not is_deleted(obj) and not any(owner in self._places for owner in owners):
            self._delete(key.name)
            return
        finalizers = obj["metadata"].get("finalizers") or []
        if is_deleted(obj) and _ORPHAN in finalizers:
            self._let_go(key.name)
            self._finish(key.name, _ORPHAN)
        elif is_deleted(obj) and _FOREGROUND in finalizers and not self._delete_owned(key.name):
            self._finish(key.name, _FOREGROUND)

    def _find(self, uid: str) -> Object | None:
        place = self._places.get(uid)
        if place is None:
            return None
        kind, namespace, name = place
        return self._store.find(kind, name, namespace)

    def _delete(self, uid: str, *, foreground: bool = False) -> None:
        kind, namespace, name = self._places[uid]
        propagation: Propagation = "Foreground" if foreground else "Background"
        self._store.delete(kind, name, namespace, propagation=propagation, uid=uid)

    def _delete_owned(self, owner: str) -> bool:
        """Delete what is in the way of its owner's end; return whether any of it is still there."""
        for uid in sorted(self._owned.get(owner, ())):
            owned = self._find(uid)
            if owned is not None and not is_deleted(owned) and _blocks(owned, owner):
                self._delete(uid, foreground=bool(self._owned.get(uid)))
        return any(
            (owned := self._find(uid)) is not None and _blocks(owned, owner)
            for uid in self._owned.get(owner, ())
        )

    def _let_go(self, owner: str) -> None:
        for uid in sorted(self._owned.get(owner, ())):
            owned = self._find(uid)
            assert owned is not None
            kept = [each for each in owned["metadata"]["ownerReferences"] if each["uid"] != owner]
            metadata = {**owned["metadata"], "ownerReferences": kept}
            self._store.update(self._places[uid][0], {**owned, "metadata": metadata})

    def _finish(self, uid: str, finalizer: str) -> None:
        obj = self._find(uid)
        assert obj is not None
        left = [each for each in obj["metadata"]["finalizers"] if each != finalizer]
        metadata = {**obj["metadata"], "finalizers": left}
        self._store.update(self._places[uid][0], {**obj, "metadata": metadata})


def _owner_uids(obj: Object) -> list[str]:
    return [each["uid"] for each in obj["metadata"].get("ownerReferences") or ()]


def _blocks(owned: Object, owner: str) -> bool:
    return any(
        each["uid"] == owner and each.get("blockOwnerDeletion")
        for each in owned["metadata"].get("ownerReferences") or ()
    )
