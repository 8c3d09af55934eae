"""What a namespace holds, in files: for whoever looks for a failure's cause when it has gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import (
    DEPLOYMENTS,
    EVENTS,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
    KubeApi,
    Resource,
)
from pytest_grpclb.clusters.namespaces import RUN_LABEL
from pytest_grpclb.clusters.pods.describing import describe_pods
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

__all__ = ["artifacts_folder", "save_namespace"]

_KINDS = (
    PODS,
    DEPLOYMENTS,
    STATEFULSETS,
    REPLICASETS,
    SERVICES,
    Resource("discovery.k8s.io/v1", "endpointslices", namespaced=True),
    Resource("networking.k8s.io/v1", "ingresses", namespaced=True),
)
"""Secrets are not among them, nor config maps, which others may take for the place of one."""
_SAVED_LINES = 10_000


def artifacts_folder(directory: Path, test: str) -> Path:
    """Make and return the folder below *directory* for a test's files.

    :param test: its node id
    """
    folder = directory / "".join(char if char.isalnum() else "-" for char in test)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_namespace(
    api: KubeApi, namespace: str, folder: Path, *, service: str = "", run: str = ""
) -> None:
    """Write into *folder* what a namespace holds; never raises ApiError.

    These are: describe.txt, events.txt, objects.json, and POD.log, or POD-CONTAINER.log where a pod
    has several; POD.previous.log, too, where a container was restarted.

    :param service: the namespace is somebody else's: only what belongs to this Service of it
    :param run: and what carries this value of the run's label
    """
    objects = {where.plural: _listed(api, where, namespace) for where in _KINDS}
    events = _listed(api, EVENTS, namespace)
    belonging = None
    if service:
        belonging = _belonging(objects, service, run)
        objects = {
            plural: [each for each in found if _uid(each) in belonging or "metadata" not in each]
            for plural, found in objects.items()
        }
        events = [
            each for each in events if each.get("involvedObject", {}).get("uid", "") in belonging
        ]
    told = describe_pods(api, namespace, {}, only=belonging, each=True)
    (folder / "describe.txt").write_text(told + "\n")
    (folder / "events.txt").write_text("".join(f"{_event(each)}\n" for each in events))
    (folder / "objects.json").write_text(json.dumps(objects, indent=2))
    for pod in objects["pods"]:
        if "metadata" in pod:
            for name, log in _logs(api, pod):
                (folder / name).write_text(log)


def _belonging(
    objects: Mapping[str, list[dict[str, Any]]], service: str, run: str
) -> Collection[str]:
    """Return the UIDs of a Service, its pods, what made them, and what a run has put beside it.

    :param objects: by plural, all of the namespace
    """
    by_uid = {_uid(each): each for found in objects.values() for each in found if _uid(each)}
    named = [
        each for each in objects["services"] if each.get("metadata", {}).get("name") == service
    ]
    selector = named[0]["spec"].get("selector") if named else None
    made = {
        uid
        for uid, each in by_uid.items()
        if (each["metadata"].get("labels") or {}).get(RUN_LABEL) == run
    }
    kept = made | {_uid(each) for each in named}
    owners = {
        _uid(pod)
        for pod in objects["pods"]
        if selector and selector.items() <= (pod.get("metadata", {}).get("labels") or {}).items()
    }
    while owners:  # upwards, from the pods to their workload
        kept |= owners
        owners = {uid for each in owners for uid in _owners(by_uid[each]) if uid in by_uid} - kept
    while True:  # downwards, to what these have made
        more = {uid for uid, each in by_uid.items() if kept.intersection(_owners(each))} - kept
        if not more:
            return kept
        kept |= more


def _uid(found: Mapping[str, Any]) -> str:
    return str(found.get("metadata", {}).get("uid", ""))


def _owners(found: Mapping[str, Any]) -> list[str]:
    return [each["uid"] for each in found["metadata"].get("ownerReferences") or ()]


def _listed(api: KubeApi, where: Resource, namespace: str) -> list[dict[str, Any]]:
    try:
        found = api.list(where, namespace)
    except ApiError as error:
        return [{"message": f"({where.plural} cannot be listed: {error})"}]
    for each in found:
        each["metadata"].pop("managedFields", None)  # half of the text, and about nobody's question
    return found


def _logs(api: KubeApi, pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    spec, status = pod["spec"], pod.get("status", {})
    told = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    restarted = {each["name"] for each in told if each.get("restartCount")}
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    for container in containers:
        stem = name if len(containers) == 1 else f"{name}-{container['name']}"
        for previous in (False, True) if container["name"] in restarted else (False,):
            suffix = ".previous.log" if previous else ".log"
            try:
                log = api.logs(
                    namespace,
                    name,
                    container=container["name"],
                    lines=_SAVED_LINES,
                    previous=previous,
                )
            except (ApiError, ConnectionError) as error:
                log = f"(it cannot be read: {error})\n"
            yield f"{stem}{suffix}", log


def _event(event: Mapping[str, Any]) -> str:
    about = event.get("involvedObject", {})
    moment = event.get("lastTimestamp") or event.get("eventTime") or ""
    words = (
        moment,
        event.get("type", ""),
        f"{about.get('kind', '')}/{about.get('name', '')}" if about else "",
        event.get("reason", ""),
        event.get("message", ""),
        f"(x{event['count']})" if (event.get("count") or 1) > 1 else "",
    )
    return " ".join(str(word) for word in words if word)
