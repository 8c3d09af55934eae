"""Which log a client asks for, and whether there is one.

:source: Kubernetes, ``pkg/registry/core/pod/strategy.go``, LogLocation; ``kubectl logs``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.api.streams import LogOptions
from pytest_grpclb.clusters.embedded.store.status import BadRequestError

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.api.query import Query
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["log_options"]


def log_options(pod: Object, query: Query) -> LogOptions:
    """Return what is asked of a pod's log.

    :raises BadRequestError: if the container is not named though there are several, is not in the
        pod, or has not started
    """
    container = _container(pod, query.text("container"))
    previous = query.flag("previous")
    _check_started(pod, container, previous=previous)
    return LogOptions(
        container=container,
        previous=previous,
        follow=query.flag("follow"),
        timestamps=query.flag("timestamps"),
        tail_lines=query.whole("tailLines"),
        limit_bytes=query.whole("limitBytes"),
        since_s=query.whole("sinceSeconds"),
    )


def _container(pod: Object, asked: str) -> str:
    spec, name = pod["spec"], pod["metadata"]["name"]
    main = [container["name"] for container in spec["containers"]]
    initial = [container["name"] for container in spec.get("initContainers", ())]
    if asked:
        if asked not in main + initial:
            raise BadRequestError(f"container {asked} is not valid for pod {name}")
        return asked
    if len(main) == 1:
        only: str = main[0]
        return only
    told = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
    if initial:
        told += f" or one of the init containers: [{' '.join(initial)}]"
    raise BadRequestError(told)


def _check_started(pod: Object, container: str, *, previous: bool) -> None:
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    entries = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    entry = next((entry for entry in entries if entry["name"] == container), None)
    if entry is None:
        raise BadRequestError(
            f'container "{container}" in pod "{name}" is waiting to start: no status yet'
        )
    ended = "terminated" in entry.get("lastState", {})
    if previous and not ended:
        raise BadRequestError(
            f'previous terminated container "{container}" in pod "{name}" not found'
        )
    waiting = entry.get("state", {}).get("waiting")
    if waiting is not None and not ended:
        why = waiting.get("message") or waiting.get("reason", "")
        raise BadRequestError(f'container "{container}" in pod "{name}" is waiting to start: {why}')
