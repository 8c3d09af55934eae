"""A handle on what runs: the backends of one service, changed and observed through the API."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.kube import DEPLOYMENTS, EVENTS, NAMESPACES, KubeApi
from pytest_grpclb.clusters.pods import PodState, PodWatch, selector_text
from pytest_grpclb.errors import ApiError, ChartError, NotReadyError
from pytest_grpclb.model import Backend, EventKind, Manifest, Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "Component",
    "Deployment",
    "components_of",
    "describe_pod",
    "service_of",
    "temporary_namespace",
]

MANAGED_BY = "app.kubernetes.io/managed-by"
RUN_LABEL = "pytest-grpclb/run"
_HOPELESS = frozenset({"ErrImageNeverPull", "InvalidImageName"})
"""Reasons of waiting containers that no time mends; others may pass: they get the whole timeout."""


@contextmanager
def temporary_namespace(api: KubeApi, name: str, *, run: str) -> Iterator[str]:
    """Create a namespace that carries the run's label, and delete it afterwards without waiting.

    :raises ApiError: if it exists already or may not be created
    """
    labels = {MANAGED_BY: "pytest-grpclb", RUN_LABEL: run}
    metadata = {"name": name, "labels": labels}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    try:
        api.request("POST", NAMESPACES.path(), body=manifest)
        yield name
    finally:
        # Also when creating was interrupted: the API may have done it.
        api.delete(NAMESPACES, "", name)


def service_of(manifests: Sequence[Manifest], *, namespace: str, chart: str) -> Service:
    """Find the one Deployment among *manifests* and describe it as a service under test.

    The port is the container port named "grpc", or the only one there is.

    :raises ChartError: if there is no Deployment or more than one, or the port is not clear
    """
    found = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
    if len(found) != 1:
        names = ", ".join(repr(each["metadata"]["name"]) for each in found) or "none"
        raise ChartError(chart, message=f"one Deployment is needed, it has {len(found)}: {names}")
    spec = found[0]["spec"]
    ports = [
        port
        for container in spec["template"]["spec"]["containers"]
        for port in container.get("ports", ())
    ]
    named = [port for port in ports if port.get("name") == "grpc"] or ports
    if len(named) != 1:
        told = ", ".join(f"{port.get('name', '')}:{port['containerPort']}" for port in ports)
        raise ChartError(
            chart, message=f"one container port named 'grpc' is needed, it has: {told or 'none'}"
        )
    name = found[0]["metadata"]["name"]
    return Service(
        name=name,
        namespace=found[0]["metadata"].get("namespace") or namespace,
        selector=spec["selector"]["matchLabels"],
        port=named[0]["containerPort"],
        deployment=name,
    )


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


class Deployment:
    """The pods of one Kubernetes Deployment: wait for them, scale, kill and restart them."""

    def __init__(self, api: KubeApi, service: Service, *, ready_timeout_s: float) -> None:
        self._api, self.service, self._ready_timeout_s = api, service, ready_timeout_s
        self.watch = PodWatch(api, service.namespace, service.selector)

    def close(self) -> None:
        """Stop watching; what runs goes on."""
        self.watch.close()

    def serving(self) -> tuple[PodState, ...]:
        """Return the pods that new calls should go to."""
        return tuple(pod for pod in self.watch.pods() if pod.serves)

    def backends(self) -> tuple[Backend, ...]:
        """Return the pods that are ready now, in order of readiness."""
        return tuple(each for each in self.watch.backends() if each.removed_at_s is None)

    def wait_ready(self, replicas: int, *, without: frozenset[str] = frozenset()) -> None:
        """Wait until exactly *replicas* pods are ready and no other is left but terminating ones.

        :param without: UIDs of pods that must have gone
        :raises NotReadyError: after the ready timeout, or as soon as waiting is hopeless; with the
            pods' states, their last events and log lines
        """

        def done(pods: tuple[PodState, ...]) -> bool:
            staying = [pod for pod in pods if not pod.terminating]
            if any(_hopeless(pod) for pod in staying):
                return True
            uids = {pod.uid for pod in staying}
            return (
                len(staying) == replicas
                and all(pod.ready for pod in staying)
                and not uids & without
            )

        began_s = time.monotonic()
        in_time = self.watch.wait_for(done, timeout_s=self._ready_timeout_s)
        pods = self.watch.pods()
        if in_time and not any(_hopeless(pod) for pod in pods):
            return
        waited_s = self._ready_timeout_s if not in_time else time.monotonic() - began_s
        raise NotReadyError(
            self.service.deployment,
            ready=sum(pod.serves for pod in pods),
            wanted=replicas,
            timeout_s=round(waited_s, 1),
            details=self.describe(),
        )

    def scale(self, replicas: int) -> None:
        """Set the number of replicas and wait until it is reached.

        :raises ValueError: if *replicas* is negative
        :raises NotReadyError: as `wait_ready`
        """
        if replicas < 0:
            raise ValueError(f"replicas must be 0 or more, got {replicas}")
        before = len(self.serving())
        self.watch.note(EventKind.SCALE, detail=f"{before} -> {replicas}")
        path = DEPLOYMENTS.path(self.service.namespace, self.service.deployment, "scale")
        self._api.request(
            "PATCH",
            path,
            body={"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
            repeatable=True,
        )
        self.wait_ready(replicas)

    def kill(self, name: str | None = None) -> Backend:
        """Delete one pod with no grace, and wait until its replacement is ready.

        :param name: the pod; the one that has been ready longest if not given
        :return: the pod that was killed
        :raises ValueError: if no ready pod has that name
        :raises NotReadyError: as `wait_ready`
        """
        ready = self.backends()
        chosen = [backend for backend in ready if name in {None, backend.name}]
        if not chosen:
            names = ", ".join(backend.name for backend in ready) or "none"
            raise ValueError(f"no ready pod is called {name!r}; ready are: {names}")
        victim = chosen[0]
        self.watch.note(EventKind.KILL, backend=victim.uid)
        from pytest_grpclb.clusters.kube import PODS

        self._api.delete(PODS, self.service.namespace, victim.name, grace_s=0)
        self.wait_ready(len(ready), without=frozenset({victim.uid}))
        return victim

    def restart(self) -> None:
        """Replace every pod by a rolling update, as ``kubectl rollout restart`` does, and wait.

        :raises NotReadyError: as `wait_ready`
        """
        before = self.serving()
        self.watch.note(EventKind.RESTART)
        moment = datetime.now(UTC).isoformat(timespec="microseconds")
        annotations = {"kubectl.kubernetes.io/restartedAt": moment}
        self._api.request(
            "PATCH",
            DEPLOYMENTS.path(self.service.namespace, self.service.deployment),
            body={"spec": {"template": {"metadata": {"annotations": annotations}}}},
            content_type="application/merge-patch+json",
            repeatable=True,
        )
        self.wait_ready(len(before), without=frozenset(pod.uid for pod in before))

    def logs(self, pod: str, *, lines: int = 50) -> str:
        """Return the last *lines* that a pod has written.

        :raises ApiError: if there is no such pod
        """
        return self._api.logs(self.service.namespace, pod, lines=lines)

    def describe(self) -> str:
        """Tell every pod's state, its last events and log lines: what explains a failure."""
        return describe_pods(self._api, self.service.namespace, self.service.selector)


