"""What a pod's status says, from what its containers are doing. Pure.

:source: Kubernetes documentation, "Pod Lifecycle"; kubernetes, ``pkg/kubelet/kubelet_pods.go``
    (getPhase) and ``pkg/kubelet/status/generate.go``
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["ContainerState", "pod_status", "terminated"]


@dataclass(slots=True, kw_only=True)
class ContainerState:
    """One container as its status tells of it."""

    name: str
    image: str
    policy: str
    """Its restart policy: Always, OnFailure or Never."""
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict)
    identity: str = ""
    restarts: int = 0
    started: bool = False
    ready: bool = False

    @property
    def is_running(self) -> bool:
        """Tell whether its process runs."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """Return how its last process ended; None: none has."""
        ended = self.state.get("terminated") or self.last.get("terminated")
        return None if ended is None else ended["exitCode"]

    @property
    def has_run(self) -> bool:
        """Tell whether it runs or ran."""
        return self.is_running or self.exit_code is not None

    @property
    def has_succeeded(self) -> bool:
        """Tell whether it has ended as an init container should."""
        return self.exit_code == 0 and not self.is_running

    def status(self) -> Object:
        """Return its entry in ``containerStatuses``."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": "",
            "containerID": self.identity,
            "restartCount": self.restarts,
            "started": self.started,
            "ready": self.ready,
            "state": self.state,
            "lastState": self.last,
        }


def terminated(
    code: int,
    *,
    started_at: str,
    finished_at: str,
    identity: str,
    reason: str = "",
    message: str = "",
) -> Object:
    """Return the state of a container that ended.

    :param code: exit code; negative: the signal that ended it, told as 128 plus its number
    """
    ended: Object = {
        "exitCode": code if code >= 0 else 128 - code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": started_at,
        "finishedAt": finished_at,
        "containerID": identity,
    }
    if code < 0:
        ended["signal"] = -code
        message = message or f"ended by {signal.Signals(-code).name}"
    if message:
        ended["message"] = message
    return {"terminated": ended}


def pod_status(
    pod: Object,
    *,
    init: Sequence[ContainerState],
    main: Sequence[ContainerState],
    ended: bool,
    now: str,
    started_at: str,
    ip: str,
    host_ip: str,
) -> Object:
    """Return a pod's whole status.

    :param init: its init containers, sidecars among them, in order
    :param ended: whether nothing of it runs or will run
    """
    old = pod.get("status", {})
    sidecars = [state for state in init if state.policy == "Always"]
    initialized = any(state.has_run for state in main) or all(
        state.started if state.policy == "Always" else state.has_succeeded for state in init
    )
    phase = _phase(main, initialized=initialized, ended=ended)
    status: Object = {
        **old,
        "phase": phase,
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": started_at,
        "conditions": _conditions(pod, phase, initialized, init, [*main, *sidecars], now),
        "containerStatuses": [state.status() for state in main],
    }
    if init:
        status["initContainerStatuses"] = [state.status() for state in init]
    return status


def _phase(main: Sequence[ContainerState], *, initialized: bool, ended: bool) -> str:
    codes = [state.exit_code for state in main]
    if ended:
        return "Failed" if any(codes) or None in codes else "Succeeded"
    if not initialized or not all(state.has_run for state in main):
        return "Pending"
    return "Running"


def _conditions(
    pod: Object,
    phase: str,
    initialized: bool,
    init: Sequence[ContainerState],
    serving: Sequence[ContainerState],
    now: str,
) -> list[Any]:
    before = {each["type"]: each for each in pod.get("status", {}).get("conditions") or ()}
    waiting = [state.name for state in init if not (state.has_succeeded or state.started)]
    unready = [state.name for state in serving if not state.ready]
    if phase == "Succeeded":
        why_not = ("PodCompleted", "")
    else:
        why_not = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    complete = initialized and not unready
    shut = _shut_gates(pod, before) if complete else []
    ready_reason = ("ReadinessGatesNotReady", ", ".join(shut)) if shut else why_not
    incomplete = f"containers with incomplete status: [{' '.join(waiting)}]"
    wanted = (
        ("PodReadyToStartContainers", True, ("", "")),
        ("Initialized", initialized, ("ContainersNotInitialized", incomplete)),
        ("Ready", complete and not shut, ready_reason),
        ("ContainersReady", complete, why_not),
        ("PodScheduled", True, ("", "")),
    )
    own = [
        _condition(before.get(kind, {}), kind, holds, *(("", "") if holds else reason), now)
        for kind, holds, reason in wanted
    ]
    # What others say of the pod, such as its readiness gates, stays as they have said it.
    kinds = {kind for kind, _, _ in wanted}
    return [*own, *(each for kind, each in before.items() if kind not in kinds)]


def _shut_gates(pod: Object, conditions: Mapping[str, Object]) -> list[str]:
    """Tell which readiness gates keep the pod from being ready.

    :source: kubernetes, ``pkg/kubelet/status/generate.go`` (GeneratePodReadyCondition)
    """
    told = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in conditions:
            told.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif (status := conditions[kind]["status"]) != "True":
            told.append(f'the status of pod readiness gate "{kind}" is not "True", but {status}')
    return told


def _condition(
    before: Object, kind: str, holds: bool, reason: str, message: str, now: str
) -> Object:
    status = str(holds)
    same = before.get("status") == status
    condition: Object = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if same else now,
    }
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition
