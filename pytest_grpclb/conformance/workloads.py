"""What a cluster must do with Deployments and pods.

:source: Kubernetes documentation, "Deployments", "Pod Lifecycle", "EndpointSlices", "Volumes",
    "API-initiated Eviction"
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, PODS, Resource
from pytest_grpclb.clusters.pods.watch import PodWatch
from pytest_grpclb.conformance.subject import (
    CONFIG_MAPS,
    SLICES,
    Subject,
    condition,
    is_ready,
    uids,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "check_config_map_and_secret_volumes",
    "check_deleted_pod_is_replaced",
    "check_deployment_becomes_ready",
    "check_endpoint_slices_follow_readiness",
    "check_environment_by_field_reference",
    "check_evicted_pod_leaves_its_endpoints_first",
    "check_exiting_container_is_restarted_with_back_off",
    "check_failed_probes_say_what_was_not_reached",
    "check_logs",
    "check_rolling_restart_replaces_every_pod",
    "check_scale_up_and_down",
    "check_unknown_image_is_reported",
]

_SECRETS = Resource("v1", "secrets", namespaced=True)
_SERVICE_NAME = "kubernetes.io/service-name"


def check_deployment_becomes_ready(subject: Subject) -> None:
    """A Deployment's status catches up with its spec and says so by conditions."""
    pods = subject.install()
    replicas = subject.replicas

    def complete(deployments: dict[str, dict[str, Any]]) -> bool:
        status = deployments[subject.name].get("status", {})
        return bool(
            status.get("observedGeneration") == deployments[subject.name]["metadata"]["generation"]
            and status.get("readyReplicas") == status.get("updatedReplicas") == replicas
            and status.get("availableReplicas") == status.get("replicas") == replicas
        )

    found = subject.wait(DEPLOYMENTS, complete, "a complete Deployment")[subject.name]
    assert condition(found, "Available") == "True"
    assert condition(found, "Progressing") == "True"
    for pod in pods.values():
        [owner] = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["controller"]) == ("ReplicaSet", True)
        assert pod["status"]["podIP"]
        assert pod["spec"]["nodeName"]


def check_scale_up_and_down(subject: Subject) -> None:
    """Scaling makes pods beside those that there are, and takes them away again."""
    before = subject.install()
    subject.scale(subject.replicas + 2)
    assert uids(before) < uids(subject.settle(subject.replicas + 2))
    subject.scale(1)
    assert len(subject.settle(1)) == 1
    subject.scale(0)
    assert subject.settle(0) == {}


def check_deleted_pod_is_replaced(subject: Subject) -> None:
    """For a pod that is deleted another is made, with a UID of its own."""
    before = subject.install()
    name, pod = next(iter(before.items()))
    subject.api.delete(PODS, subject.namespace, name, grace_s=0)
    uid = pod["metadata"]["uid"]
    subject.wait(
        PODS,
        lambda pods: uid not in uids(pods) and sum(map(is_ready, pods.values())) == len(before),
        f"another pod in place of {name}",
        selector=subject.selector,
    )


def check_rolling_restart_replaces_every_pod(subject: Subject) -> None:
    """A changed template replaces every pod, with never fewer ready than the strategy allows."""
    before = uids(subject.install())
    labels = subject.deployment["spec"]["selector"]["matchLabels"]
    watch = PodWatch(subject.api, subject.namespace, labels)
    fewest = [subject.replicas]

    def replaced(pods: tuple[Any, ...]) -> bool:
        fewest.append(sum(pod.serves for pod in pods))
        fresh = [pod for pod in pods if pod.uid not in before]
        return len(fresh) == len(pods) == subject.replicas and all(pod.ready for pod in pods)

    try:
        assert watch.wait_for(lambda pods: len(pods) == subject.replicas, timeout_s=10)
        fewest.clear()
        annotations = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
        template = {"metadata": {"annotations": annotations}}
        subject.patch(DEPLOYMENTS, subject.name, {"spec": {"template": template}})
        assert watch.wait_for(replaced, timeout_s=subject.timeout_s), subject.settle(0)
    finally:
        watch.close()
    assert min(fewest) >= subject.replicas  # the sample's maxUnavailable is 0


