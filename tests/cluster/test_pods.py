"""What the embedded kubelet starts and gives to containers, seen through the API."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.api.kube import PODS, Resource

from .pods import Pods, container, greeter, is_ready, phase, shell, waits_for

CONFIG_MAPS = Resource("v1", "configmaps", namespaced=True)


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
