"""How the embedded kubelet probes pods and ends them, seen through the API."""

from __future__ import annotations

import time

import pytest

from pytest_grpclb.clusters.api.kube import PODS
from pytest_grpclb.errors import ApiError

from .pods import Pods, container, greeter, is_ready, shell, waits_for

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