def check_endpoint_slices_follow_readiness(subject: Subject) -> None:
    """A Service's endpoints name its pods by UID; only ready pods are ready endpoints."""
    pods = subject.install()
    service = subject.service["metadata"]["name"]

    def ready(slices: dict[str, dict[str, Any]]) -> set[str]:
        return {
            endpoint["targetRef"]["uid"]
            for endpoint in _endpoints(slices, service)
            if endpoint["conditions"].get("ready")
        }

    subject.wait(SLICES, lambda slices: ready(slices) == uids(pods), "the pods as endpoints")
    # One more pod, with the labels of the others, that runs and never gets ready.
    probe = {"tcpSocket": {"port": 1}, "periodSeconds": 1}
    container = {
        "command": ["python", "-c", "import signal; signal.pause()"],
        "ports": [{"name": "grpc", "containerPort": 50051}],
        "readinessProbe": probe,
    }
    labels = subject.deployment["spec"]["selector"]["matchLabels"]
    made = subject.pod("never-ready", container, labels=labels)
    uid = made["metadata"]["uid"]
    found = subject.wait(
        SLICES,
        lambda slices: uid in _states(slices, service),
        "the pod that is not ready among the endpoints",
    )
    assert _states(found, service)[uid] is False
    assert ready(found) >= uids(pods) - {uid}


def check_evicted_pod_leaves_its_endpoints_first(subject: Subject) -> None:
    """A pod that is to go is no ready endpoint any more while it has its grace, then it is gone."""
    pods = subject.install()
    service = subject.service["metadata"]["name"]
    subject.wait(
        SLICES,
        lambda slices: set(_states(slices, service)) == uids(pods),
        "the pods as endpoints",
    )
    name, pod = next(iter(pods.items()))
    uid = pod["metadata"]["uid"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name},
        "deleteOptions": {"gracePeriodSeconds": 20},
    }
    path = PODS.path(subject.namespace, name, "eviction")
    subject.api.request("POST", path, body=eviction)
    going = subject.api.get(PODS, subject.namespace, name)["metadata"]
    assert (going["uid"], going["deletionGracePeriodSeconds"]) == (uid, 20)
    subject.wait(
        SLICES,
        lambda slices: _states(slices, service).get(uid) is not True,
        f"{name} to be no ready endpoint",
    )
    gone = subject.wait(PODS, lambda pods: uid not in uids(pods), f"{name} to be gone")
    assert uid not in uids(gone)


def check_environment_by_field_reference(subject: Subject) -> None:
    """Variables take their values from the pod itself, from a config map and from a secret."""
    subject.create(CONFIG_MAPS, _data("ConfigMap", "settings", {"colour": "blue"}))
    subject.create(_SECRETS, _data("Secret", "keys", {"word": "sesame"}))
    env: list[dict[str, Any]] = [
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in {
                "NAME": "metadata.name",
                "NAMESPACE": "metadata.namespace",
                "UID": "metadata.uid",
                "IP": "status.podIP",
                "LABEL": "metadata.labels['app']",
            }.items()
        ),
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "word"}}},
        {"name": "BOTH", "value": "$(COLOUR)-$(WORD)-$$(COLOUR)"},
    ]
    names = [entry["name"] for entry in env]
    code = f"import json, os; print(json.dumps({{n: os.environ.get(n) for n in {names!r}}}))"
    [line] = subject.output("environment", code, container={"env": env}, labels={"app": "env"})
    pod = subject.api.get(PODS, subject.namespace, "environment")
    assert json.loads(line) == {
        "NAME": "environment",
        "NAMESPACE": subject.namespace,
        "UID": pod["metadata"]["uid"],
        "IP": pod["status"]["podIP"],
        "LABEL": "env",
        "COLOUR": "blue",
        "WORD": "sesame",
        "BOTH": "blue-sesame-$(COLOUR)",
    }


def check_config_map_and_secret_volumes(subject: Subject) -> None:
    """Config maps and secrets are there as files where they are mounted."""
    subject.create(CONFIG_MAPS, _data("ConfigMap", "files", {"a.txt": "one", "b.txt": "two"}))
    subject.create(_SECRETS, _data("Secret", "keys", {"key": "sesame"}))
    code = (
        "import json, pathlib, sys\n"
        "for d in map(pathlib.Path, sys.argv[1:]):\n"
        "    files = sorted(p for p in d.iterdir() if not p.name.startswith('..'))\n"
        "    print(json.dumps({p.name: p.read_text() for p in files}))"
    )
    volumes = [
        {"name": "files", "configMap": {"name": "files"}},
        {"name": "keys", "secret": {"secretName": "keys"}},
    ]
    mounts = [
        {"name": "files", "mountPath": "/mnt/files", "readOnly": True},
        {"name": "keys", "mountPath": "/mnt/keys", "readOnly": True},
    ]
    lines = subject.output(
        "volumes",
        code,
        "/mnt/files",
        "/mnt/keys",
        volumes=volumes,
        container={"volumeMounts": mounts},
    )
    assert [json.loads(line) for line in lines] == [
        {"a.txt": "one", "b.txt": "two"},
        {"key": "sesame"},
    ]


