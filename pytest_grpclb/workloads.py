"""What manifests say of the pods that they bring: which workload, where it listens, which images.

Pure: manifests in, values out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import ServiceError
from pytest_grpclb.model import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_grpclb.model import Manifest

__all__ = [
    "WORKLOADS",
    "Component",
    "components_of",
    "fitted",
    "images_of",
    "service_of",
    "workload_of",
]

__tracebackhide__ = True  # what an error says is for people; these frames are not

WORKLOADS = ("Deployment", "StatefulSet")
"""Kinds of which one is the service under test."""


def service_of(
    manifests: Sequence[Manifest],
    *,
    namespace: str,
    source: str,
    workload: str = "",
    port: int | None = None,
) -> Service:
    """Describe the workload among *manifests* that is the service under test.

    :param source: where they come from, for errors
    :param workload: its name, or KIND/NAME; empty: the only one that there is
    :param port: where its pods listen; None: the container port named "grpc", or the only one
    :raises ServiceError: if it is not there, another one could be meant, or the port is not clear
    """
    found = workload_of(manifests, source=source, workload=workload)
    return Service(
        name=found["metadata"]["name"],
        namespace=found["metadata"].get("namespace") or namespace,
        selector=_match_labels(found, source),
        port=port or _port_of(found, source),
        deployment=found["metadata"]["name"],
        kind=found["kind"],
    )


def workload_of(manifests: Sequence[Manifest], *, source: str, workload: str = "") -> Manifest:
    """Return the workload that is the service under test.

    :raises ServiceError: if it is not there, or another one could be meant
    """
    known = [each for each in manifests if each["kind"] in WORKLOADS]
    there = ", ".join(_name(each) for each in known) or "none"
    kind, slash, name = workload.rpartition("/")
    found = [
        each
        for each in known
        if each["metadata"]["name"] == (name or each["metadata"]["name"])
        and each["kind"].lower() == (kind if slash else each["kind"]).lower()
    ]
    if len(found) == 1:
        return found[0]
    if workload and not found:
        raise ServiceError(
            source,
            message=f"no Deployment or StatefulSet is called {workload!r}; it has: {there}",
            advice="correct --grpclb-workload",
        )
    if workload:
        raise ServiceError(
            source,
            message=f"several workloads are called {workload!r}: {there}",
            advice=f"say which with --grpclb-workload={_name(found[0])}",
        )
    if known:
        raise ServiceError(
            source,
            message=f"one workload is the service under test, it has {len(known)}: {there}",
            advice="say which with --grpclb-workload=NAME",
        )
    others = ", ".join(dict.fromkeys(each["kind"] for each in manifests)) or "none"
    raise ServiceError(
        source,
        message=f"it has no Deployment or StatefulSet, only: {others}",
        advice="the service under test must be one",
    )


def fitted(
    manifest: Manifest, *, replicas: int, environment: Mapping[str, str], port: int
) -> Manifest:
    """Return a workload with so many replicas and further variables where it listens.

    :param environment: takes the place of variables of the same name
    :param port: of the service; the container that declares it gets them, else the first one
    """
    spec = manifest["spec"]
    template = spec["template"]
    pod = template["spec"]
    chosen = next(
        (
            index
            for index, container in enumerate(pod["containers"])
            if any(each["containerPort"] == port for each in container.get("ports") or ())
        ),
        0,
    )
    containers = [
        _with_variables(container, environment) if index == chosen else container
        for index, container in enumerate(pod["containers"])
    ]
    template = {**template, "spec": {**pod, "containers": containers}}
    return {**manifest, "spec": {**spec, "replicas": replicas, "template": template}}


def images_of(manifests: Iterable[Manifest]) -> list[str]:
    """Return the images of all containers of the workloads among *manifests*, each once."""
    pods = (
        manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] in WORKLOADS
    )
    containers = (
        container
        for pod in pods
        for container in (*pod.get("initContainers", ()), *pod["containers"])
    )
    return list(dict.fromkeys(container["image"] for container in containers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A Deployment of a strategy's chart."""

    service: Service
    replicas: int


def components_of(manifests: Sequence[Manifest], *, namespace: str) -> dict[str, Component]:
    """Find the Deployments among *manifests*, by their label ``app.kubernetes.io/component``.

    One without that label is there under its name. The port is the container port named "grpc", or
    the first that there is; 0 if there is none.
    """
    components = {}
    for manifest in manifests:
        if manifest["kind"] != "Deployment":
            continue
        metadata, spec = manifest["metadata"], manifest["spec"]
        ports = {
            port.get("name", ""): port["containerPort"]
            for container in reversed(spec["template"]["spec"]["containers"])
            for port in reversed(container.get("ports", ()))
        }
        name = metadata["name"]
        service = Service(
            name=name,
            namespace=metadata.get("namespace") or namespace,
            selector=spec["selector"]["matchLabels"],
            port=ports.get("grpc", next(reversed(ports.values()), 0)),
            deployment=name,
        )
        component = metadata.get("labels", {}).get("app.kubernetes.io/component", name)
        components[component] = Component(service=service, replicas=spec.get("replicas", 1))
    return components


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def _match_labels(manifest: Manifest, source: str) -> Mapping[str, str]:
    """Return what the pods are selected by, as Services can say it, too.

    :raises ServiceError: if it takes expressions, which a Service's selector has not
    """
    selector = manifest["spec"].get("selector") or {}
    labels: Mapping[str, str] = selector.get("matchLabels") or {}
    if not labels or selector.get("matchExpressions"):
        raise ServiceError(
            source,
            message=f"{_name(manifest)} selects its pods by {selector!r}",
            advice="it must have matchLabels and nothing else, for a Service has no expressions",
        )
    return labels


def _port_of(manifest: Manifest, source: str) -> int:
    ports = [
        port
        for container in manifest["spec"]["template"]["spec"]["containers"]
        for port in container.get("ports") or ()
    ]
    named = [port for port in ports if port.get("name") == "grpc"] or ports
    if len(named) != 1:
        told = ", ".join(f"{port.get('name', '')}:{port['containerPort']}" for port in ports)
        raise ServiceError(
            source,
            message=f"{_name(manifest)} needs one container port, or one named 'grpc'; "
            f"it has: {told or 'none'}",
            advice="say where its pods listen with --grpclb-service-port=N",
        )
    number: int = named[0]["containerPort"]
    return number


def _with_variables(container: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    if not environment:
        return container
    kept = [each for each in container.get("env") or () if each["name"] not in environment]
    added = [{"name": name, "value": value} for name, value in environment.items()]
    return {**container, "env": [*kept, *added]}
