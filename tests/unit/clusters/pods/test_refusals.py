"""What is said of pods that a cluster does not make, or finds no node for."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.pods.hints import Hint, hint_of
from pytest_grpclb.clusters.pods.refusals import refusals, unscheduled


def event(
    message: str,
    *,
    kind: str = "ReplicaSet",
    name: str = "shop-5d9",
    reason: str = "FailedCreate",
) -> dict[str, Any]:
    about = {"kind": kind, "name": name, "uid": "rs"}
    return {"reason": reason, "message": message, "involvedObject": about}


def forbidden(why: str) -> str:
    """Return what the controller says where admission refuses a pod."""
    return f'Error creating: pods "shop-5d9-x2x4z" is forbidden: {why}'


UNSAID = "failed quota: compute: must specify limits.cpu for: shop; requests.cpu for: shop"
EXCEEDED = "exceeded quota: compute, requested: pods=1, used: pods=2, limited: pods=2"
TOO_MUCH = "maximum memory usage per Container is 128Mi, but limit is 512Mi"
TOO_LITTLE = "[minimum cpu usage per Pod is 200m, but request is 100m]"
NOT_RESTRICTED = (
    'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "shop" '
    "must set securityContext.allowPrivilegeEscalation=false)"
)
NOT_IN_RANGE = (
    "unable to validate against any security context constraint: [provider restricted-v2: "
    ".containers[0].runAsUser: Invalid value: 65532: must be in the ranges: [1000680000, "
    "1000689999]]"
)
DENIED = 'admission webhook "validate.kyverno.svc-fail" denied the request: set the label team'
RESOURCES = "those of the plugin's own pods by --grpclb-pod-resources"
OWN = "in its own manifests or chart (--grpclb-manifests, --grpclb-chart)"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            forbidden(UNSAID),
            f"{UNSAID}; a ResourceQuota of the namespace wants every container to say what it "
            f"needs: set resources {OWN}, {RESOURCES}, or have whoever makes the namespaces give "
            "them a LimitRange with defaults",
        ),
        (
            forbidden(EXCEEDED),
            f"{EXCEEDED}; a ResourceQuota of the namespace leaves no room for it: run fewer "
            "replicas (--grpclb-replicas), or have the quota raised",
        ),
        (
            forbidden(TOO_MUCH),
            f"{TOO_MUCH}; a LimitRange of the namespace does not allow its resources: set others "
            f"{OWN}, {RESOURCES}, or have the range changed",
        ),
        (
            forbidden(TOO_LITTLE),
            f"{TOO_LITTLE}; a LimitRange of the namespace does not allow its resources: set others "
            f"{OWN}, {RESOURCES}, or have the range changed",
        ),
        (
            forbidden(NOT_RESTRICTED),
            f"{NOT_RESTRICTED}; Pod Security admission does not allow it: set the securityContext "
            f"that is named {OWN}, or have the namespace labelled "
            "pod-security.kubernetes.io/enforce=baseline; the plugin's own pods are as the "
            "restricted standard wants them",
        ),
        (
            forbidden(NOT_IN_RANGE),
            f"{NOT_IN_RANGE}; OpenShift does not allow the user that it asks for: have it choose "
            "one, for the plugin's own pods by --grpclb-run-as-user=none, for yours by leaving out "
            f"runAsUser {OWN}; or have a cluster administrator run `oc adm policy add-scc-to-group "
            "nonroot-v2 system:serviceaccounts`",
        ),
        (
            f"Error creating: {DENIED}",
            f"{DENIED}; a policy of the cluster does not allow it: do what it says, or have the "
            "namespaces of runs (label app.kubernetes.io/managed-by=pytest-grpclb) excepted",
        ),
        ("Error creating: Internal error", "Internal error"),
    ],
)
def test_what_the_cluster_refuses_is_told_with_what_to_do(message: str, told: str) -> None:
    [found] = refusals([event(message), event(message)], "shop")
    assert found == f"the cluster makes no pod for ReplicaSet 'shop-5d9': {told}"


def test_other_events_are_no_refusals() -> None:
    assert list(refusals([event("Created pod: x", reason="SuccessfulCreate")], "shop")) == []
    assert list(refusals([event(forbidden(UNSAID), kind="Job")], "shop")) == []


@pytest.mark.parametrize(
    ("kind", "name", "concerned"),
    [
        ("ReplicaSet", "shop-5d9", True),
        ("ReplicaSet", "shop-gateway-5d9", False),
        ("ReplicaSet", "shops-5d9", False),
        ("StatefulSet", "shop", True),
        ("StatefulSet", "shop-cache", False),
        ("Deployment", "shop", True),
    ],
)
def test_other_workloads_of_a_namespace_are_not_taken_for_this_one(
    kind: str, name: str, concerned: bool
) -> None:
    refused = event(forbidden(UNSAID), kind=kind, name=name)
    assert bool(list(refusals([refused], "shop"))) == concerned


def test_a_pod_without_a_node_says_what_its_scheduler_said() -> None:
    message = "0/3 nodes are available: 3 Insufficient cpu."
    waiting = {
        "metadata": {"name": "p", "uid": "u"},
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": message},
                {"type": "Ready", "status": "False"},
            ]
        },
    }
    placed = {
        "metadata": {"name": "q"},
        "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
    }
    told = (
        f"no node takes the pod 'p': {message}; make room, run fewer replicas "
        "(--grpclb-replicas), or raise --grpclb-ready-timeout where nodes are added on demand"
    )
    assert list(unscheduled([placed, waiting, waiting])) == [told]
    assert hint_of([waiting], []) == Hint(text=told, hopeless=False)


def test_pods_that_are_there_and_not_ready_come_before_those_that_are_not_made() -> None:
    crashed = {
        "metadata": {"uid": "u", "name": "p"},
        "status": {
            "containerStatuses": [
                {
                    "name": "main",
                    "ready": False,
                    "lastState": {"terminated": {"exitCode": 1}},
                    "restartCount": 1,
                }
            ]
        },
    }
    refused = event(forbidden(EXCEEDED))
    hint = hint_of([crashed], [refused], workload="shop")
    assert hint is not None
    assert hint.text.startswith("the process of the container 'main' ends by itself")
    hint = hint_of([], [refused], workload="shop")
    assert hint is not None
    assert hint.text.startswith("the cluster makes no pod for ReplicaSet 'shop-5d9': exceeded")
    assert not hint.hopeless
