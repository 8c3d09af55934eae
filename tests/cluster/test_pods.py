"""What the embedded kubelet does with pods, seen through the API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.kube import EVENTS, PODS, KubeApi, Resource
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG_MAPS = Resource("v1", "configmaps", namespaced=True)
TIMEOUT_S = 20.0


class Pods:
    """The pods of one test."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def create(self, name: str, *containers: dict[str, Any], **spec: Any) -> None:
        named = [{"name": f"c{number}", **each} for number, each in enumerate(containers)]
        body = {"metadata": {"name": name}, "spec": {"containers": named, **spec}}
        self.api.request("POST", PODS.path(self.namespace), body=body)

    def get(self, name: str) -> dict[str, Any]:
        return self.api.get(PODS, self.namespace, name)

    def until(self, name: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition(pod := self.get(name)):
            assert time.monotonic() < deadline_s, pod["status"]
            time.sleep(0.01)
        return pod

    def until_gone(self, name: str) -> float:
        """Return how many seconds it took."""
        began_s = time.monotonic()
        while name in {pod["metadata"]["name"] for pod in self.api.list(PODS, self.namespace)}:
            assert time.monotonic() < began_s + TIMEOUT_S
            time.sleep(0.01)
        return time.monotonic() - began_s

    def until_ready(self, name: str) -> dict[str, Any]:
        return self.until(name, is_ready)

    def until_ended(self, name: str) -> dict[str, Any]:
        return self.until(name, lambda pod: phase(pod) in {"Succeeded", "Failed"})

    def logs(self, name: str, container: str = "") -> str:
        return self.api.logs(self.namespace, name, container=container)

    def events(self, name: str) -> list[tuple[str, str]]:
        return [
            (event["reason"], event["message"])
            for event in self.api.list(EVENTS, self.namespace)
            if event["involvedObject"]["name"] == name
        ]


def phase(pod: dict[str, Any]) -> str:
    return str(pod["status"]["phase"])


def is_ready(pod: dict[str, Any]) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in pod["status"].get("conditions", ())
    )


def container(pod: dict[str, Any], number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = pod["status"]["containerStatuses"][number]
    return found


def waits_for(reason: str, number: int = 0) -> Callable[[dict[str, Any]], bool]:
    def check(pod: dict[str, Any]) -> bool:
        statuses = pod["status"].get("containerStatuses")
        return bool(statuses) and (
            statuses[number]["state"].get("waiting", {}).get("reason") == reason
        )

    return check


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"image": "shell", "args": ["-c", script], **more}


def greeter(**more: Any) -> dict[str, Any]:
    args = ["greeter", "--port=50051"]
    return {"image": "pytest-grpclb", "args": args, "ports": [{"containerPort": 50051}], **more}


@pytest.fixture
def pods(api: KubeApi, namespace: str) -> Pods:
    return Pods(api, namespace)


# --- ends and restarts


@pytest.mark.parametrize(
    ("script", "expected", "state"),
    [
        ("exit 0", "Succeeded", {"exitCode": 0, "reason": "Completed"}),
        ("exit 7", "Failed", {"exitCode": 7, "reason": "Error"}),
        ("kill -9 $$$$", "Failed", {"exitCode": 137, "reason": "Error", "signal": 9}),
    ],
)
def test_a_pod_that_runs_once_ends_as_its_container_did(
    pods: Pods, script: str, expected: str, state: dict[str, Any]
) -> None:
    pods.create("p", shell(script), restartPolicy="Never")
    pod = pods.until_ended("p")
    assert phase(pod) == expected
    assert container(pod)["state"]["terminated"].items() >= state.items()
    assert not is_ready(pod)


def test_a_crashing_container_is_restarted_at_once_and_then_backs_off(pods: Pods) -> None:
    pods.create("p", shell("echo here; exit 3"))
    pod = pods.until("p", waits_for("CrashLoopBackOff"))
    status = container(pod)
    uid = pod["metadata"]["uid"]
    assert status["restartCount"] == 2
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["state"]["waiting"]["message"] == (
        f"back-off 10s restarting failed container=c0 pod=p_{pods.namespace}({uid})"
    )
    assert phase(pod) == "Running"
    assert pods.logs("p") == "here\n"
    assert (
        "BackOff",
        f"Back-off restarting failed container c0 in pod p_{pods.namespace}({uid})",
    ) in pods.events("p")


