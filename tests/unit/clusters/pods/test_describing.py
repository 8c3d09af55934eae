"""What people read when pods do not get ready: states as real clusters show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pytest_grpclb.clusters.pods.describing import describe_pods
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from pytest_grpclb.clusters.api.kube import KubeApi, Resource

UID = "11111111-1111-1111-1111-111111111111"


class Recorded:
    """An API that gives out what was recorded."""

    def __init__(
        self,
        *,
        pods: list[Any],
        events: list[Any],
        log: str | Exception | list[str] = "",
        policies: list[Any] | None = None,
    ) -> None:
        self.lists = {"pods": pods, "events": events}
        if policies is not None:
            self.lists["networkpolicies"] = policies
        self.log = log

    def list(self, where: Resource, _namespace: str, *, selector: str = "") -> list[Any]:
        assert selector == ("app=shop" if where.plural == "pods" else "")
        if where.plural not in self.lists:
            raise ApiError("GET", "/networkpolicies", status=404)
        return self.lists[where.plural]

    def logs(self, *_: object, **__: object) -> str:
        if isinstance(self.log, Exception):
            raise self.log
        return self.log.pop(0) if isinstance(self.log, list) else self.log


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "shop-1", "namespace": "test", "uid": UID}, "status": status}


def event(reason: str, message: str, *, kind: str = "Pod", name: str = "shop-1") -> dict[str, Any]:
    uid = UID if kind == "Pod" else "other"
    about = {"kind": kind, "name": name, "uid": uid}
    return {"type": "Warning", "reason": reason, "message": message, "involvedObject": about}


def told(*, each: bool = False, **recorded: Any) -> str:
    api = cast("KubeApi", Recorded(**recorded))
    return describe_pods(api, "test", {"app": "shop"}, each=each)


NO_LOG = ApiError("GET", "/log", status=400, reason="BadRequest")


def test_an_image_that_cannot_be_pulled() -> None:
    message = (
        'Back-off pulling image "shop/server:1": ErrImagePull: failed to resolve reference '
        '"docker.io/shop/server:1": not found'
    )
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    container = {"name": "server", "state": waiting, "ready": False, "restartCount": 0}
    assert told(
        pods=[pod(phase="Pending", containerStatuses=[container])],
        events=[event("Failed", "Error: ErrImagePull") | {"count": 3}],
        log=NO_LOG,
    ) == (
        "pod shop-1: Pending\n"
        f"  container server: waiting, ImagePullBackOff, {message}\n"
        "  Failed: Error: ErrImagePull (x3)"
    )


def test_a_pod_that_no_node_takes() -> None:
    message = "0/1 nodes are available: 1 Insufficient cpu."
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    assert told(
        pods=[pod(phase="Pending", conditions=[condition])],
        events=[event("FailedScheduling", message)],
    ) == (
        "pod shop-1: Pending\n"
        f"  not PodScheduled: Unschedulable: {message}\n"
        f"  FailedScheduling: {message}"
    )


def test_a_quota_that_is_exceeded() -> None:
    message = (
        'Error creating: pods "shop-6d" is forbidden: exceeded quota: team, '
        "requested: pods=1, used: pods=2, limited: pods=2"
    )
    failed = event("FailedCreate", message, kind="ReplicaSet", name="shop-6d")
    assert told(pods=[], events=[failed]) == (
        f"it has no pods\nReplicaSet shop-6d: FailedCreate: {message}"
    )


def test_a_webhook_that_refuses_one_pod_of_two() -> None:
    message = (
        'Error creating: admission webhook "policy.example.com" denied the request: '
        "label team is missing"
    )
    running = {"name": "server", "state": {"running": {}}, "ready": True}
    assert told(
        pods=[pod(phase="Running", containerStatuses=[running])],
        events=[event("FailedCreate", message, kind="ReplicaSet", name="shop-6d")],
    ) == (
        "pod shop-1: Running\n"
        "  container server: running\n"
        f"ReplicaSet shop-6d: FailedCreate: {message}"
    )


def test_a_container_that_keeps_ending_and_an_evicted_pod() -> None:
    back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
    container = {
        "name": "server",
        "state": back_off,
        "lastState": {"terminated": {"exitCode": 3}},
        "restartCount": 2,
    }
    assert told(
        pods=[pod(phase="Running", containerStatuses=[container])], events=[], log="no database\n"
    ) == (
        "pod shop-1: Running\n"
        "  container server: waiting, CrashLoopBackOff, back-off 10s restarting, "
        "last exit code 3, 2 restarts\n"
        "  log of server:\n"
        "    no database"
    )
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on memory.")
    assert told(pods=[evicted], events=[]) == (
        "pod shop-1: Failed: Evicted: The node was low on memory."
    )


def crashed(number: int, *, exit_code: int = 3, restarts: int = 2) -> dict[str, Any]:
    uid = f"{number:08}-2222-3333-4444-555555555555"
    message = f"back-off 10s restarting failed container=server pod=shop-{number}_test({uid})"
    container = {
        "name": "server",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": message}},
        "lastState": {"terminated": {"exitCode": exit_code}},
        "restartCount": restarts,
    }
    return {
        "metadata": {"name": f"shop-{number}", "namespace": "test", "uid": uid},
        "status": {
            "phase": "Running",
            "podIP": f"10.0.0.{number}",
            "containerStatuses": [container],
        },
    }


def refused(number: int, *, times: int = 1) -> dict[str, Any]:
    message = f"Startup probe failed: dial tcp 10.0.0.{number}:50051: connection refused"
    about = {"kind": "Pod", "uid": f"{number:08}-2222-3333-4444-555555555555"}
    return {"reason": "Unhealthy", "message": message, "involvedObject": about, "count": times}


def test_what_is_the_same_of_several_pods_is_told_once() -> None:
    shown = (
        "pod shop-1: Running\n"
        "  container server: waiting, CrashLoopBackOff, back-off 10s restarting failed "
        "container=server pod=shop-1_test(00000001-2222-3333-4444-555555555555), "
        "last exit code 3, 2 restarts\n"
        "  Unhealthy: Startup probe failed: dial tcp 10.0.0.1:50051: connection refused (x8)\n"
        "  log of server:\n"
        "    12:00:01 no database\n"
    )
    assert (
        told(
            pods=[crashed(1), crashed(2, restarts=3), crashed(11)],
            events=[refused(1, times=8), refused(2, times=7), refused(11)],
            log=["12:00:01 no database", "12:00:02 no database", "12:00:01 no database"],
        )
        == f"{shown}the same of shop-2, shop-11"
    )
    told_of_eight = told(
        pods=[crashed(number) for number in range(1, 9)],
        events=[refused(1, times=8), *(refused(number) for number in range(2, 9))],
        log="12:00:01 no database",
    )
    assert told_of_eight == f"{shown}the same of shop-2, shop-3, shop-4, shop-5, shop-6 and 2 more"


def test_a_file_is_told_all_of_each_pod() -> None:
    whole = told(each=True, pods=[crashed(1), crashed(2)], events=[], log="no database")
    assert whole.count("last exit code 3") == whole.count("    no database") == 2


def test_pods_that_fail_otherwise_are_told_of_each() -> None:
    by_code = told(pods=[crashed(1), crashed(2, exit_code=4)], events=[])
    assert by_code.count("last exit code") == 2
    by_log = told(pods=[crashed(1), crashed(2)], events=[], log=["no database", "no disk"])
    assert "no database" in by_log
    assert "no disk" in by_log
    by_events = told(pods=[crashed(1), crashed(2)], events=[refused(1)])
    assert by_events.count("pod shop-") == 2


def test_a_log_that_breaks_off() -> None:
    container = {"name": "server", "state": {"running": {}}, "ready": False}
    assert told(
        pods=[pod(phase="Running", containerStatuses=[container])],
        events=[],
        log=ConnectionError("reset"),
    ) == (
        "pod shop-1: Running\n"
        "  container server: running, not ready\n"
        "  log of server:\n"
        "    (cut off: reset)"
    )


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"podSelector": {}, **spec}}


def test_network_policies_are_told_with_what_they_leave() -> None:
    shop = {"matchLabels": {"app": "shop"}}
    some = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    hint = (
        "; calls, DNS and what asks the API need rules of their own, or the namespaces of runs "
        "(label app.kubernetes.io/managed-by=pytest-grpclb) an exception"
    )
    assert told(
        pods=[],
        events=[],
        policies=[
            policy("default-deny", policyTypes=["Ingress", "Egress"]),
            policy("old", podSelector=shop, ingress=[{}]),
            policy("out", podSelector=some, egress=[], ingress=[{}, {}]),
        ],
    ) == (
        "it has no pods\n"
        "NetworkPolicy default-deny isolates every pod, and allows no Ingress, no Egress"
        f"{hint}\n"
        "NetworkPolicy old isolates app=shop, and allows Ingress 1 rules\n"
        "NetworkPolicy out isolates some pods, and allows Ingress 2 rules, no Egress"
        f"{hint}"
    )


def test_of_a_namespace_with_others_in_it_only_some_is_told() -> None:
    others = pod(phase="Pending") | {
        "metadata": {"name": "bank-1", "namespace": "test", "uid": "of the bank"}
    }
    about = {"kind": "ReplicaSet", "name": "bank", "uid": "of the bank's"}
    refused = event("FailedCreate", "no quota") | {"involvedObject": about}
    policies = [
        {"metadata": {"name": name}, "spec": {"podSelector": {"matchLabels": labels}}}
        for name, labels in (("bank", {"app": "bank"}), ("all", {}))
    ]
    recorded = Recorded(pods=[pod(phase="Running"), others], events=[refused], policies=policies)
    assert describe_pods(cast("KubeApi", recorded), "test", {"app": "shop"}, only={UID}) == (
        "pod shop-1: Running\n"
        "NetworkPolicy all isolates some pods, and allows no Ingress; calls, DNS and what asks the "
        "API need rules of their own, or the namespaces of runs (label "
        "app.kubernetes.io/managed-by=pytest-grpclb) an exception"
    )