def check_logs(subject: Subject) -> None:
    """A container's output, all of it or its last lines."""
    code = "for n in range(5): print('line', n, flush=True)"
    assert subject.output("speaks", code) == [f"line {number}" for number in range(5)]
    assert subject.api.logs(subject.namespace, "speaks", lines=2) == "line 3\nline 4\n"


def check_exiting_container_is_restarted_with_back_off(subject: Subject) -> None:
    """A container that keeps ending is started again, later each time, and the pod says so."""
    code = "import sys; print('no database'); sys.exit(3)"
    subject.pod("fails", {"command": ["python", "-c", code]})

    def status(pods: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any]
        [found] = pods["fails"].get("status", {}).get("containerStatuses") or [{}]
        return found

    def waits(pods: dict[str, dict[str, Any]]) -> bool:
        reason = status(pods).get("state", {}).get("waiting", {}).get("reason")
        return reason == "CrashLoopBackOff" and bool(status(pods)["restartCount"])

    found = status(subject.wait(PODS, waits, "CrashLoopBackOff"))
    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert found["ready"] is False
    assert "back-off" in found["state"]["waiting"]["message"]
    assert subject.event("fails", "BackOff")["type"] == "Warning"
    assert subject.api.logs(subject.namespace, "fails", lines=1) == "no database\n"


def check_unknown_image_is_reported(subject: Subject) -> None:
    """A pod whose image cannot be had does not start, and says which image."""
    image = "registry.invalid/no/such-image:1"
    subject.pod("unknown-image", {"image": image})

    def reported(pods: dict[str, dict[str, Any]]) -> bool:
        [found] = pods["unknown-image"].get("status", {}).get("containerStatuses") or [{}]
        reason = found.get("state", {}).get("waiting", {}).get("reason")
        return reason in {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"}

    subject.wait(PODS, reported, "the image to be reported")
    assert subject.event("unknown-image", "Failed", saying=image)["type"] == "Warning"


def check_failed_probes_say_what_was_not_reached(subject: Subject) -> None:
    """The events of a probe of a port that nothing listens on name it, in the kubelet's words.

    :source: Kubernetes, ``pkg/probe`` (grpc, tcp, http)
    """
    probes: dict[str, dict[str, Any]] = {
        "grpc": {"grpc": {"port": 50051}},
        "tcp": {"tcpSocket": {"port": 50051}},
        "http": {"httpGet": {"port": 50051}},
    }
    command = ["python", "-c", "import threading; threading.Event().wait()"]
    for name, probe in probes.items():
        readiness = {**probe, "periodSeconds": 1}
        subject.pod(f"{name}-probed", {"command": command, "readinessProbe": readiness})
    failed = {name: subject.event(f"{name}-probed", "Unhealthy") for name in probes}
    for name, event in failed.items():
        pod = subject.api.get(PODS, subject.namespace, f"{name}-probed")
        address = pod["status"]["podIP"]
        place = f"[{address}]:50051" if ":" in address else f"{address}:50051"
        dialled = f"dial tcp {place}: connect: connection refused"
        assert (
            event["message"]
            == "Readiness probe failed: "
            + {
                "grpc": f'timeout: failed to connect service "{place}" within 1s: '
                "context deadline exceeded",
                "tcp": dialled,
                "http": f'Get "http://{place}/": {dialled}',
            }[name]
        )


def _data(kind: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    key = "stringData" if kind == "Secret" else "data"
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, key: dict(data)}


def _endpoints(slices: Mapping[str, Mapping[str, Any]], service: str) -> Iterator[dict[str, Any]]:
    for each in slices.values():
        if each["metadata"].get("labels", {}).get(_SERVICE_NAME) == service:
            yield from each.get("endpoints") or ()


def _states(slices: Mapping[str, Mapping[str, Any]], service: str) -> dict[str, bool]:
    """Return by pod UID whether the endpoint is ready."""
    return {
        endpoint["targetRef"]["uid"]: bool(endpoint["conditions"].get("ready"))
        for endpoint in _endpoints(slices, service)
    }
