"""What one line says of a pod: how many containers are ready, its state, its restarts.

:source: Kubernetes, ``pkg/printers/internalversion/printers.go``, printPod
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["pod_ready", "pod_restarts", "pod_status"]


def pod_ready(pod: Object) -> str:
    """Return the ready containers out of all, as ``1/2``."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    ready = sum(1 for entry in statuses if entry.get("ready"))
    return f"{ready}/{len(pod['spec']['containers'])}"


def pod_status(pod: Object) -> str:
    """Return the word that says most about a pod's state: ``Running``, ``CrashLoopBackOff``, ..."""
    status = pod.get("status", {})
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    told: str = status.get("reason") or status.get("phase", "Unknown")
    initialising = _init_status(pod)
    if initialising:
        return initialising
    running = False
    for entry in reversed(status.get("containerStatuses", ())):
        state = entry.get("state", {})
        running = running or (bool(entry.get("ready")) and "running" in state)
        told = _reason(state) or told
    if told == "Completed" and running:
        return "Running"
    return told


def pod_restarts(pod: Object) -> tuple[int, str | None]:
    """Return how often containers were restarted, and when the last of them had ended."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    ended = [
        entry.get("lastState", {}).get("terminated", {}).get("finishedAt") or ""
        for entry in statuses
    ]
    return sum(entry.get("restartCount", 0) for entry in statuses), max(ended, default="") or None


def _init_status(pod: Object) -> str:
    statuses = pod.get("status", {}).get("initContainerStatuses", ())
    for number, entry in enumerate(statuses):
        state = entry.get("state", {})
        if state.get("terminated", {}).get("exitCode") == 0:
            continue
        reason = _reason(state)
        if reason and reason != "PodInitializing":
            return f"Init:{reason}"
        return f"Init:{number}/{len(pod['spec'].get('initContainers', ()))}"
    return ""


def _reason(state: Object) -> str:
    """Return why a container does not run; empty: it does, or nothing is known."""
    waiting: str = state.get("waiting", {}).get("reason", "")
    if waiting:
        return waiting
    ended = state.get("terminated")
    if ended is None:
        return ""
    if ended.get("reason"):
        reason: str = ended["reason"]
        return reason
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended['exitCode']}"
