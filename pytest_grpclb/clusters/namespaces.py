"""Namespaces that a run makes for its tests: labelled, and never another's touched."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import NAMESPACES
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from pytest_grpclb.clusters.api.kube import KubeApi

__all__ = [
    "create_namespace",
    "delete_abandoned",
    "delete_namespace",
    "mark_kept",
    "stuck_namespaces",
]

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "pytest-grpclb"
RUN_LABEL = "pytest-grpclb/run"
_KEPT_LABEL = "pytest-grpclb/kept"

_STUCK = frozenset(
    {
        "NamespaceFinalizersRemaining",
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
    }
)
"""What no grace of a pod ends: a finalizer, or an aggregated API that does not answer. That content
remains, or that deleting it "failed", is said of every namespace whose pods have not ended yet."""
STUCK_AFTER = timedelta(minutes=1)
"""Finalizers that do their work, such as a load balancer's, have gone by then."""
_WORKING = frozenset(
    {
        "foregroundDeletion",
        "kubernetes.io/pvc-protection",
        "service.kubernetes.io/load-balancer-cleanup",
    }
)
"""Finalizers of Kubernetes itself, which go when pods have ended or a load balancer has gone."""
_HELD_BY = re.compile(r"[\w./-]+(?= in \d+ resource instances)")
ABANDONED_AFTER = timedelta(hours=6)
"""Each test has a namespace of its own, and no single test takes this long: its run has died."""


def create_namespace(api: KubeApi, name: str, *, run: str) -> None:
    """Create a namespace that carries the run's label.

    :raises ApiError: if it exists already and is not this run's, or may not be created
    """
    metadata = {"name": name, "labels": {MANAGED_BY: MANAGER, RUN_LABEL: run}}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    try:
        api.request("POST", NAMESPACES.path(), body=manifest, repeatable=True)
    except ApiError as error:
        # A first try may have made it though its answer was lost.
        if error.status != 409 or _run_of(api.get(NAMESPACES, "", name)) != run:
            raise


def delete_namespace(api: KubeApi, name: str, *, run: str) -> None:
    """Delete a namespace if it carries the run's label; what it holds goes after it.

    :raises ApiError: if the API refuses that, or cannot be reached
    """
    try:
        found = api.get(NAMESPACES, "", name)
    except ApiError as error:
        if error.status in {403, 404}:  # it was never made
            return
        raise
    if _run_of(found) == run:
        api.delete(NAMESPACES, "", name, uid=found["metadata"]["uid"])


def mark_kept(api: KubeApi, name: str) -> bool:
    """Have no later run take a namespace for one of a run that died; return whether that is so."""
    try:
        api.request(
            "PATCH",
            NAMESPACES.path(name=name),
            body={"metadata": {"labels": {_KEPT_LABEL: "true"}}},
            content_type="application/merge-patch+json",
            repeatable=True,
        )
    except ApiError:  # this user may not change it, or it was never made
        return False
    return True


def delete_abandoned(api: KubeApi, *, now: datetime | None = None) -> tuple[str, ...]:
    """Delete what runs left behind that died, but not what was kept; return the names.

    :raises ApiError: if namespaces may not be listed (status 403), or one not deleted
    """
    limit = (now or datetime.now(UTC)) - ABANDONED_AFTER
    deleted = []
    for found in api.list(NAMESPACES, selector=f"{MANAGED_BY}={MANAGER},{RUN_LABEL}"):
        metadata = found["metadata"]
        made_at = datetime.fromisoformat(metadata["creationTimestamp"])
        kept = _KEPT_LABEL in metadata["labels"]
        if made_at < limit and not kept and "deletionTimestamp" not in metadata:
            api.delete(NAMESPACES, "", metadata["name"], uid=metadata["uid"])
            deleted.append(metadata["name"])
    return tuple(deleted)


def stuck_namespaces(
    api: KubeApi,
    *,
    run: str = "",
    deleted_before: datetime | None = None,
    timeout_s: float = 30.0,
    once: bool = False,
) -> tuple[str, ...]:
    """Return a line for each namespace that was deleted and cannot go, with what it waits for.

    :param run: only those with this value of the run's label; empty: of all runs
    :param deleted_before: only those; None: however short ago it was, but not those that wait for
        nothing but finalizers of Kubernetes itself
    :param timeout_s: for an answer
    :param once: ask no second time where none comes
    :raises ApiError: if namespaces may not be listed (status 403)
    :source: Kubernetes, ``pkg/controller/namespace/deletion``, its conditions
    """
    label = f"{RUN_LABEL}={run}" if run else RUN_LABEL
    query = {"labelSelector": f"{MANAGED_BY}={MANAGER},{label}"}
    listed = api.request(
        "GET", NAMESPACES.path(), query=query, timeout_s=timeout_s, repeatable=not once
    )
    lines = []
    for found in listed["items"]:
        name, since = found["metadata"]["name"], found["metadata"].get("deletionTimestamp")
        told = [
            condition.get("message", condition["type"])
            for condition in found.get("status", {}).get("conditions") or ()
            if condition["type"] in _STUCK and condition["status"] == "True"
            if deleted_before or not _will_pass(condition)
        ]
        young = since and deleted_before and datetime.fromisoformat(since) >= deleted_before
        if since and told and not young:
            lines.append(
                f"namespace {name!r} was deleted at {since} and has not gone: {'; '.join(told)}; "
                "if it stays, whoever set that has to mend it, see "
                f"`kubectl get namespace {name} -o yaml`"
            )
    return tuple(lines)


def _will_pass(condition: dict[str, Any]) -> bool:
    holders = set(_HELD_BY.findall(condition.get("message", "")))
    return bool(holders) and holders <= _WORKING


def _run_of(namespace: dict[str, Any]) -> str:
    labels = namespace["metadata"].get("labels", {})
    return str(labels.get(RUN_LABEL, "")) if labels.get(MANAGED_BY) == MANAGER else ""
