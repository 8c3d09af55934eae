"""What has to happen before an object may go: grace, finalizers.

:source: Kubernetes documentation, "Finalizers", "Garbage Collection", "Pod Lifecycle"
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["Propagation", "is_held", "mark", "timestamp"]

Propagation = Literal["Background", "Foreground", "Orphan"]

DEFAULT_GRACE_S = 30
_FINALIZER_OF = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


def timestamp(moment: datetime) -> str:
    """Write a moment the way ``metav1.Time`` does: UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_held(kind: str, obj: Object) -> bool:
    """Tell whether an object that is being deleted has to stay for now."""
    metadata = obj["metadata"]
    return bool(
        metadata.get("finalizers")
        or metadata.get("deletionGracePeriodSeconds")
        or (kind == "namespaces" and obj.get("spec", {}).get("finalizers"))
    )


def mark(
    kind: str, old: Object, now: datetime, grace_s: int | None, propagation: Propagation | None
) -> Object:
    """Return *old* as being deleted.

    A grace period that has begun may be cut short, never prolonged.
    """
    metadata: Object = {**old["metadata"]}
    if propagation is not None:
        _set_finalizer(metadata, propagation)
    grace_s = _grace_s(old, grace_s) if kind == "pods" else 0
    if "deletionTimestamp" in metadata:
        granted_s = metadata["deletionGracePeriodSeconds"]
        grace_s = min(grace_s, granted_s)
        now = datetime.fromisoformat(metadata["deletionTimestamp"]) - timedelta(seconds=granted_s)
    elif "generation" in metadata:
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace_s))
    metadata["deletionGracePeriodSeconds"] = grace_s
    new = {**old, "metadata": metadata}
    if kind == "namespaces":
        new["status"] = {**old.get("status", {}), "phase": "Terminating"}
    return new


def _grace_s(pod: Object, asked_s: int | None) -> int:
    """Return the grace that a pod gets: none if nothing of it runs.

    :source: Kubernetes, ``pkg/registry/core/pod``, CheckGracefulDelete
    """
    spec, status = pod.get("spec", {}), pod.get("status", {})
    if not spec.get("nodeName") or status.get("phase") in {"Succeeded", "Failed"}:
        return 0
    if asked_s is None:
        asked_s = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    return max(asked_s, 0)


def _set_finalizer(metadata: Object, propagation: Propagation) -> None:
    finalizers = [
        name for name in metadata.pop("finalizers", ()) if name not in _FINALIZER_OF.values()
    ]
    if propagation in _FINALIZER_OF:
        finalizers.append(_FINALIZER_OF[propagation])
    if finalizers:
        metadata["finalizers"] = finalizers
