"""Why a cluster makes no pods of a workload, or finds no node for them, and what to do. Pure.

:source: Kubernetes, ``plugin/pkg/admission`` (resourcequota, limitranger),
    ``staging/src/k8s.io/pod-security-admission``; OpenShift, "Managing SCCs"
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["refusals", "unscheduled"]

_MAKERS = frozenset({"ReplicaSet", "StatefulSet", "Deployment"})
_FORBIDDEN = re.compile(r"pods? \"[^\"]*\" is forbidden: (.*)", re.DOTALL)
_OWN = "in its own manifests or chart (--grpclb-manifests, --grpclb-chart)"
_RESOURCES = "those of the plugin's own pods by --grpclb-pod-resources"
_ADVICE = (
    (
        re.compile(r"failed quota: .*must specify"),
        "a ResourceQuota of the namespace wants every container to say what it needs: set "
        f"resources {_OWN}, {_RESOURCES}, or have whoever makes the namespaces give them a "
        "LimitRange with defaults",
    ),
    (
        re.compile("exceeded quota: "),
        "a ResourceQuota of the namespace leaves no room for it: run fewer replicas "
        "(--grpclb-replicas), or have the quota raised",
    ),
    (
        re.compile(r"(maximum|minimum) \S+ usage per (Container|Pod)|limit to request ratio"),
        f"a LimitRange of the namespace does not allow its resources: set others {_OWN}, "
        f"{_RESOURCES}, or have the range changed",
    ),
    (
        re.compile("violates PodSecurity"),
        "Pod Security admission does not allow it: set the securityContext that is named "
        f"{_OWN}, or have the namespace labelled pod-security.kubernetes.io/enforce=baseline; the "
        "plugin's own pods are as the restricted standard wants them",
    ),
    (
        re.compile("security context constraint"),
        "OpenShift does not allow the user that it asks for: have it choose one, for the plugin's "
        f"own pods by --grpclb-run-as-user=none, for yours by leaving out runAsUser {_OWN}; or "
        "have a cluster administrator run `oc adm policy add-scc-to-group nonroot-v2 "
        "system:serviceaccounts`",
    ),
    (
        re.compile("admission webhook .* denied the request"),
        "a policy of the cluster does not allow it: do what it says, or have the namespaces of "
        "runs (label app.kubernetes.io/managed-by=pytest-grpclb) excepted",
    ),
)


def refusals(events: Iterable[Mapping[str, Any]], workload: str) -> Iterator[str]:
    """Yield, for each reason that events tell, what it is and what to do.

    :param events: of a namespace, which may be others' as well
    :param workload: name of the Deployment or StatefulSet
    """
    seen = set()
    for event in events:
        about = event["involvedObject"]
        if event.get("reason") != "FailedCreate" or about.get("kind") not in _MAKERS:
            continue
        # A Deployment's ReplicaSets have its name and a hash.
        names = "-[a-z0-9]+" if about["kind"] == "ReplicaSet" else ""
        if not re.fullmatch(re.escape(workload) + names, about.get("name", "")):
            continue
        message = event.get("message", "").removeprefix("Error creating: ")
        found = _FORBIDDEN.search(message)
        why = found[1] if found else message
        if why not in seen:
            seen.add(why)
            advice = next((text for pattern, text in _ADVICE if pattern.search(message)), "")
            made = f"the cluster makes no pod for {about['kind']} {about.get('name', '')!r}: {why}"
            yield f"{made}; {advice}" if advice else made


def unscheduled(pods: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield why a pod has no node, as its scheduler says."""
    for pod in pods:
        for condition in pod.get("status", {}).get("conditions") or ():
            if (
                condition["type"] == "PodScheduled"
                and condition["status"] == "False"
                and condition.get("message")
            ):
                yield (
                    f"no node takes the pod {pod['metadata']['name']!r}: {condition['message']}; "
                    "make room, run fewer replicas (--grpclb-replicas), or raise "
                    "--grpclb-ready-timeout where nodes are added on demand"
                )
                return
