"""What a namespace holds, in files: for whoever looks for a failure's cause when it has gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.describing import describe_pods
from pytest_grpclb.clusters.kube import DEPLOYMENTS, EVENTS, PODS, KubeApi, Resource
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["artifacts_folder", "save_namespace"]

_KINDS = (
    PODS,
    DEPLOYMENTS,
    Resource("apps/v1", "replicasets", namespaced=True),
    Resource("v1", "services", namespaced=True),
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


def save_namespace(api: KubeApi, namespace: str, folder: Path) -> None:
    """Write into *folder* what a namespace holds; never raises ApiError.

    These are: describe.txt, events.txt, objects.json, and POD.log, or POD-CONTAINER.log where a pod
    has several; POD.previous.log, too, where a container was restarted.
    """
    (folder / "describe.txt").write_text(describe_pods(api, namespace, {}) + "\n")
    events = _listed(api, EVENTS, namespace)
    (folder / "events.txt").write_text("".join(f"{_event(each)}\n" for each in events))
    objects = {where.plural: _listed(api, where, namespace) for where in _KINDS}
    (folder / "objects.json").write_text(json.dumps(objects, indent=2))
    for pod in objects["pods"]:
        if "metadata" in pod:
            for name, log in _logs(api, pod):
                (folder / name).write_text(log)


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
