"""ReplicaSets: as many pods as they should have.

:source: Kubernetes, ``pkg/controller/replicaset``
"""

from __future__ import annotations

import functools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.controllers.manager import Key
from pytest_grpclb.clusters.embedded.controllers.owners import (
    claim,
    controller_of,
    is_deleted,
    reference,
)
from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.selectors import label_selector
from pytest_grpclb.clusters.embedded.store.status import StatusError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["ReplicaSets", "is_active", "is_ready", "ready_since"]

REPLICASETS = "replicasets.apps"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class ReplicaSets:
    """Creates and deletes pods."""

    kinds = (REPLICASETS, "pods")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recorder = Recorder(store, "replicaset-controller")

    def concerned(self, event: Event) -> Iterable[Key]:
        """Name the ReplicaSet that changed, or those that a changed pod may belong to."""
        metadata = event.object["metadata"]
        namespace = metadata["namespace"]
        if event.object["kind"] == "ReplicaSet":
            yield Key(namespace, metadata["name"])
            return
        for pod in (event.object, event.previous):
            manager = controller_of(pod) if pod is not None else None
            if manager is not None and manager["kind"] == "ReplicaSet":
                yield Key(namespace, manager["name"])
        if event.type != "DELETED" and controller_of(event.object) is None:
            for candidate in self._store.list(REPLICASETS, namespace):
                if label_selector(candidate["spec"]["selector"])(event.object):
                    yield Key(namespace, candidate["metadata"]["name"])

    def sync(self, key: Key) -> float | None:
        """Create or delete pods, then say how many there are."""
        owner = self._store.find(REPLICASETS, key.name, key.namespace)
        if owner is None:
            return None
        pods = [pod for pod in claim(self._store, "pods", REPLICASETS, owner) if is_active(pod)]
        failure = None
        if not is_deleted(owner):
            wanted = owner["spec"].get("replicas", 1)
            failure = self._create(owner, wanted - len(pods))
            for pod in sorted(pods, key=functools.partial(_keeping, self._store.now()))[
                : max(len(pods) - wanted, 0)
            ]:
                self._delete(owner, pod)
        again_s = self._report(owner, pods, failure)
        return again_s if failure is None else 1.0

    def _create(self, owner: Object, missing: int) -> StatusError | None:
        template = owner["spec"]["template"]
        for _ in range(missing):
            metadata = {
                **(template.get("metadata") or {}),
                "generateName": f"{owner['metadata']['name']}-",
                "namespace": owner["metadata"]["namespace"],
                "ownerReferences": [reference(REPLICASETS, owner)],
            }
            try:
                pod = self._store.create("pods", {"metadata": metadata, "spec": template["spec"]})
            except StatusError as error:
                self._recorder.warning(owner, "FailedCreate", f"Error creating: {error}")
                return error
            name = pod["metadata"]["name"]
            self._recorder.normal(owner, "SuccessfulCreate", f"Created pod: {name}")
        return None

    def _delete(self, owner: Object, pod: Object) -> None:
        name = pod["metadata"]["name"]
        self._store.delete("pods", name, pod["metadata"]["namespace"])
        self._recorder.normal(owner, "SuccessfulDelete", f"Deleted pod: {name}")

    def _report(
        self, owner: Object, pods: list[Object], failure: StatusError | None
    ) -> float | None:
        """Write the status; return when pods that are ready now will count as available."""
        now = self._store.now()
        minimum = timedelta(seconds=owner["spec"].get("minReadySeconds", 0))
        labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
        ready = [since for pod in pods if (since := ready_since(pod)) is not None]
        waits = [since + minimum - now for since in ready if since + minimum > now]
        status: Object = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(
                labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in pods
            ),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready) - len(waits),
            "observedGeneration": owner["metadata"]["generation"],
        }
        if failure is not None:
            status["conditions"] = [
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "reason": "FailedCreate",
                    "message": str(failure),
                }
            ]
        self._store.update_status(REPLICASETS, {**owner, "status": status}, expect=None)
        return min(waits).total_seconds() if waits else None


def is_active(pod: Object) -> bool:
    """Tell whether a pod counts: it has not ended and is not ending."""
    phase = pod.get("status", {}).get("phase")
    return phase not in {"Succeeded", "Failed"} and not is_deleted(pod)


def ready_since(pod: Object) -> datetime | None:
    """Return since when a pod has been ready; None: it is not."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None


def is_ready(pod: Object) -> bool:
    """Tell whether a pod's Ready condition holds."""
    return ready_since(pod) is not None


def _keeping(now: datetime, pod: Object) -> tuple[float, ...]:
    """Return how much a pod is worth keeping: the lowest goes first.

    :source: Kubernetes, ``pkg/controller/controller_utils.go``, ActivePodsWithRanks
    """
    metadata, status = pod["metadata"], pod.get("status", {})
    since = ready_since(pod)
    annotations = metadata.get("annotations") or {}
    restarts = max(
        (each.get("restartCount", 0) for each in status.get("containerStatuses") or ()), default=0
    )
    return (
        bool(pod["spec"].get("nodeName")),
        {"Pending": 0, "Unknown": 1, "Running": 2}.get(status.get("phase", "Pending"), 1),
        since is not None,
        _cost(annotations.get(_DELETION_COST, "0")),
        (now - since).total_seconds() if since else 0.0,
        -restarts,
        (now - datetime.fromisoformat(metadata["creationTimestamp"])).total_seconds(),
    )


def _cost(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0  # Kubernetes, too, takes what it cannot read for no cost at all
