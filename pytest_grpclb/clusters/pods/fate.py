"""What became of a pod whose connection broke off: its own end, or that of the way to it.

:source: Kubernetes API, ``ContainerStateTerminated``; "Use Port Forwarding to Access Applications"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_grpclb.clusters.pods.watch import PodState, PodWatch

__all__ = ["has_ended", "why_lost"]

_LOOK_S = 5.0
"""A pod's end is told by its connections at once, by kubelet and API a little later."""


def has_ended(watch: PodWatch, pod: PodState) -> bool:
    """Tell whether *pod* is known to have ended since the connection to it was made.

    :param watch: sees that pod
    :param pod: as it was then
    """
    try:
        return _all_ended(watch.pods(), pod)
    except ApiError:  # then it is not known
        return False


def why_lost(watch: PodWatch, pod: PodState, *, timeout_s: float = _LOOK_S) -> str:
    """Return why a connection to *pod* broke off, for people, and what to do.

    :param watch: sees that pod
    :param pod: as it was when the connection was made
    """
    try:
        ended = watch.wait_for(lambda pods: _all_ended(pods, pod), timeout_s=timeout_s)
    except ApiError as error:
        return f"what became of its pod {pod.name!r} is not known: {error}"
    if not ended:
        return (
            f"its pod {pod.name!r} runs on, so the connection to it broke off, which on real "
            "clusters is a port-forward through the Kubernetes API; run the test again, and where "
            "that recurs, look for restarts of the API or of the pod's node, and for what stands "
            "before the API and ends connections of a certain age (load balancer, proxy)"
        )
    for found in _same(watch.pods(), pod):
        if not (found.terminating or found.ended):
            return f"its pod {pod.name!r} was restarted{_last_end(found.manifest)}"
    return (
        f"its pod {pod.name!r} was deleted or evicted, or its node was lost; see the events of its "
        "namespace (--grpclb-artifacts saves them), and run the test again"
    )


def _same(pods: tuple[PodState, ...], pod: PodState) -> list[PodState]:
    return [each for each in pods if each.uid == pod.uid]


def _statuses(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return manifest.get("status", {}).get("containerStatuses") or []


def _all_ended(pods: tuple[PodState, ...], pod: PodState) -> bool:
    return all(_has_ended(each, before=pod) for each in _same(pods, pod))


def _has_ended(pod: PodState, *, before: PodState) -> bool:
    ends = any("terminated" in (each.get("state") or {}) for each in _statuses(pod.manifest))
    return pod.terminating or pod.ended or ends or _starts(pod) != _starts(before)


def _starts(pod: PodState) -> int:
    return sum(status.get("restartCount", 0) for status in _statuses(pod.manifest))


def _last_end(manifest: Mapping[str, Any]) -> str:
    for status in _statuses(manifest):
        for state in ("state", "lastState"):
            end = (status.get(state) or {}).get("terminated")
            if end:
                words = ", ".join(
                    word for word in (f"exit code {end.get('exitCode')}", end.get("reason")) if word
                )
                return f": its container {status['name']!r} ended ({words})"
    return ""