def test_on_failure_a_success_is_the_end(pods: Pods) -> None:
    script = 'test -e "$GRPCLB_ROOT/again" && exit 0; touch "$GRPCLB_ROOT/again"; exit 1'
    pods.create("p", shell(script), restartPolicy="OnFailure")
    pod = pods.until_ended("p")
    assert (phase(pod), container(pod)["restartCount"]) == ("Succeeded", 1)


# --- what cannot be started


def test_an_unknown_image_waits_and_says_what_to_do(pods: Pods) -> None:
    pods.create("p", {"image": "redis:7"})
    pod = pods.until("p", waits_for("ErrImageNeverPull"))
    message = (
        "no command of this machine stands for the image 'redis:7', only for: pytest-grpclb, "
        "python, shell; map it with the ini option grpclb_embedded_images, or use "
        "--grpclb-cluster=kind"
    )
    assert container(pod)["state"]["waiting"]["message"] == message
    assert ("Failed", f'Failed to pull image "redis:7": {message}') in pods.events("p")
    assert phase(pod) == "Pending"


def test_a_command_that_is_not_there_is_a_start_error(pods: Pods) -> None:
    pods.create("p", {"image": "shell", "command": ["no-such-command"]}, restartPolicy="Never")
    ended = container(pods.until_ended("p"))["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert ended["message"] == 'exec "no-such-command": executable file not found in $PATH'


def test_a_container_waits_for_its_config_map(pods: Pods) -> None:
    source = {"configMapKeyRef": {"name": "settings", "key": "level"}}
    pods.create(
        "p",
        shell("echo $LEVEL", env=[{"name": "LEVEL", "valueFrom": source}]),
        restartPolicy="Never",
    )
    pod = pods.until("p", waits_for("CreateContainerConfigError"))
    assert container(pod)["state"]["waiting"]["message"] == 'configmap "settings" not found'
    body = {"metadata": {"name": "settings"}, "data": {"level": "7"}}
    pods.api.request("POST", CONFIG_MAPS.path(pods.namespace), body=body)
    pods.until_ended("p")
    assert pods.logs("p") == "7\n"


def test_a_pod_waits_for_its_volume(pods: Pods) -> None:
    pods.create(
        "p",
        shell("cat /etc/own/level", volumeMounts=[{"name": "v", "mountPath": "/etc/own"}]),
        restartPolicy="Never",
        volumes=[{"name": "v", "configMap": {"name": "settings"}}],
    )
    told = ("FailedMount", 'MountVolume.SetUp failed: configmap "settings" not found')
    pods.until("p", lambda _: told in pods.events("p"))
    body = {"metadata": {"name": "settings"}, "data": {"level": "7"}}
    pods.api.request("POST", CONFIG_MAPS.path(pods.namespace), body=body)
    pods.until_ended("p")
    assert pods.logs("p") == "7"


def test_no_node_has_the_labels_that_a_pod_selects(pods: Pods) -> None:
    pods.create("p", greeter(), nodeSelector={"disk": "fast"})
    message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    assert ("FailedScheduling", message) in pods.events("p")
    assert phase(pods.get("p")) == "Pending"
    pods.api.delete(PODS, pods.namespace, "p")
    pods.until_gone("p")


# --- what a container is given


def test_a_container_knows_its_pod_and_cluster(pods: Pods) -> None:
    env = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "GREETING", "value": "hello $(IP)"},
    ]
    script = (
        'echo "$GREETING" "$GRPCLB_LISTEN_IP" "$HOSTNAME"; '
        'cat "$GRPCLB_SERVICEACCOUNT_DIR/namespace"; '
        "ls /var/run/secrets/kubernetes.io/serviceaccount/; "
        "env | cut -d= -f1 | sort | grep -E '^(KUBERNETES|GRPCLB)'"
    )
    pods.create("p", shell(script, env=env), restartPolicy="Never")
    pod = pods.until_ended("p")
    ip = pod["status"]["podIP"]
    assert pods.logs("p").splitlines() == [
        f"hello {ip} {ip} p",
        f"{pods.namespace}ca.crt",
        "namespace",
        "token",
        "GRPCLB_CLUSTER_DNS",
        "GRPCLB_LISTEN_IP",
        "GRPCLB_ROOT",
        "GRPCLB_SERVICEACCOUNT_DIR",
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "KUBERNETES_SERVICE_PORT_HTTPS",
    ]


