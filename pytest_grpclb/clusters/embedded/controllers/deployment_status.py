"""How far a Deployment's rollout is, as its status tells it. Pure.

:source: Kubernetes, ``pkg/controller/deployment/progress.go`` and ``sync.go``; documentation,
    "Deployments", "Deployment status"
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.controllers.rollout import resolve_limits
from pytest_grpclb.clusters.embedded.store.deletion import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["is_complete", "status_of"]

_DEADLINE_S = 600
"""Kubernetes' default of ``progressDeadlineSeconds``."""
_COMPLETE = "NewReplicaSetAvailable"


def status_of(
    deployment: Object, new: Object | None, owned: Sequence[Object], now: datetime
) -> tuple[Object, float | None]:
    """Return the status, and after how many seconds the rollout will have taken too long.

    :param new: the ReplicaSet of the present template, if there is one
    :param owned: all its ReplicaSets, the new one among them
    """
    before = deployment.get("status") or {}
    available = _sum(owned, "availableReplicas")
    status: Object = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": _sum(owned, "replicas"),
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(owned, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(sum(each["spec"]["replicas"] for each in owned) - available, 0),
    }
    conditions = _Conditions(before, now)
    if available >= _least_available(deployment):
        told = "Deployment has minimum availability."
        conditions.set("Available", "True", "MinimumReplicasAvailable", told)
    else:
        told = "Deployment does not have minimum availability."
        conditions.set("Available", "False", "MinimumReplicasUnavailable", told)
    again_s = _set_progressing(conditions, deployment, new, owned, status)
    failure = next(_failures(owned), None)
    if failure is None:
        conditions.entries.pop("ReplicaFailure", None)
    else:
        conditions.set("ReplicaFailure", "True", failure["reason"], failure["message"])
    # Kubernetes leaves numbers out that are zero.
    shown = {key: value for key, value in status.items() if value}
    return {**shown, "conditions": list(conditions.entries.values())}, again_s


def is_complete(deployment: Object, new: Object, owned: Sequence[Object]) -> bool:
    """Tell whether only new pods are left, as many as wanted, all available."""
    wanted = deployment["spec"].get("replicas", 1)
    status = new.get("status", {})
    return bool(
        status.get("observedGeneration", 0) >= new["metadata"]["generation"]
        and status.get("replicas", 0) == wanted
        and _sum(owned, "replicas") == wanted
        and _sum(owned, "availableReplicas") == wanted
    )


class _Conditions:
    """The conditions of a status; their times move only if something of them does."""

    def __init__(self, status: Object, now: datetime) -> None:
        self.entries: dict[str, Object] = {
            each["type"]: each for each in status.get("conditions") or ()
        }
        self.now = timestamp(now)

    def set(
        self, kind: str, status: str, reason: str, message: str, *, moved: bool = False
    ) -> None:
        """Write a condition.

        :param moved: the time of its last update is now, though it may say the same as before
        """
        old = self.entries.get(kind, {})
        same = old.get("status") == status
        if same and old.get("reason") == reason and not moved:
            return
        self.entries[kind] = {
            "type": kind,
            "status": status,
            "lastUpdateTime": self.now,
            "lastTransitionTime": old["lastTransitionTime"] if same else self.now,
            "reason": reason,
            "message": message,
        }


def _set_progressing(
    conditions: _Conditions,
    deployment: Object,
    new: Object | None,
    owned: Sequence[Object],
    status: Object,
) -> float | None:
    spec = deployment["spec"]
    if spec.get("paused"):
        conditions.set("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        return None
    about = f'Deployment "{deployment["metadata"]["name"]}"'
    if new is not None:
        about = f'ReplicaSet "{new["metadata"]["name"]}"'
    if new is not None and is_complete(deployment, new, owned):
        told = f"{about} has successfully progressed."
        conditions.set("Progressing", "True", _COMPLETE, told)
        return None
    known = conditions.entries.get("Progressing")
    reason = known["reason"] if known is not None else ""
    if reason == _COMPLETE and status["replicas"] == status["updatedReplicas"]:
        return None  # scaled, or lost a pod: that is no rollout, so there is no deadline for it
    if known is None and new is not None:
        told = f'Created new replica set "{new["metadata"]["name"]}"'
        conditions.set("Progressing", "True", "NewReplicaSetCreated", told)
    elif reason in {"", _COMPLETE, "DeploymentPaused"} or _has_moved(deployment, status):
        told = f"{about} is progressing."
        conditions.set("Progressing", "True", "ReplicaSetUpdated", told, moved=True)
    moved_at = datetime.fromisoformat(conditions.entries["Progressing"]["lastUpdateTime"])
    deadline = moved_at + timedelta(seconds=spec.get("progressDeadlineSeconds", _DEADLINE_S))
    left_s = (deadline - datetime.fromisoformat(conditions.now)).total_seconds()
    if left_s > 0:
        return left_s
    told = f"{about} has timed out progressing."
    conditions.set("Progressing", "False", "ProgressDeadlineExceeded", told)
    return None


def _has_moved(deployment: Object, status: Object) -> bool:
    """Tell whether there are more new pods, or fewer old ones, than the last status said."""
    before = deployment.get("status") or {}
    old_pods = status["replicas"] - status["updatedReplicas"]
    return old_pods < before.get("replicas", 0) - before.get("updatedReplicas", 0) or any(
        status[key] > before.get(key, 0)
        for key in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def _least_available(deployment: Object) -> int:
    spec = deployment["spec"]
    strategy = spec.get("strategy") or {}
    wanted: int = spec.get("replicas", 1)
    if strategy.get("type") == "Recreate":
        return wanted
    rolling = strategy.get("rollingUpdate") or {}
    limits = resolve_limits(rolling.get("maxSurge"), rolling.get("maxUnavailable"), wanted)
    return max(wanted - limits.unavailable, 0)


def _failures(owned: Sequence[Object]) -> Iterator[Object]:
    for replicaset in owned:
        for condition in replicaset.get("status", {}).get("conditions") or ():
            if condition["type"] == "ReplicaFailure":
                yield condition


def _sum(replicasets: Sequence[Object], field: str) -> int:
    return sum(each.get("status", {}).get(field, 0) for each in replicasets)
