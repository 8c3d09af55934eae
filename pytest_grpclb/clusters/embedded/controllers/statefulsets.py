"""StatefulSets: pods with numbers, which come, go and are replaced in their order.

What this does not do: keep old revisions to roll back to, volume claims (the API refuses them).

:source: Kubernetes documentation, "StatefulSets"; kubernetes, ``pkg/controller/statefulset``
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.controllers.manager import Key
from pytest_grpclb.clusters.embedded.controllers.owners import (
    claim,
    controller_of,
    is_deleted,
    reference,
)
from pytest_grpclb.clusters.embedded.controllers.replicasets import ready_since
from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.selectors import label_selector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["StatefulSets"]

STATEFULSETS = "statefulsets.apps"
_REVISION = "controller-revision-hash"
_POD_NAME = "statefulset.kubernetes.io/pod-name"
_INDEX = "apps.kubernetes.io/pod-index"
_ENDED = frozenset({"Succeeded", "Failed"})


class StatefulSets:
    """Creates, deletes and replaces the pods of each StatefulSet."""

    kinds = (STATEFULSETS, "pods")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recorder = Recorder(store, "statefulset-controller")

    def concerned(self, event: Event) -> Iterable[Key]:
        """Name the StatefulSet that changed, or those that a changed pod may belong to."""
        metadata = event.object["metadata"]
        namespace = metadata["namespace"]
        if event.object["kind"] == "StatefulSet":
            yield Key(namespace, metadata["name"])
            return
        for pod in (event.object, event.previous):
            manager = controller_of(pod) if pod is not None else None
            if manager is not None and manager["kind"] == "StatefulSet":
                yield Key(namespace, manager["name"])
        if event.type != "DELETED" and controller_of(event.object) is None:
            for candidate in self._store.list(STATEFULSETS, namespace):
                if label_selector(candidate["spec"]["selector"])(event.object):
                    yield Key(namespace, candidate["metadata"]["name"])

    def sync(self, key: Key) -> float | None:
        """Take the next steps that the order allows, then say how far it is."""
        owner = self._store.find(STATEFULSETS, key.name, key.namespace)
        if owner is None:
            return None
        revision = _revision(owner)
        pods = {
            number: pod
            for pod in claim(self._store, "pods", STATEFULSETS, owner)
            if (number := _number(owner, pod)) is not None
        }
        again_s = None
        if not is_deleted(owner):
            again_s = self._step(owner, pods, revision)
        self._report(owner, revision)
        return again_s

    def _step(self, owner: Object, pods: Mapping[int, Object], revision: str) -> float | None:
        """Do what may be done now; return when a pod that is ready will count as available."""
        spec = owner["spec"]
        first = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(first, first + spec.get("replicas", 1))
        settling = _Settling(self._store.now(), timedelta(seconds=spec.get("minReadySeconds", 0)))
        ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        if (
            self._grow(owner, pods, wanted, revision, settling if ordered else None)
            and self._shrink(owner, pods, wanted, ordered=ordered)
            and (spec.get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
        ):
            self._replace(owner, pods, wanted, revision, settling)
        return min(settling.waits_s, default=None)

    def _grow(
        self,
        owner: Object,
        pods: Mapping[int, Object],
        wanted: range,
        revision: str,
        settling: _Settling | None,
    ) -> bool:
        """Create what is missing, lowest first; return whether there is nothing to wait for.

        :param settling: where each pod has to be settled before the next; None: all at once
        """
        for number in wanted:
            pod = pods.get(number)
            if pod is None:
                self._create(owner, number, revision)
            elif pod.get("status", {}).get("phase") in _ENDED and not is_deleted(pod):
                self._delete(owner, pod)
            if settling is not None and not settling.has(pod):
                return False
        return True

    def _shrink(
        self, owner: Object, pods: Mapping[int, Object], wanted: range, *, ordered: bool
    ) -> bool:
        """Delete what is too much, highest first; return whether there is nothing to wait for."""
        for number in sorted(pods.keys() - set(wanted), reverse=True):
            if not is_deleted(pods[number]):
                self._delete(owner, pods[number])
            if ordered:  # the next one when this one has gone
                return False
        return True

    def _replace(
        self,
        owner: Object,
        pods: Mapping[int, Object],
        wanted: range,
        revision: str,
        settling: _Settling,
    ) -> None:
        """Delete one pod of an old revision, highest first; it comes back with the new one."""
        rolling = (owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
        partition = rolling.get("partition") or 0
        for number in sorted((each for each in wanted if each >= partition), reverse=True):
            pod = pods.get(number)
            if pod is not None and not is_deleted(pod) and _labels(pod)[_REVISION] != revision:
                self._delete(owner, pod)
                return
            if not settling.has(pod):
                return

    def _create(self, owner: Object, number: int, revision: str) -> None:
        template, metadata = owner["spec"]["template"], owner["metadata"]
        name = f"{metadata['name']}-{number}"
        given = template.get("metadata") or {}
        labels = {_REVISION: revision, _POD_NAME: name, _INDEX: str(number)}
        spec = {**template["spec"], "hostname": name}
        if owner["spec"].get("serviceName"):
            spec["subdomain"] = owner["spec"]["serviceName"]
        self._store.create(
            "pods",
            {
                "metadata": {
                    **given,
                    "name": name,
                    "namespace": metadata["namespace"],
                    "labels": {**(given.get("labels") or {}), **labels},
                    "ownerReferences": [reference(STATEFULSETS, owner)],
                },
                "spec": spec,
            },
        )
        told = f"create Pod {name} in StatefulSet {metadata['name']} successful"
        self._recorder.normal(owner, "SuccessfulCreate", told)

    def _delete(self, owner: Object, pod: Object) -> None:
        name = pod["metadata"]["name"]
        self._store.delete("pods", name, pod["metadata"]["namespace"])
        told = f"delete Pod {name} in StatefulSet {owner['metadata']['name']} successful"
        self._recorder.normal(owner, "SuccessfulDelete", told)

    def _report(self, owner: Object, revision: str) -> None:
        uid = owner["metadata"]["uid"]
        pods = [
            pod
            for pod in self._store.list("pods", owner["metadata"]["namespace"])
            if (controller_of(pod) or {}).get("uid") == uid and not is_deleted(pod)
        ]
        before = (owner.get("status") or {}).get("currentRevision") or revision
        updated = sum(_labels(pod).get(_REVISION) == revision for pod in pods)
        ready = sum(ready_since(pod) is not None for pod in pods)
        is_done = updated == ready == len(pods) == owner["spec"].get("replicas", 1)
        current = revision if is_done else before
        status: Object = {
            "observedGeneration": owner["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": sum(_labels(pod).get(_REVISION) == current for pod in pods),
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": revision,
        }
        self._store.update_status(STATEFULSETS, {**owner, "status": status}, expect=None)


class _Settling:
    """Tells which pods have been ready for long enough.

    :param minimum: for how long they have to be
    """

    def __init__(self, now: datetime, minimum: timedelta) -> None:
        self._now, self._minimum = now, minimum
        self.waits_s: list[float] = []
        """For how long those still have to be that are ready."""

    def has(self, pod: Object | None) -> bool:
        """Tell whether *pod* is there, is to stay, and has settled."""
        since = ready_since(pod) if pod is not None and not is_deleted(pod) else None
        if since is None:
            return False
        left_s = (since + self._minimum - self._now).total_seconds()
        if left_s > 0:
            self.waits_s.append(left_s)
        return left_s <= 0


def _labels(pod: Object) -> Mapping[str, str]:
    return {_REVISION: "", **(pod["metadata"].get("labels") or {})}


def _number(owner: Object, pod: Object) -> int | None:
    """Return a pod's number; None: its name says that it is none of these."""
    head, _, tail = pod["metadata"]["name"].rpartition("-")
    return int(tail) if head == owner["metadata"]["name"] and tail.isdecimal() else None


def _revision(owner: Object) -> str:
    text = json.dumps(owner["spec"]["template"], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    return f"{owner['metadata']['name']}-{digest}"
