"""What ``kubectl get`` prints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.api.pod_summary import pod_restarts, pod_status
from pytest_grpclb.clusters.embedded.api.tables import age, table

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
Json = dict[str, Any]


def cells(kind: str, obj: Json) -> dict[str, Any]:
    born = "2026-01-31T11:55:00Z"
    metadata = {"name": "x", "creationTimestamp": born, **obj.get("metadata", {})}
    shown = table(kind, [{**obj, "metadata": metadata}], NOW)
    names = [column["name"] for column in shown["columnDefinitions"]]
    return dict(zip(names, shown["rows"][0]["cells"], strict=True))


def pod(statuses: list[Json], *, containers: int = 1, **status: Any) -> Json:
    return {
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": f"c{n}"} for n in range(containers)]},
        "status": {"containerStatuses": statuses, **status},
    }


@pytest.mark.parametrize(
    ("seconds", "told"),
    [  # apimachinery, pkg/util/duration, HumanDuration
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 600, "3h10m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (400 * 86400, "400d"),
    ],
)
def test_ages(seconds: int, told: str) -> None:
    since = (NOW - timedelta(seconds=seconds)).isoformat()
    assert age(since, NOW) == told


def test_an_unknown_age() -> None:
    assert age(None, NOW) == "<unknown>"


def state(**state: Any) -> Json:
    return {"name": "c", "state": state}


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (pod([], phase="Pending"), "Pending"),
        (
            pod([state(waiting={"reason": "ContainerCreating"})], phase="Pending"),
            "ContainerCreating",
        ),
        (pod([state(running={})], phase="Running"), "Running"),
        (pod([state(waiting={"reason": "CrashLoopBackOff"})], phase="Running"), "CrashLoopBackOff"),
        (pod([state(terminated={"reason": "Error", "exitCode": 1})], phase="Failed"), "Error"),
        (pod([state(terminated={"exitCode": 3})], phase="Failed"), "ExitCode:3"),
        (pod([state(terminated={"exitCode": 137, "signal": 9})], phase="Failed"), "Signal:9"),
        (pod([], phase="Failed", reason="Evicted"), "Evicted"),
        (
            pod(
                [
                    state(terminated={"reason": "Completed", "exitCode": 0}),
                    {**state(running={}), "ready": True},
                ],
                containers=2,
                phase="Running",
            ),
            "Running",
        ),
        ({**pod([], phase="Running"), "metadata": {"deletionTimestamp": "x"}}, "Terminating"),
    ],
)
def test_the_status_of_pods(obj: Json, told: str) -> None:
    assert pod_status(obj) == told


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ({"running": {}}, "Init:0/2"),
        ({"terminated": {"exitCode": 0}}, "Init:1/2"),
        ({"terminated": {"exitCode": 1, "reason": "Error"}}, "Init:Error"),
        ({"waiting": {"reason": "PodInitializing"}}, "Init:0/2"),
        ({"waiting": {"reason": "ErrImagePull"}}, "Init:ErrImagePull"),
    ],
)
def test_the_status_of_pods_that_initialise(first: Json, told: str) -> None:
    obj = pod([], phase="Pending")
    obj["spec"]["initContainers"] = [{"name": "a"}, {"name": "b"}]
    second = {"name": "b", "state": {"waiting": {"reason": "PodInitializing"}}}
    obj["status"]["initContainerStatuses"] = [{"name": "a", "state": first}, second]
    assert pod_status(obj) == told


def test_pods() -> None:
    ended = {"terminated": {"finishedAt": "2026-01-31T11:59:50Z"}}
    statuses = [
        {
            "name": "c0",
            "ready": True,
            "restartCount": 2,
            "state": {"running": {}},
            "lastState": ended,
        },
        {"name": "c1", "ready": False, "restartCount": 0, "state": {"running": {}}},
    ]
    obj = pod(statuses, containers=2, phase="Running", podIP="127.9.1.2")
    obj["spec"]["nodeName"] = "node"
    assert pod_restarts(obj) == (2, "2026-01-31T11:59:50Z")
    assert cells("pods", obj) == {
        "Name": "x",
        "Ready": "1/2",
        "Status": "Running",
        "Restarts": "2 (10s ago)",
        "Age": "5m",
        "IP": "127.9.1.2",
        "Node": "node",
        "Nominated Node": "<none>",
        "Readiness Gates": "<none>",
    }


WORKLOAD: Json = {
    "replicas": 3,
    "selector": {"matchLabels": {"app": "web"}},
    "template": {
        "spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]}
    },
}


@pytest.mark.parametrize(
    ("kind", "obj", "told"),
    [
        (
            "deployments.apps",
            {"spec": WORKLOAD, "status": {"readyReplicas": 1, "updatedReplicas": 2}},
            {
                "Name": "x",
                "Ready": "1/3",
                "Up-to-date": 2,
                "Available": 0,
                "Age": "5m",
                "Containers": "a,b",
                "Images": "a:1,b:2",
                "Selector": "app=web",
            },
        ),
        (
            "replicasets.apps",
            {"spec": WORKLOAD, "status": {"replicas": 3, "readyReplicas": 1}},
            {
                "Name": "x",
                "Desired": 3,
                "Current": 3,
                "Ready": 1,
                "Age": "5m",
                "Containers": "a,b",
                "Images": "a:1,b:2",
                "Selector": "app=web",
            },
        ),
        (
            "services",
            {
                "spec": {
                    "type": "NodePort",
                    "clusterIP": "None",
                    "ports": [
                        {"port": 80, "nodePort": 30000, "protocol": "TCP"},
                        {"port": 53, "protocol": "UDP"},
                    ],
                }
            },
            {
                "Name": "x",
                "Type": "NodePort",
                "Cluster-IP": "None",
                "External-IP": "<none>",
                "Port(s)": "80:30000/TCP,53/UDP",
                "Age": "5m",
                "Selector": "<none>",
            },
        ),
        (
            "endpointslices.discovery.k8s.io",
            {
                "addressType": "IPv4",
                "ports": [{"port": 50051}],
                "endpoints": [{"addresses": [f"127.9.1.{n}"]} for n in range(1, 6)],
            },
            {
                "Name": "x",
                "AddressType": "IPv4",
                "Ports": "50051",
                "Endpoints": "127.9.1.1,127.9.1.2,127.9.1.3 + 2 more...",
                "Age": "5m",
            },
        ),
        (
            "endpointslices.discovery.k8s.io",
            {"addressType": "IPv4"},
            {
                "Name": "x",
                "AddressType": "IPv4",
                "Ports": "<unset>",
                "Endpoints": "<unset>",
                "Age": "5m",
            },
        ),
        (
            "nodes",
            {
                "metadata": {"labels": {"node-role.kubernetes.io/worker": ""}},
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "127.9.0.2"}],
                    "nodeInfo": {"kubeletVersion": "v1"},
                },
            },
            {
                "Name": "x",
                "Status": "Ready,SchedulingDisabled",
                "Roles": "worker",
                "Age": "5m",
                "Version": "v1",
                "Internal-IP": "127.9.0.2",
            },
        ),
        (
            "events",
            {
                "involvedObject": {"kind": "Pod", "name": "a", "fieldPath": "spec.containers{c}"},
                "type": "Warning",
                "reason": "Unhealthy",
                "message": "probe failed\n",
                "count": 3,
                "firstTimestamp": "2026-01-31T11:00:00Z",
                "lastTimestamp": "2026-01-31T11:59:00Z",
                "source": {"component": "kubelet", "host": "node"},
            },
            {
                "Last Seen": "60s",
                "Type": "Warning",
                "Reason": "Unhealthy",
                "Object": "pod/a",
                "Subobject": "spec.containers{c}",
                "Source": "kubelet, node",
                "Message": "probe failed",
                "First Seen": "60m",
                "Count": 3,
                "Name": "x",
            },
        ),
        (
            "ingresses.networking.k8s.io",
            {
                "spec": {"ingressClassName": "nginx", "rules": [{"host": "a.b"}], "tls": [{}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "127.9.0.3"}]}},
            },
            {
                "Name": "x",
                "Class": "nginx",
                "Hosts": "a.b",
                "Address": "127.9.0.3",
                "Ports": "80, 443",
                "Age": "5m",
            },
        ),
        (
            "ingresses.networking.k8s.io",
            {"spec": {}},
            {
                "Name": "x",
                "Class": "<none>",
                "Hosts": "*",
                "Address": "",
                "Ports": "80",
                "Age": "5m",
            },
        ),
        (
            "ingressclasses.networking.k8s.io",
            {"spec": {"controller": "k8s.io/nginx"}},
            {"Name": "x", "Controller": "k8s.io/nginx", "Parameters": "<none>", "Age": "5m"},
        ),
        (
            "namespaces",
            {"status": {"phase": "Active"}},
            {"Name": "x", "Status": "Active", "Age": "5m"},
        ),
        (
            "configmaps",
            {"data": {"a": "b"}, "binaryData": {"c": ""}},
            {"Name": "x", "Data": 2, "Age": "5m"},
        ),
        (
            "secrets",
            {"type": "Opaque", "data": {"a": ""}},
            {"Name": "x", "Type": "Opaque", "Data": 1, "Age": "5m"},
        ),
        ("serviceaccounts", {}, {"Name": "x", "Age": "5m"}),
        (
            "leases.coordination.k8s.io",
            {"spec": {"holderIdentity": "me"}},
            {"Name": "x", "Holder": "me", "Age": "5m"},
        ),
        (
            "roles.rbac.authorization.k8s.io",
            {},
            {"Name": "x", "Created At": "2026-01-31T11:55:00Z"},
        ),
        (
            "rolebindings.rbac.authorization.k8s.io",
            {"roleRef": {"kind": "Role", "name": "r"}},
            {"Name": "x", "Role": "Role/r", "Age": "5m"},
        ),
    ],
)
def test_rows(kind: str, obj: Json, told: dict[str, Any]) -> None:
    assert cells(kind, obj) == told