def test_a_pod_may_do_without_a_token(pods: Pods) -> None:
    pods.create(
        "p",
        shell("echo ${GRPCLB_SERVICEACCOUNT_DIR-none}"),
        restartPolicy="Never",
        automountServiceAccountToken=False,
    )
    pods.until_ended("p")
    assert pods.logs("p") == "none\n"


def test_containers_of_a_pod_share_volumes(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/shared"}]}
    pods.create(
        "p",
        shell("echo hi > /shared/part; mv /shared/part /shared/file", **mount),
        shell("while ! test -e /shared/file; do sleep 0.01; done; cat /shared/file", **mount),
        restartPolicy="Never",
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    assert phase(pods.until_ended("p")) == "Succeeded"
    assert pods.logs("p", "c1") == "hi\n"


# --- init containers and sidecars


def test_init_containers_run_one_after_the_other_and_first(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/shared"}]}
    init = [
        {"name": f"i{number}", **shell(f"echo {number} >> /shared/log", **mount)}
        for number in range(3)
    ]
    pods.create(
        "p",
        shell("cat /shared/log", **mount),
        restartPolicy="Never",
        initContainers=init,
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    pods.until_ended("p")
    assert pods.logs("p") == "0\n1\n2\n"


def test_a_failing_init_container_is_the_end_where_nothing_is_restarted(pods: Pods) -> None:
    init = [{"name": "i", **shell("exit 4")}]
    pods.create("p", greeter(), restartPolicy="Never", initContainers=init)
    pod = pods.until_ended("p")
    assert phase(pod) == "Failed"
    assert container(pod)["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_a_sidecar_runs_beside_the_others_and_ends_last(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/shared"}]}
    probe = {"exec": {"command": ["test", "-e", "/shared/up"]}}
    script = "trap 'echo over; exit 0' TERM; touch /shared/up; while true; do sleep 0.01; done"
    sidecar = {
        "name": "side",
        **shell(script, **mount),
        "restartPolicy": "Always",
        "startupProbe": probe,
    }
    pods.create(
        "p",
        shell("test -e /shared/up && echo it was up", **mount),
        restartPolicy="Never",
        initContainers=[sidecar],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    assert phase(pods.until_ended("p")) == "Succeeded"
    assert pods.logs("p") == "it was up\n"
    assert pods.logs("p", "side") == "over\n"


# --- probes


def test_a_container_is_ready_when_its_probe_says_so(pods: Pods) -> None:
    pods.create("p", greeter(readinessProbe={"grpc": {"port": 50051}}))
    began_s = time.monotonic()
    pods.until_ready("p")
    # The probe's period is 10 s; a pod that is there sooner is not kept waiting.
    assert time.monotonic() - began_s < 9
    assert [reason for reason, _ in pods.events("p")] == [
        "Scheduled",
        "Pulled",
        "Created",
        "Started",
    ]


def test_a_failing_probe_makes_it_unready_but_does_not_end_it(pods: Pods) -> None:
    probe = {
        "exec": {"command": ["sh", "-c", 'test -e "$GRPCLB_ROOT/ok" || { echo not ok; false; }']},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    script = 'cd "$GRPCLB_ROOT"; touch ok; sleep 0.5; rm ok; sleep 1000'
    pods.create("p", shell(script, readinessProbe=probe))
    pods.until_ready("p")
    pod = pods.until("p", lambda pod: not is_ready(pod))
    assert container(pod)["restartCount"] == 0
    assert ("Unhealthy", "Readiness probe failed: not ok") in pods.events("p")


def test_a_container_that_is_not_alive_is_restarted(pods: Pods) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    pods.create("p", shell("exec sleep 1000", livenessProbe=probe))
    pod = pods.until("p", lambda pod: container(pod)["restartCount"] >= 1)
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 143
    told = ("Killing", "Container c0 failed liveness probe, will be restarted")
    assert told in pods.events("p")
    assert ("Unhealthy", "Liveness probe failed: exit code 1") in pods.events("p")


def test_other_probes_wait_until_it_has_started(pods: Pods) -> None:
    script = 'sleep 0.3; touch "$GRPCLB_ROOT/up"; exec sleep 1000'
    check = {"exec": {"command": ["sh", "-c", 'test -e "$GRPCLB_ROOT/up"']}}
    pods.create(
        "p",
        shell(
            script,
            startupProbe={**check, "periodSeconds": 1, "failureThreshold": 30},
            livenessProbe={**check, "periodSeconds": 1, "failureThreshold": 1},
        ),
    )
    pod = pods.until_ready("p")
    assert container(pod)["started"]
    assert container(pod)["restartCount"] == 0


# --- the end of a pod


def test_a_pod_has_its_grace_to_end(pods: Pods) -> None:
    script = "trap 'sleep 0.2; exit 0' TERM; echo up; while true; do sleep 0.01; done"
    pods.create("p", shell(script))
    pods.until("p", lambda pod: is_ready(pod) and pods.logs("p") == "up\n")
    pods.api.delete(PODS, pods.namespace, "p")
    assert "deletionTimestamp" in pods.get("p")["metadata"]
    assert 0.15 < pods.until_gone("p") < 10
    assert ("Killing", "Stopping container c0") in pods.events("p")


def test_a_pod_that_does_not_end_is_killed_after_its_grace(pods: Pods) -> None:
    pods.create(
        "p",
        shell("trap '' TERM; echo up; while true; do sleep 0.01; done"),
        terminationGracePeriodSeconds=1,
    )
    pods.until("p", lambda pod: is_ready(pod) and pods.logs("p") == "up\n")
    pods.api.delete(PODS, pods.namespace, "p")
    assert 0.9 < pods.until_gone("p") < 10


def test_grace_can_be_cut_short(pods: Pods) -> None:
    pods.create(
        "p",
        shell("trap '' TERM; echo up; while true; do sleep 0.01; done"),
        terminationGracePeriodSeconds=1000,
    )
    pods.until("p", lambda pod: is_ready(pod) and pods.logs("p") == "up\n")
    pods.api.delete(PODS, pods.namespace, "p")
    pods.api.delete(PODS, pods.namespace, "p", grace_s=1)
    assert pods.until_gone("p") < 10


def test_a_pod_deleted_by_force_is_gone_at_once(pods: Pods) -> None:
    pods.create("p", shell("trap '' TERM; while true; do sleep 0.01; done"))
    pods.until_ready("p")
    pods.api.delete(PODS, pods.namespace, "p", grace_s=0)
    with pytest.raises(ApiError):
        pods.get("p")


def test_a_hook_runs_before_the_end_begins(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/shared"}]}
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "sleep 0.2; touch /shared/hooked"]}}}
    script = (
        "trap 'test -e /shared/hooked && touch /shared/seen; exit 0' TERM; echo up; "
        "while true; do sleep 0.01; done"
    )
    watch = "while ! test -e /shared/seen; do sleep 0.01; done; trap 'exit 0' TERM; sleep 1000"
    pods.create(
        "p",
        shell(script, lifecycle=hook, **mount),
        shell(watch, **mount),
        volumes=[{"name": "v", "emptyDir": {}}],
        terminationGracePeriodSeconds=1000,
    )
    pods.until("p", lambda pod: is_ready(pod) and pods.logs("p", "c0") == "up\n")
    pods.api.delete(PODS, pods.namespace, "p")
    assert pods.until_gone("p") > 0.15


def test_a_pod_that_is_deleted_while_it_waits_goes_without_ado(pods: Pods) -> None:
    pods.create("p", {"image": "redis:7"})
    pods.until("p", waits_for("ErrImageNeverPull"))
    pods.api.delete(PODS, pods.namespace, "p")
    assert pods.until_gone("p") < 10
