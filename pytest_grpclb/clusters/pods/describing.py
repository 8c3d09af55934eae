"""What explains pods that do not get ready: their states, their events, their last log lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import EVENTS, PODS, KubeApi, Resource
from pytest_grpclb.clusters.pods.watch import selector_text
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

__all__ = ["describe_pods"]

_LAST_EVENTS = 5
_LOG_LINES = 10
_POLICIES = Resource("networking.k8s.io/v1", "networkpolicies", namespaced=True)
_TOLD_BY_CONTAINERS = frozenset({"Ready", "ContainersReady"})
"""Conditions that only sum up what the lines of the containers say."""


def describe_pods(
    api: KubeApi,
    namespace: str,
    selector: Mapping[str, str],
    *,
    only: Collection[str] | None = None,
) -> str:
    """Tell the state, events and log lines of the pods behind *selector*; never raises ApiError.

    Warnings about other objects of the namespace come last: why pods are missing that should be
    there (a quota, an admission webhook) is said of the ReplicaSet. So do network policies: what
    they forbid is never said by anybody, it only times out.

    :param only: UIDs of the objects that are anybody's business here; None: all are
    """
    try:
        pods = api.list(PODS, namespace, selector=selector_text(selector))
        events = api.list(EVENTS, namespace)
    except ApiError as error:
        return f"(its pods cannot be listed: {error})"
    if only is not None:
        pods = [pod for pod in pods if pod["metadata"]["uid"] in only]
        events = [event for event in events if event["involvedObject"].get("uid") in only]
    lines = [line for pod in pods for line in _pod(api, pod, events)] or ["it has no pods"]
    uids = {pod["metadata"]["uid"] for pod in pods}
    others = [
        event
        for event in events
        if event.get("type") == "Warning"
        and event["involvedObject"].get("kind") != "Pod"
        and event["involvedObject"].get("uid") not in uids
    ]
    for event in others[-_LAST_EVENTS:]:
        about = event["involvedObject"]
        lines.append(f"{about.get('kind', '')} {about.get('name', '')}: {_event(event)}")
    lines += _policies(api, namespace, None if only is None else pods)
    return "\n".join(lines)


def _policies(api: KubeApi, namespace: str, pods: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Tell of each network policy whom it isolates, and what it still lets through.

    :param pods: leave out those that isolate none of these by its labels; None: tell of all
    :source: Kubernetes documentation, "Network Policies"
    """
    try:
        policies = api.list(_POLICIES, namespace)
    except ApiError:  # the cluster has none, or this user may not know
        return []
    lines = []
    for policy in policies:
        spec = policy.get("spec", {})
        labels = (spec.get("podSelector") or {}).get("matchLabels") or {}
        if pods is not None and not any(
            labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in pods
        ):
            continue
        whom = selector_text(labels) if spec.get("podSelector") else "every pod"
        kinds = spec.get("policyTypes") or ("Ingress", *(["Egress"] if "egress" in spec else []))
        let = [
            f"{kind} {len(rules)} rules"
            if (rules := spec.get(kind.lower()) or ())
            else f"no {kind}"
            for kind in kinds
        ]
        hint = ""
        if any(each.startswith("no ") for each in let):
            hint = (
                "; calls, DNS and what asks the API need rules of their own, or the namespaces of "
                "runs (label app.kubernetes.io/managed-by=pytest-grpclb) an exception"
            )
        lines.append(
            f"NetworkPolicy {policy['metadata']['name']} isolates {whom or 'some pods'}, and "
            f"allows {', '.join(let)}{hint}"
        )
    return lines


def _pod(
    api: KubeApi, pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    yield f"pod {name}: {_words(status.get('phase', 'Pending'), status)}"
    for condition in status.get("conditions", ()):
        if (
            condition["status"] == "False"
            and condition.get("message")
            and condition["type"] not in _TOLD_BY_CONTAINERS
        ):
            yield f"  not {_words(condition['type'], condition)}"
    containers = [
        *status.get("initContainerStatuses", ()),
        *status.get("containerStatuses", ()),
    ]
    for container in containers:
        yield f"  container {container['name']}: {_container(container)}"
    uid = pod["metadata"]["uid"]
    concerning = [event for event in events if event["involvedObject"].get("uid") == uid]
    for event in concerning[-_LAST_EVENTS:]:
        yield f"  {_event(event)}"
    for container in containers:
        if status.get("phase") == "Running" and container.get("ready"):
            continue
        try:
            log = api.logs(
                pod["metadata"]["namespace"], name, container=container["name"], lines=_LOG_LINES
            ).rstrip()
        except ApiError:  # it has not started: there is none
            continue
        except ConnectionError as error:
            log = f"(cut off: {error})"
        if log:
            yield f"  log of {container['name']}:"
            yield from (f"    {line}" for line in log.splitlines())


def _container(status: Mapping[str, Any]) -> str:
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


def _words(first: str, told: Mapping[str, Any]) -> str:
    return ": ".join(word for word in (first, told.get("reason"), told.get("message")) if word)


def _event(event: Mapping[str, Any]) -> str:
    count = event.get("count") or 1
    times = f" (x{count})" if count > 1 else ""
    return f"{event.get('reason', '')}: {event.get('message', '')}{times}"
