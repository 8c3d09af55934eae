"""Backends that run already: a Service that somebody else has put into the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import PODS, REPLICASETS, SERVICES
from pytest_grpclb.clusters.pods.watch import pod_state, selector_text
from pytest_grpclb.errors import ApiError, ServiceError
from pytest_grpclb.model import Service
from pytest_grpclb.settings import Settings
from pytest_grpclb.sources.protocol import Backends

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.sources.choice import RunningService

__all__ = ["RunningSource"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_SOURCE = "--grpclb-service"
_CHANGES = "--grpclb-service-changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSource:
    """Where the backends come from: they are there. They are looked at, and left as they are."""

    running: RunningService

    def backends(self, api: KubeApi, settings: Settings, *, namespace: str) -> Backends:
        """Find the pods of the Service, and the workload that they belong to.

        :raises ServiceError: if there is no such Service, it has no pods, or the test asks for what
            cannot be had without a change
        :raises ApiError: if the cluster does not let the user read what it takes
        """
        del namespace
        running = self.running
        where = f"{running.namespace}/{running.name}"
        try:
            found = api.get(SERVICES, running.namespace, running.name)
        except ApiError as error:
            if error.status != 404:
                raise
            raise ServiceError(
                _SOURCE, message=f"there is no Service {where!r}", advice=_known(api, running)
            ) from error
        selector = found["spec"].get("selector") or {}
        if not selector:
            raise ServiceError(
                _SOURCE,
                message=f"the Service {where!r} has no selector",
                advice="name one that selects the pods which answer",
            )
        pods = api.list(PODS, running.namespace, selector=selector_text(selector))
        states = [pod_state(pod) for pod in pods]
        serving = [state for state in states if state.serves]
        if not serving:
            raise ServiceError(
                _SOURCE,
                message=f"none of the {len(pods)} pods of the Service {where!r} is ready",
                advice="the service must run before it is tested",
            )
        kind, workload = _workload(api, running.namespace, pods)
        self._check(settings, ready=len(serving), where=where, workload=workload)
        return Backends(
            service=Service(
                name=running.name,
                namespace=running.namespace,
                selector=selector,
                port=_target_port(found, running, serving[0].manifest),
                deployment=workload,
                kind=kind or "Deployment",
            ),
            replicas=settings.replicas if running.may_change else len(serving),
            borrowed=True,
            may_change=running.may_change,
        )

    def _check(self, settings: Settings, *, ready: int, where: str, workload: str) -> None:
        if settings.readiness_gate:
            raise ServiceError(
                _SOURCE,
                message="the test asks for a readiness gate, which a running service's pods "
                "cannot be given",
                advice="leave readiness_gate out of its marker, or use --grpclb-chart",
            )
        if self.running.may_change:
            if not workload:
                raise ServiceError(
                    _SOURCE,
                    message=f"the pods of {where!r} belong to no single Deployment or StatefulSet",
                    advice=f"it cannot be scaled: leave {_CHANGES} out",
                )
        elif settings.replicas not in {ready, Settings().replicas}:
            raise ServiceError(
                _SOURCE,
                message=f"the test asks for {settings.replicas} replicas, {where!r} has {ready} "
                "ready pods",
                advice=f"allow tests to scale it with {_CHANGES}, or ask for as many as there are",
            )


def _known(api: KubeApi, running: RunningService) -> str:
    names = [each["metadata"]["name"] for each in api.list(SERVICES, running.namespace)]
    return f"the namespace has: {', '.join(names) or 'none'}"


def _target_port(
    service: Mapping[str, Any], running: RunningService, pod: Mapping[str, Any]
) -> int:
    """Return where the pods listen: clients of most strategies reach them directly.

    :raises ServiceError: if the Service has no such port, or leads to none of the pod's
    """
    ports = service["spec"].get("ports") or ()
    found = [each for each in ports if running.port in {None, each["port"]}]
    told = ", ".join(f"{each.get('name', '')}:{each['port']}" for each in ports) or "none"
    where = f"{running.namespace}/{running.name}"
    if len(found) != 1:
        wanted = "one port" if running.port is None else f"port {running.port}"
        raise ServiceError(
            _SOURCE,
            message=f"the Service {where!r} should have {wanted}, it has: {told}",
            advice=f"say which with {_SOURCE}={where}:PORT",
        )
    target = found[0].get("targetPort") or found[0]["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                number: int = port["containerPort"]
                return number
    raise ServiceError(
        _SOURCE,
        message=f"the Service {where!r} leads to a port named {target!r}, which the pod "
        f"{pod['metadata']['name']!r} has not",
        advice="correct its targetPort",
    )


def _workload(api: KubeApi, namespace: str, pods: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return kind and name of what all the pods belong to; nothing if there is no such thing."""
    owners = {_owner(pod) for pod in pods}
    found = set()
    for kind, name in owners:
        if kind == "ReplicaSet":
            found.add(_owner(api.get(REPLICASETS, namespace, name)))
        else:
            found.add((kind, name))
    if len(found) != 1:
        return "", ""
    [(kind, name)] = found
    return (kind, name) if kind in {"Deployment", "StatefulSet"} else ("", "")


def _owner(obj: Mapping[str, Any]) -> tuple[str, str]:
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return owner["kind"], owner["name"]
    return "", ""
