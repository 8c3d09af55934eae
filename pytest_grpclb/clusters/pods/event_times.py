"""Which events of a pod are about what it is now, and which about what it was before. Pure.

Events stay for an hour: what a container suffered from before it was started anew, or a volume
before it was there, is no reason for its state now.

:source: Kubernetes API, ``Event``; kubernetes, ``pkg/kubelet/kuberuntime`` (when which is sent)
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["current", "killed_by_probe", "outlives"]

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)
_AFTER_ALL = datetime.max.replace(tzinfo=UTC)
_PREPARING = frozenset({"ContainerCreating", "PodInitializing"})
"""What containers wait for that nothing was done for yet but to make the pod's volumes."""
_PREPARES = frozenset({"FailedAttachVolume", "FailedCreatePodSandBox", "FailedMount"})
_PREPARED = frozenset({"BackOff", "Created", "Failed", "Pulled", "Pulling", "Started"})
"""Reasons of what comes after: volumes and sandbox are there before an image is pulled."""
_CONTAINER = re.compile(r"spec\.\w+\{(.+)\}")
_LONGER = timedelta(seconds=5)
"""What a run differs by from the one before it, when it takes the same course."""


def current(
    events: Sequence[Mapping[str, Any]], pod: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield those of a pod's events that are not overtaken by what came after them."""
    status = pod.get("status", {})
    containers = {
        each["name"]: each
        for field in ("initContainerStatuses", "containerStatuses")
        for each in status.get(field) or ()
    }
    prepared = any(_has_begun(each) for each in containers.values())
    prepared_at = max(
        (_last(each) for each in events if each.get("reason") in _PREPARED), default=_BEFORE_ALL
    )
    for event in events:
        reason = event.get("reason")
        if reason in _PREPARES and (prepared or _last(event) <= prepared_at):
            continue
        if reason == "Unhealthy":
            about = _CONTAINER.search(event["involvedObject"].get("fieldPath", ""))
            concerned = (
                [containers[about[1]]] if about and about[1] in containers else containers.values()
            )
            if concerned and all(_is_past(event, each) for each in concerned):
                continue
        yield event


def killed_by_probe(
    container: str, ended: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> bool:
    """Tell whether a container's last process was ended because a probe had failed.

    :param ended: what is known of that process
    """
    began_at = _time(ended.get("startedAt")) or _BEFORE_ALL
    killed = re.compile(rf"Container {re.escape(container)} failed (liveness|startup) probe")
    return any(
        event.get("reason") == "Killing"
        and killed.match(event.get("message", ""))
        and _last(event) >= began_at
        for event in events
    )


def outlives(
    status: Mapping[str, Any], ended: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> bool:
    """Tell whether a container's process now has got further than the last one, which ended.

    :param ended: what is known of the last
    """
    began_at = _time(((status.get("state") or {}).get("running") or {}).get("startedAt"))
    before = _time(ended.get("startedAt")), _time(ended.get("finishedAt"))
    if began_at is None or before[0] is None or before[1] is None:
        return False
    seen_at = max(
        (_last(each) for each in events if each.get("reason") == "Unhealthy"), default=_BEFORE_ALL
    )
    return seen_at != _AFTER_ALL and seen_at - began_at > before[1] - before[0] + _LONGER


def _has_begun(status: Mapping[str, Any]) -> bool:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    return bool(
        {"running", "terminated"} & state.keys()
        or (status.get("lastState") or {}).get("terminated")
        or (waiting.get("reason") and waiting["reason"] not in _PREPARING)
    )


def _is_past(event: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Tell whether a probe's failure is of a process that is no more, or that is ready by now."""
    if status.get("ready"):
        return True
    began_at = _time(((status.get("state") or {}).get("running") or {}).get("startedAt"))
    return began_at is not None and _last(event) < began_at


def _last(event: Mapping[str, Any]) -> datetime:
    """Return when it last happened; where it does not say, it may be just now."""
    series = event.get("series") or {}
    told = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((found for each in told if (found := _time(each))), _AFTER_ALL)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
