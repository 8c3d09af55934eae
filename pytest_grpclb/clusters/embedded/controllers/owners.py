"""Which object belongs to which: owner references, adoption and release.

:source: Kubernetes documentation, "Owners and Dependents"; kubernetes,
    ``pkg/controller/controller_ref_manager.go``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.store.kinds import KINDS
from pytest_grpclb.clusters.embedded.store.selectors import label_selector

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["claim", "controller_of", "is_deleted", "reference"]


def reference(kind: str, owner: Object) -> Object:
    """Return the owner reference by which a controller marks what it manages."""
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": KINDS[kind].kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Object) -> Object | None:
    """Return the reference to the one owner that manages an object."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            found: Object = owner
            return found
    return None


def is_deleted(obj: Object) -> bool:
    """Tell whether an object is on its way out."""
    return "deletionTimestamp" in obj["metadata"]


def claim(store: Store, kind: str, owner_kind: str, owner: Object) -> list[Object]:
    """Return the objects of *kind* that *owner* manages, once it has adopted and released some.

    An object without a manager that its selector picks is adopted; one of its own that the selector
    no longer picks is released, so that a pod can be put aside by changing its labels.
    """
    selected = label_selector(owner["spec"]["selector"])
    uid = owner["metadata"]["uid"]
    claimed = []
    for obj in store.list(kind, owner["metadata"]["namespace"]):
        manager = controller_of(obj)
        if manager is None:
            if selected(obj) and not is_deleted(obj) and not is_deleted(owner):
                owners = [*_owners(obj), reference(owner_kind, owner)]
                claimed.append(_with_owners(store, kind, obj, owners))
        elif manager["uid"] == uid:
            if selected(obj):
                claimed.append(obj)
            elif not is_deleted(owner):
                owners = [each for each in _owners(obj) if each["uid"] != uid]
                _with_owners(store, kind, obj, owners)
    return claimed


def _owners(obj: Object) -> list[Any]:
    return obj["metadata"].get("ownerReferences") or []


def _with_owners(store: Store, kind: str, obj: Object, owners: list[Any]) -> Object:
    metadata = {**obj["metadata"], "ownerReferences": owners}
    return store.update(kind, {**obj, "metadata": metadata})