def describe_pods(api: KubeApi, namespace: str, selector: Mapping[str, str]) -> str:
    """Tell the state, events and log lines of the pods behind *selector*; never raises ApiError."""
    try:
        from pytest_grpclb.clusters.kube import PODS

        pods = api.list(PODS, namespace, selector=selector_text(selector))
        events = api.list(EVENTS, namespace)
    except ApiError as error:
        return f"(its pods cannot be listed: {error})"
    if not pods:
        told = [_event_line(event) for event in events[-5:]]
        return "\n".join(["it has no pods", *told])
    return "\n".join(describe_pod(api, pod, events) for pod in pods)


def describe_pod(api: KubeApi, pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """Tell one pod's containers, its last events and log lines."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    lines = [f"pod {name}: {pod.get('status', {}).get('phase', 'Pending')}"]
    statuses = pod.get("status", {}).get("containerStatuses", ())
    lines += [f"  container {status['name']}: {_container_line(status)}" for status in statuses]
    concerning = [
        event for event in events if event["involvedObject"].get("uid") == pod["metadata"]["uid"]
    ]
    lines += [f"  {_event_line(event)}" for event in concerning[-5:]]
    for status in statuses:
        if pod.get("status", {}).get("phase") == "Running" and status.get("ready"):
            continue
        try:
            log = api.logs(namespace, name, container=status["name"], lines=10).rstrip()
        except ApiError:
            continue
        except ConnectionError as error:
            log = f"(cut off: {error})"
        lines += [f"  log of {status['name']}:"] if log else []
        lines += [f"    {line}" for line in log.splitlines()]
    return "\n".join(lines)


def _container_line(status: Mapping[str, Any]) -> str:
    [(state, told)] = list(status.get("state", {}).items()) or [("unknown", {})]
    words = [state]
    if told.get("reason"):
        words.append(told["reason"])
    if "exitCode" in told:
        words.append(f"exit code {told['exitCode']}")
    if told.get("message"):
        words.append(told["message"])
    last = status.get("lastState", {}).get("terminated")
    if last:
        words.append(f"last exit code {last.get('exitCode')}")
    if status.get("restartCount"):
        words.append(f"{status['restartCount']} restarts")
    if state == "running" and not status.get("ready"):
        words.append("not ready")
    return ", ".join(words)


def _event_line(event: Mapping[str, Any]) -> str:
    count = event.get("count") or 1
    times = f" (x{count})" if count > 1 else ""
    return f"{event.get('reason', '')}: {event.get('message', '')}{times}"


def _hopeless(pod: PodState) -> bool:
    return any(
        status.get("state", {}).get("waiting", {}).get("reason") in _HOPELESS
        for status in pod.manifest.get("status", {}).get("containerStatuses", ())
    )
