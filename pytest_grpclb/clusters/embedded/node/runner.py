"""The kubelet and the scheduler: pods in the store become processes.

:source: Kubernetes documentation, "kube-scheduler", "kubelet"
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.node.podworker import PodWorker
from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.store import timestamp

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.node.node import Node
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["Runner"]

_LOG = logging.getLogger(__name__)


class Runner:
    """Gives every pod to the one node, and runs it there."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._scheduler = Recorder(node.store, "default-scheduler")
        self._workers: dict[str, tuple[PodWorker, asyncio.Task[None]]] = {}
        node.store.subscribe(("pods",), self._observe)

    def _observe(self, event: Event) -> None:
        pod = event.object
        uid = pod["metadata"]["uid"]
        known = self._workers.get(uid)
        if event.type == "DELETED":
            if known is not None:
                known[1].cancel()  # nothing to cancel, if it has ended by itself
                del self._workers[uid]
        elif known is not None:
            known[0].update(pod)
        elif not pod["spec"].get("nodeName"):
            self._schedule(pod)
        elif pod["spec"]["nodeName"] == self._node.name and _may_start(pod):
            worker = PodWorker(self._node, pod)
            task = asyncio.get_running_loop().create_task(worker.run(), name=f"pod {uid}")
            self._workers[uid] = worker, task
            task.add_done_callback(lambda task: self._ended(uid, worker, task))

    def _ended(self, uid: str, worker: PodWorker, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("pod %s: its worker failed", uid, exc_info=error)
        if uid not in self._workers:  # logs can be read as long as the pod can
            worker.directory.remove()

    def _schedule(self, pod: Object) -> None:
        store, node, metadata = self._node.store, self._node, pod["metadata"]
        current = store.find("pods", metadata["name"], metadata["namespace"])
        if current is None or current["spec"].get("nodeName"):
            return
        selector = pod["spec"].get("nodeSelector") or {}
        found = store.find("nodes", node.name)  # whose labels may have changed since it started
        labels = node.labels if found is None else found["metadata"].get("labels") or {}
        if selector.items() <= labels.items():
            bound = {**current, "spec": {**current["spec"], "nodeName": node.name}}
            place = f"{metadata['namespace']}/{metadata['name']}"
            self._scheduler.normal(
                pod, "Scheduled", f"Successfully assigned {place} to {node.name}"
            )
            store.update("pods", bound)
            return
        message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        conditions = pod.get("status", {}).get("conditions") or ()
        if not any(each.get("reason") == "Unschedulable" for each in conditions):
            self._scheduler.warning(pod, "FailedScheduling", message)
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
                "lastTransitionTime": timestamp(store.now()),
            }
            status = {**current.get("status", {}), "conditions": [condition]}
            store.update_status("pods", {**current, "status": status}, expect=None)


def _may_start(pod: Object) -> bool:
    phase = pod.get("status", {}).get("phase", "Pending")
    return phase == "Pending" and "deletionTimestamp" not in pod["metadata"]
