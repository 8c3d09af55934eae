"""What explains pods that do not get ready: their states, their events, their last log lines."""

from __future__ import annotations

import re
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
_NAMED_ALIKE = 5
"""Pods that are named of those that are as one that is told of; a line should fit a screen."""
_TOLD_BY_CONTAINERS = frozenset({"Ready", "ContainersReady"})
"""Conditions that only sum up what the lines of the containers say."""


def describe_pods(
    api: KubeApi,
    namespace: str,
    selector: Mapping[str, str],
    *,
    only: Collection[str] | None = None,
    each: bool = False,
) -> str:
    """Tell the state, events and log lines of the pods behind *selector*; never raises ApiError.

    Pods fail alike, for they are made alike: what is the same of several is told once.
    Warnings about other objects of the namespace come last: why pods are missing that should be
    there (a quota, an admission webhook) is said of the ReplicaSet. So do network policies: what
    they forbid is never said by anybody, it only times out.

    :param only: UIDs of the objects that are anybody's business here; None: all are
    :param each: tell all of each pod, for files in which there is room
    """
    try:
        pods = api.list(PODS, namespace, selector=selector_text(selector))
        events = api.list(EVENTS, namespace)
    except ApiError as error:
        return f"(its pods cannot be listed: {error})"
    if only is not None:
        pods = [pod for pod in pods if pod["metadata"]["uid"] in only]
        events = [event for event in events if event["involvedObject"].get("uid") in only]
    lines = list(_pods(api, pods, events, each=each)) or ["it has no pods"]
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


def _pods(
    api: KubeApi,
    pods: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    *,
    each: bool,
) -> Iterator[str]:
    first: dict[str, list[str]] = {}
    alike: dict[str, list[str]] = {}
    for pod in pods:
        state, log = list(_state(pod, events)), list(_logs(api, pod))
        key = _without_own("\n".join(state), pod) + re.sub(r"\d+", "#", "\n".join(log))
        if key in first:
            alike[key].append(pod["metadata"]["name"])
        elif each:
            yield from (*state, *log)
        else:
            first[key], alike[key] = [*state, *log], []
    for key, lines in first.items():
        yield from lines
        if names := alike[key]:
            more = f" and {len(names) - _NAMED_ALIKE} more" if len(names) > _NAMED_ALIKE else ""
            yield f"the same of {', '.join(names[:_NAMED_ALIKE])}{more}"


def _without_own(text: str, pod: Mapping[str, Any]) -> str:
    """Return what is told of a pod without what no two pods have in common: names and counts."""
    status = pod.get("status", {})
    own = (pod["metadata"]["name"], pod["metadata"]["uid"], status.get("podIP"))
    for each in filter(None, own):
        text = re.sub(rf"{re.escape(each)}(?![0-9a-z])", "*", text)
    return re.sub(r" \(x\d+\)|\b\d+ restarts", "", text)


def _state(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    yield f"pod {name}: {_words(status.get('phase', 'Pending'), status)}"
    for condition in status.get("conditions", ()):
        if (
            condition["status"] == "False"
            and condition.get("message")
            and condition["type"] not in _TOLD_BY_CONTAINERS
        ):
            yield f"  not {_words(condition['type'], condition)}"
    for container in _containers(status):
        yield f"  container {container['name']}: {_container(container)}"
    uid = pod["metadata"]["uid"]
    concerning = [event for event in events if event["involvedObject"].get("uid") == uid]
    for event in concerning[-_LAST_EVENTS:]:
        yield f"  {_event(event)}"


def _logs(api: KubeApi, pod: Mapping[str, Any]) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in _containers(status):
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


def _containers(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from status.get("initContainerStatuses", ())
    yield from status.get("containerStatuses", ())


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
