"""Pods that are ready only while the test process says so too.

The way that works on every cluster and with every service: what a pod's probes say is between it
and its kubelet, which takes back whatever another writes, but a *readiness gate* is there to be
decided from outside.

:source: Kubernetes documentation, "Pod Lifecycle", pod readiness
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import PODS, KubeApi
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_grpclb.clusters.pods.watch import PodState, PodWatch
    from pytest_grpclb.model import Manifest

__all__ = ["ReadinessGate", "with_gate"]

_CONDITION = "pytest-grpclb/serving"
_WORKLOADS = frozenset({"Deployment", "StatefulSet"})
_PAUSE_S = 0.5
"""After a gate could not be opened, though requests are repeated by themselves."""
_LOOK_S = 60.0
"""The watch wakes whoever waits for it; none waits for ever, should that fail."""


def with_gate(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Return *manifests* with the readiness gate in the pods of every workload."""
    return [_gated(each) if each["kind"] in _WORKLOADS else each for each in manifests]


def _gated(workload: Manifest) -> Manifest:
    spec = workload["spec"]
    template = spec["template"]
    pod = template["spec"]
    gates = [*(pod.get("readinessGates") or ()), {"conditionType": _CONDITION}]
    gated = {**template, "spec": {**pod, "readinessGates": gates}}
    return {**workload, "spec": {**spec, "template": gated}}


class ReadinessGate:
    """Opens the gate of every pod that a watch sees, in a thread of its own, and shuts some."""

    def __init__(self, api: KubeApi, namespace: str, watch: PodWatch) -> None:
        """Start; the thread ends when *watch* is closed."""
        self._api, self._namespace, self._watch = api, namespace, watch
        self.shut: frozenset[str] = frozenset()
        """UIDs of the pods whose gate was shut."""
        self.refused: ApiError | None = None
        """Why no gate can be opened: this user may not."""
        self._done: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="grpclb-readiness", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def turn(self, name: str, uid: str, *, is_open: bool) -> None:
        """Open or shut the gate of the pod *name*.

        :raises ApiError: if the cluster refuses, or there is no such pod
        """
        self.shut = self.shut - {uid} if is_open else self.shut | {uid}
        condition = {"type": _CONDITION, "status": str(is_open)}
        self._api.request(
            "PATCH",
            PODS.path(self._namespace, name, "status"),
            body={"status": {"conditions": [condition]}},
            content_type="application/strategic-merge-patch+json",
            repeatable=True,
        )

    def _run(self) -> None:
        while not self._watch.closed:
            try:
                self._watch.wait_for(self._any_waiting, timeout_s=_LOOK_S)
            except ApiError:
                return  # the watch has failed for good, which those who wait for pods are told
            for pod in self._watch.pods():
                if self._waits(pod):
                    self._done.add(pod.uid)
                    try:
                        self.turn(pod.name, pod.uid, is_open=True)
                    except ApiError as error:
                        if error.status in {401, 403}:
                            self.refused = error
                            return
                        if error.status != 404:  # it may have gone
                            self._done.discard(pod.uid)
                            self._pause()

    def _pause(self) -> None:
        """Let some time pass before the API is asked again; the watch may end meanwhile."""
        with contextlib.suppress(ApiError):
            self._watch.wait_for(lambda _pods: self._watch.closed, timeout_s=_PAUSE_S)

    def _any_waiting(self, pods: tuple[PodState, ...]) -> bool:
        return self._watch.closed or any(self._waits(pod) for pod in pods)

    def _waits(self, pod: PodState) -> bool:
        return pod.uid not in self._done and not pod.terminating and not _is_told(pod.manifest)


def _is_told(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(condition["type"] == _CONDITION for condition in conditions)
