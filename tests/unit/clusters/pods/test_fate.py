"""What is said of a pod whose connection broke off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_grpclb.clusters.pods.fate import why_lost
from pytest_grpclb.clusters.pods.watch import PodWatch, pod_state
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.clusters.pods.watch import PodState


class Seen:
    """A watch that has seen these pods, and sees nothing more."""

    def __init__(self, *pods: PodState) -> None:
        self._pods = pods

    def pods(self) -> tuple[PodState, ...]:
        return self._pods

    def wait_for(
        self, condition: Callable[[tuple[PodState, ...]], bool], *, timeout_s: float
    ) -> bool:
        assert timeout_s > 0
        return condition(self._pods)


def pod(*containers: dict[str, Any], **more: Any) -> PodState:
    metadata = {"uid": "u1", "name": "driver-x", **more.pop("metadata", {})}
    statuses = [{"name": "driver", "restartCount": 0, "state": {"running": {}}}, *containers]
    status = {"phase": "Running", "containerStatuses": statuses[-1:], **more}
    return pod_state({"metadata": metadata, "status": status})


OTHER = pod_state({"metadata": {"uid": "u2", "name": "driver-y"}, "status": {"phase": "Running"}})
KILLED = {"exitCode": 137, "reason": "OOMKilled"}
GONE = (
    "its pod 'driver-x' was deleted or evicted, or its node was lost; see the events of its "
    "namespace (--grpclb-artifacts saves them), and run the test again"
)
RESTARTED = "its pod 'driver-x' was restarted"
OOM = f"{RESTARTED}: its container 'driver' ended (exit code 137, OOMKilled)"


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (
            pod(),
            "its pod 'driver-x' runs on, so the connection to it broke off, which on real clusters "
            "is a port-forward through the Kubernetes API; run the test again, and where that "
            "recurs, look for restarts of the API or of the pod's node, and for what stands before "
            "the API and ends connections of a certain age (load balancer, proxy)",
        ),
        (pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), GONE),
        (pod(phase="Failed", reason="Evicted"), GONE),
        (OTHER, GONE),
        (pod({"name": "driver", "restartCount": 0, "state": {"terminated": KILLED}}), OOM),
        (
            pod(
                {
                    "name": "driver",
                    "restartCount": 1,
                    "state": {"running": {}},
                    "lastState": {"terminated": KILLED},
                }
            ),
            OOM,
        ),
        (pod({"name": "driver", "restartCount": 1, "state": {"running": {}}}), RESTARTED),
    ],
    ids=["runs", "terminating", "evicted", "gone", "ended", "restarted", "restarted, no reason"],
)
def test_it_is_said_what_became_of_the_pod(now: PodState, told: str) -> None:
    assert why_lost(cast("PodWatch", Seen(now)), pod()) == told


def test_an_api_that_does_not_tell_is_named() -> None:
    class Failed(Seen):
        def wait_for(self, *_: Any, **__: Any) -> bool:
            raise ApiError("GET", "/pods", status=403)

    assert why_lost(cast("PodWatch", Failed()), pod()) == (
        "what became of its pod 'driver-x' is not known: "
        "GET /pods: the Kubernetes API answered 403: no message"
    )
