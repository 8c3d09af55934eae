"""Deployments: a ReplicaSet for each version of the pods, and the way from one to the next.

:source: Kubernetes, ``pkg/controller/deployment``
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.controllers.deployment_status import is_complete, status_of
from pytest_grpclb.clusters.embedded.controllers.manager import Key
from pytest_grpclb.clusters.embedded.controllers.owners import (
    claim,
    controller_of,
    is_deleted,
    reference,
)
from pytest_grpclb.clusters.embedded.controllers.replicasets import REPLICASETS
from pytest_grpclb.clusters.embedded.controllers.rollout import (
    ReplicaCount,
    next_sizes,
    resolve_limits,
)
from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.selectors import label_selector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["Deployments"]

DEPLOYMENTS = "deployments.apps"
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_NOT_COPIED = frozenset(
    {
        REVISION,
        "kubectl.kubernetes.io/last-applied-configuration",
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
    }
)
"""A Deployment's annotations that say something of it alone."""
_SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes writes hashes in: no vowels, so no words (apimachinery, ``util/rand``)."""
_HISTORY = 10


class Deployments:
    """Rolls out the pod template of each Deployment."""

    kinds = (DEPLOYMENTS, REPLICASETS, "pods")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recorder = Recorder(store, "deployment-controller")

    def concerned(self, event: Event) -> Iterable[Key]:
        """Name the Deployment that changed or whose ReplicaSet did; of pods, only ends matter."""
        obj = event.object
        namespace = obj["metadata"]["namespace"]
        if obj["kind"] == "Deployment":
            yield Key(namespace, obj["metadata"]["name"])
        elif obj["kind"] == "ReplicaSet":
            manager = controller_of(obj)
            if manager is not None:
                yield Key(namespace, manager["name"])
            elif event.type != "DELETED":
                for candidate in self._store.list(DEPLOYMENTS, namespace):
                    if label_selector(candidate["spec"]["selector"])(obj):
                        yield Key(namespace, candidate["metadata"]["name"])
        elif event.type == "DELETED":  # what strategy Recreate waits for
            manager = controller_of(obj)
            parent = manager and self._store.find(REPLICASETS, manager["name"], namespace)
            top = controller_of(parent) if parent else None
            if top is not None:
                yield Key(namespace, top["name"])

    def sync(self, key: Key) -> float | None:
        """Take the next step of a rollout, and say how far it is."""
        deployment = self._store.find(DEPLOYMENTS, key.name, key.namespace)
        if deployment is None:
            return None
        owned = sorted(
            claim(self._store, REPLICASETS, DEPLOYMENTS, deployment),
            key=lambda each: (_revision(each), each["metadata"]["creationTimestamp"]),
        )
        template = deployment["spec"]["template"]
        new = next((each for each in reversed(owned) if _same_template(each, template)), None)
        if is_deleted(deployment):
            return self._report(deployment, new, owned)
        old = [each for each in owned if each is not new]
        if deployment["spec"].get("paused"):
            self._scale_paused(deployment, new or (owned[-1] if owned else None))
        elif deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            new = self._recreate(deployment, new, old)
        else:
            new = self._roll(deployment, new, old)
        owned = [self._store.get(REPLICASETS, *_place(each)) for each in old]
        if new is not None:
            new = self._store.get(REPLICASETS, *_place(new))
            owned.append(new)
            deployment = self._note_revision(deployment, _revision(new))
        self._forget_old(deployment, new, owned)
        return self._report(deployment, new, owned)

    def _report(self, deployment: Object, new: Object | None, owned: list[Object]) -> float | None:
        status, again_s = status_of(deployment, new, owned, self._store.now())
        self._store.update_status(DEPLOYMENTS, {**deployment, "status": status}, expect=None)
        return again_s

    # --- strategies

    def _roll(self, deployment: Object, new: Object | None, old: list[Object]) -> Object:
        spec = deployment["spec"]
        wanted = spec.get("replicas", 1)
        rolling = spec.get("strategy", {}).get("rollingUpdate") or {}
        limits = resolve_limits(rolling.get("maxSurge"), rolling.get("maxUnavailable"), wanted)
        if new is None:
            standing = sum(each["spec"]["replicas"] for each in old)
            size = min(wanted, max(wanted + limits.surge - standing, 0))
            return self._create(deployment, old, size)
        new = self._mark(deployment, new, old)
        size, sizes = next_sizes(wanted, limits, _count(new), [_count(each) for each in old])
        for each, smaller in zip(old, sizes, strict=True):
            self._scale(deployment, each, smaller)
        return self._scale(deployment, new, size)

    def _recreate(self, deployment: Object, new: Object | None, old: list[Object]) -> Object | None:
        for each in old:
            self._scale(deployment, each, 0)
        if any(self._has_pods(each) for each in old):
            return new
        wanted = deployment["spec"].get("replicas", 1)
        if new is None:
            return self._create(deployment, old, wanted)
        return self._scale(deployment, self._mark(deployment, new, old), wanted)

    def _scale_paused(self, deployment: Object, active: Object | None) -> None:
        """Follow a change of the number of replicas, though nothing is rolled out."""
        if active is not None:
            self._scale(deployment, active, deployment["spec"].get("replicas", 1))

    def _has_pods(self, replicaset: Object) -> bool:
        """Tell whether a pod is left, be it ending: with Recreate no two versions overlap."""
        uid = replicaset["metadata"]["uid"]
        return any(
            (manager := controller_of(pod)) is not None
            and manager["uid"] == uid
            and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
            for pod in self._store.list("pods", replicaset["metadata"]["namespace"])
        )

    # --- ReplicaSets

    def _create(self, deployment: Object, old: list[Object], size: int) -> Object:
        metadata, spec = deployment["metadata"], deployment["spec"]
        template, selector = spec["template"], spec["selector"]
        hashed = self._free_hash(metadata, template)
        labels = {**(template.get("metadata", {}).get("labels") or {}), HASH_LABEL: hashed}
        matched = {**(selector.get("matchLabels") or {}), HASH_LABEL: hashed}
        new = self._store.create(
            REPLICASETS,
            {
                "metadata": {
                    "name": f"{metadata['name']}-{hashed}",
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "annotations": _annotations(deployment, _next_revision(old)),
                    "ownerReferences": [reference(DEPLOYMENTS, deployment)],
                },
                "spec": {
                    "replicas": size,
                    "minReadySeconds": spec.get("minReadySeconds", 0),
                    "selector": {**selector, "matchLabels": matched},
                    "template": {
                        **template,
                        "metadata": {**(template.get("metadata") or {}), "labels": labels},
                    },
                },
            },
        )
        self._tell_scaled(deployment, new, 0, size)
        return new

    def _free_hash(self, metadata: Object, template: Object) -> str:
        """Hash a template; if another one has that hash, improbable as it is, try again."""
        for collisions in range(1000):
            text = json.dumps([template, collisions], sort_keys=True)
            digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
            hashed = "".join(_SAFE_ALPHABET[int(digit)] for digit in str(digest))
            name = f"{metadata['name']}-{hashed}"
            if self._store.find(REPLICASETS, name, metadata["namespace"]) is None:
                return hashed
        raise AssertionError("unreachable: a thousand collisions")

    def _mark(self, deployment: Object, new: Object, old: list[Object]) -> Object:
        """Give the current ReplicaSet the newest revision: a rollback makes an old one current."""
        annotations = new["metadata"].get("annotations") or {}
        revision = max(_revision(new), _next_revision(old))
        wanted = {**annotations, **_annotations(deployment, revision)}
        minimum = deployment["spec"].get("minReadySeconds", 0)
        if wanted == annotations and new["spec"].get("minReadySeconds", 0) == minimum:
            return new
        metadata = {**new["metadata"], "annotations": wanted}
        spec = {**new["spec"], "minReadySeconds": minimum}
        return self._store.update(REPLICASETS, {**new, "metadata": metadata, "spec": spec})

    def _note_revision(self, deployment: Object, revision: int) -> Object:
        annotations = deployment["metadata"].get("annotations") or {}
        if annotations.get(REVISION) == str(revision):
            return deployment
        metadata = {
            **deployment["metadata"],
            "annotations": {**annotations, REVISION: str(revision)},
        }
        return self._store.update(DEPLOYMENTS, {**deployment, "metadata": metadata})

    def _scale(self, deployment: Object, replicaset: Object, size: int) -> Object:
        before = replicaset["spec"]["replicas"]
        if before == size:
            return replicaset
        spec = {**replicaset["spec"], "replicas": size}
        scaled = self._store.update(REPLICASETS, {**replicaset, "spec": spec})
        self._tell_scaled(deployment, replicaset, before, size)
        return scaled

    def _tell_scaled(self, deployment: Object, replicaset: Object, before: int, size: int) -> None:
        direction = "up" if size > before else "down"
        name = replicaset["metadata"]["name"]
        self._recorder.normal(
            deployment,
            "ScalingReplicaSet",
            f"Scaled {direction} replica set {name} from {before} to {size}",
        )

    def _forget_old(self, deployment: Object, new: Object | None, owned: list[Object]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit", _HISTORY)
        if new is None or not is_complete(deployment, new, owned):
            return
        idle = [
            each
            for each in owned
            if each is not new
            and not each["spec"]["replicas"]
            and not each.get("status", {}).get("replicas")
            and not is_deleted(each)
        ]
        for each in idle[: max(len(idle) - limit, 0)]:
            self._store.delete(REPLICASETS, *_place(each))


def _same_template(replicaset: Object, template: Any) -> bool:
    own = replicaset["spec"]["template"]
    labels = {key: value for key, value in own["metadata"]["labels"].items() if key != HASH_LABEL}
    metadata = {**own["metadata"], "labels": labels}
    return bool({**own, "metadata": metadata} == template)


def _annotations(deployment: Object, revision: int) -> dict[str, str]:
    own = deployment["metadata"].get("annotations") or {}
    kept = {key: value for key, value in own.items() if key not in _NOT_COPIED}
    return {**kept, REVISION: str(revision)}


def _revision(replicaset: Object) -> int:
    return int((replicaset["metadata"].get("annotations") or {}).get(REVISION, 0))


def _next_revision(old: list[Object]) -> int:
    return max((_revision(each) for each in old), default=0) + 1


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["name"], obj["metadata"]["namespace"]


def _count(replicaset: Object) -> ReplicaCount:
    status = replicaset.get("status", {})
    return ReplicaCount(
        wanted=replicaset["spec"]["replicas"],
        available=status.get("availableReplicas", 0),
    )
