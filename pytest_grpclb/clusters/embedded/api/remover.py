"""What clients may take away: one object, a collection, a pod by eviction.

:source: Kubernetes API reference, DeleteOptions; "API-initiated Eviction"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pytest_grpclb.clusters.embedded.api.decoding import decode
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, success
from pytest_grpclb.clusters.embedded.store.store import Object, Propagation, Store

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.api.query import Query
    from pytest_grpclb.clusters.embedded.api.routing import Place
    from pytest_grpclb.clusters.embedded.store.selectors import Test

__all__ = ["DeleteOptions", "delete_options", "remove", "remove_all"]

_RETURNED = frozenset({"pods", "serviceaccounts", "services"})
"""Kinds whose deletion is answered with the object that is gone; others with a Status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """How to delete."""

    grace_s: int | None = None
    propagation: Propagation | None = None
    uid: str | None = None
    revision: str | None = None
    dry_run: bool = False


def delete_options(body: Any, query: Query, *, dry_run: bool) -> DeleteOptions:
    """Return what a request says of how to delete: in its body first, in its query second.

    :raises BadRequestError: if that cannot be
    """
    given = decode(body, "DeleteOptions")[0] if body else {}
    propagation: Any = given.get("propagationPolicy") or query.text("propagationPolicy") or None
    if propagation is None and ("orphanDependents" in given or query.text("orphanDependents")):
        orphan = given.get("orphanDependents", query.flag("orphanDependents"))
        propagation = "Orphan" if orphan else "Background"
    if propagation is not None and propagation not in get_args(Propagation):
        raise BadRequestError(
            f"propagationPolicy {propagation!r} is none of {', '.join(get_args(Propagation))}"
        )
    grace_s = given.get("gracePeriodSeconds", query.whole("gracePeriodSeconds"))
    if grace_s is not None and grace_s < 0:
        raise BadRequestError(f"gracePeriodSeconds {grace_s} is below 0")
    preconditions = given.get("preconditions", {})
    return DeleteOptions(
        grace_s=grace_s,
        propagation=propagation,
        uid=preconditions.get("uid"),
        revision=preconditions.get("resourceVersion"),
        dry_run=dry_run or "All" in given.get("dryRun", ()),
    )


def remove(store: Store, place: Place, options: DeleteOptions) -> Object:
    """Delete one object; return what the client is told."""
    kind = place.kind.name
    last = store.delete(
        kind,
        place.name,
        place.namespace,
        grace_s=options.grace_s,
        propagation=options.propagation,
        uid=options.uid,
        expect=options.revision,
        dry_run=options.dry_run,
    )
    stays = store.find(kind, place.name, place.namespace) is not None and not options.dry_run
    if stays or kind in _RETURNED:
        return last
    return success(kind, place.name, last["metadata"]["uid"])


def remove_all(store: Store, place: Place, options: DeleteOptions, selects: Test) -> list[Object]:
    """Delete the objects of a collection that are selected; return their last states."""
    return [
        store.delete(
            place.kind.name,
            obj["metadata"]["name"],
            obj["metadata"].get("namespace", ""),
            grace_s=options.grace_s,
            propagation=options.propagation,
            dry_run=options.dry_run,
        )
        for obj in store.list(place.kind.name, place.namespace)
        if selects(obj)
    ]
