"""What to do about pods that do not get ready: read from their states and events. Pure.

What a container is now comes before what events tell, for these stay when their cause has gone;
a cause comes before its effects.

:source: Kubernetes, ``pkg/kubelet/events`` and ``pkg/probe`` (reasons and messages)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.pods.container_hints import HOPELESS_WAITS, Hint, of_containers
from pytest_grpclb.clusters.pods.event_hints import of_preparations, of_probes, of_shared_ports
from pytest_grpclb.clusters.pods.event_times import current
from pytest_grpclb.clusters.pods.refusals import refusals, unscheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["HOPELESS_WAITS", "Hint", "hint_of"]


def hint_of(
    pods: Sequence[Mapping[str, Any]],
    events: Iterable[Mapping[str, Any]],
    *,
    workload: str = "",
    crashes_allowed: int | None = None,
    last_words: Callable[[str, str], str] = lambda _pod, _container: "",
) -> Hint | None:
    """Return what is most likely to be wrong; None where nothing tells.

    :param events: of the namespace; only those of pods that are not ready or not made count
    :param workload: name of what makes the pods
    :param crashes_allowed: failed starts in a row after which waiting is no use; None: any number
    :param last_words: returns the end of the log of a container, by its pod's name and its own
    """
    unready = [pod for pod in pods if not _is_ready(pod)]
    events = list(events)
    concerning: dict[str, list[Mapping[str, Any]]] = {pod["metadata"]["uid"]: [] for pod in unready}
    for event in events:
        uid = event["involvedObject"].get("uid")
        if uid in concerning:
            concerning[uid].append(event)
    now = [event for pod in unready for event in current(concerning[pod["metadata"]["uid"]], pod)]
    hints = (
        # Processes end where another has taken their port.
        *of_shared_ports(now),
        *(
            hint
            for pod in unready
            for hint in of_containers(
                pod,
                concerning[pod["metadata"]["uid"]],
                crashes_allowed=crashes_allowed,
                last_words=last_words,
            )
        ),
        *of_preparations(now),
        *of_probes(now),
        *_of_waiting_for_others(unready),
        # Quotas are raised, and nodes added, while one waits.
        *(Hint(text=text, hopeless=False) for text in unscheduled(unready)),
        *(Hint(text=text, hopeless=False) for text in refusals(events, workload) if workload),
    )
    return max(hints, key=lambda each: each.hopeless, default=None)


def _of_waiting_for_others(pods: Sequence[Mapping[str, Any]]) -> Iterator[Hint]:
    """Yield which init container is not done, so that no other is started.

    :source: Kubernetes documentation, "Init Containers", "Sidecar Containers"
    """
    for pod in pods:
        sidecars = {
            each["name"]
            for each in pod.get("spec", {}).get("initContainers") or ()
            if each.get("restartPolicy") == "Always"
        }
        for status in pod.get("status", {}).get("initContainerStatuses") or ():
            if "running" in (status.get("state") or {}) and status["name"] not in sidecars:
                yield Hint(
                    text=f"the init container {status['name']!r} has not ended, and no other is "
                    "started before: see its log, or raise --grpclb-ready-timeout if it takes long",
                    hopeless=False,
                )


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
