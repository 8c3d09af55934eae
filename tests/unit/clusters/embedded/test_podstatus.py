"""What a pod's status says of its containers."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.node.podstatus import ContainerState, pod_status, terminated

POD: dict[str, Any] = {"status": {"qosClass": "BestEffort"}, "spec": {}}
RUNNING = {"running": {"startedAt": "t0"}}


def ended(code: int) -> dict[str, Any]:
    return terminated(code, started_at="t0", finished_at="t1", identity="x")


def container(state: dict[str, Any], policy: str = "Always", **more: Any) -> ContainerState:
    more.setdefault("ready", "running" in state)
    more.setdefault("started", "running" in state)
    return ContainerState(name="main", image="i", policy=policy, state=state, **more)


def status(
    *main: ContainerState,
    init: tuple[ContainerState, ...] = (),
    ended: bool = False,
    pod: Any = POD,
) -> dict[str, Any]:
    return pod_status(
        pod, init=init, main=main, ended=ended, now="t2", started_at="t0", ip="i", host_ip="h"
    )


def condition(made: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in made["conditions"] if each["type"] == kind)
    return found


WAITING = {"waiting": {"reason": "ContainerCreating"}}


@pytest.mark.parametrize(
    ("states", "over", "phase"),
    [
        ([container(WAITING)], False, "Pending"),
        ([container(RUNNING), container(WAITING)], False, "Pending"),
        ([container(RUNNING)], False, "Running"),
        ([container(WAITING, last=ended(1))], False, "Running"),  # it crashed, and will be back
        ([container(RUNNING), container(ended(1), policy="Never")], False, "Running"),
        ([container(ended(0), policy="Never")], True, "Succeeded"),
        ([container(ended(0)), container(ended(3))], True, "Failed"),
        ([container(WAITING)], True, "Failed"),
    ],
)
def test_phase(states: list[ContainerState], over: bool, phase: str) -> None:
    assert status(*states, ended=over)["phase"] == phase


def test_a_ready_pod_has_all_conditions_and_addresses() -> None:
    made = status(container(RUNNING))
    assert {each["type"]: each["status"] for each in made["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    assert (made["podIP"], made["podIPs"], made["hostIP"]) == ("i", [{"ip": "i"}], "h")
    assert made["qosClass"] == "BestEffort"


def test_an_unready_container_is_named() -> None:
    made = status(container(RUNNING, ready=False))
    assert condition(made, "Ready") == {
        "type": "Ready",
        "status": "False",
        "lastProbeTime": None,
        "lastTransitionTime": "t2",
        "reason": "ContainersNotReady",
        "message": "containers with unready status: [main]",
    }


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    before = status(container(RUNNING))
    for each in before["conditions"]:
        each["lastTransitionTime"] = "t1"
    made = status(container(RUNNING, ready=False), pod={**POD, "status": before})
    assert condition(made, "Initialized")["lastTransitionTime"] == "t1"
    assert condition(made, "Ready")["lastTransitionTime"] == "t2"


def test_init_containers_come_first() -> None:
    made = status(container(WAITING), init=(container(RUNNING, policy="OnFailure", started=False),))
    assert made["phase"] == "Pending"
    assert condition(made, "Initialized")["message"] == "containers with incomplete status: [main]"
    made = status(container(WAITING), init=(container(ended(0), policy="OnFailure"),))
    assert condition(made, "Initialized")["status"] == "True"
    assert made["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


def test_a_sidecar_counts_for_readiness_and_has_to_be_started() -> None:
    made = status(container(WAITING), init=(container(RUNNING, started=False, ready=False),))
    assert condition(made, "Initialized")["status"] == "False"
    made = status(container(RUNNING), init=(container(RUNNING, ready=False),))
    assert condition(made, "Initialized")["status"] == "True"
    assert condition(made, "Ready")["status"] == "False"


def test_a_signal_is_told_as_128_and_its_number() -> None:
    assert ended(-9)["terminated"] == {
        "exitCode": 137,
        "signal": 9,
        "reason": "Error",
        "message": "ended by SIGKILL",
        "startedAt": "t0",
        "finishedAt": "t1",
        "containerID": "x",
    }


GATED: dict[str, Any] = {"spec": {"readinessGates": [{"conditionType": "a/x"}]}, "status": {}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([], 'corresponding condition of pod readiness gate "a/x" does not exist.'),
        (
            [{"type": "a/x", "status": "False"}],
            'the status of pod readiness gate "a/x" is not "True", but False',
        ),
    ],
)
def test_a_pod_is_not_ready_before_its_readiness_gates_are(
    said: list[dict[str, str]], message: str
) -> None:
    made = status(container(RUNNING), pod={**GATED, "status": {"conditions": said}})
    assert condition(made, "ContainersReady")["status"] == "True"
    ready = condition(made, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    assert ready["message"] == message


def test_an_open_readiness_gate_lets_a_pod_be_ready_and_stays_as_it_was_said() -> None:
    said = {"type": "a/x", "status": "True", "reason": "TheySaidSo"}
    made = status(container(RUNNING), pod={**GATED, "status": {"conditions": [said]}})
    assert condition(made, "Ready")["status"] == "True"
    assert condition(made, "a/x") == said


def test_containers_that_are_not_ready_come_before_readiness_gates() -> None:
    ready = condition(status(container(WAITING), pod=GATED), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
