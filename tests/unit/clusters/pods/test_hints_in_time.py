"""What pods suffer from now: init containers, states before events, and events that have passed."""

from __future__ import annotations

from typing import Any

from pytest_grpclb.clusters.pods.hints import Hint, hint_of

from .made_pods import PLACE, REFUSED, SAY_WHERE, ended, event, pod

# --- init containers


def initialising(**status: Any) -> dict[str, Any]:
    found = pod(state={"waiting": {"reason": "PodInitializing"}})
    found["status"]["initContainerStatuses"] = [{"name": "migrate", "ready": False, **status}]
    return found


def test_an_init_container_that_crashes_is_named() -> None:
    crashing = initialising(
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 3}},
        restartCount=4,
    )
    asked = []

    def last_words(pod: str, container: str) -> str:
        asked.append((pod, container))
        return "no database"

    assert hint_of([crashing], [], last_words=last_words) == Hint(
        text="the process of the init container 'migrate' ends by itself (exit code 3): its last "
        "words are below",
        hopeless=False,
    )
    assert asked == [("p", "migrate")]


def test_an_init_container_that_goes_on_is_waited_for_unless_it_is_a_sidecar() -> None:
    running = initialising(state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    assert hint_of([running], []) == Hint(
        text="the init container 'migrate' has not ended, and no other is started before: see its "
        "log, or raise --grpclb-ready-timeout if it takes long",
        hopeless=False,
    )
    running["spec"] = {"initContainers": [{"name": "migrate", "restartPolicy": "Always"}]}
    assert hint_of([running], []) is None


def test_an_init_container_that_is_done_tells_nothing() -> None:
    done = initialising(state={"terminated": {"exitCode": 0, "reason": "Completed"}}, ready=True)
    assert hint_of([done], []) is None


# --- states come before events, and events pass

UNMOUNTED = 'MountVolume.SetUp failed for volume "kube-api-access": "kube-root-ca.crt" not found'
CRASHED = "the process of the container 'main' ends by itself (exit code 1): "


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def timed(message: str, second: int, *, reason: str = "Unhealthy") -> dict[str, Any]:
    return {**event(message, reason=reason), "lastTimestamp": at(second)}


def text_of(*arguments: Any) -> str:
    hint = hint_of(*arguments, last_words=lambda _pod, _name: "KeyError: 'DATABASE_URL'")
    return "" if hint is None else hint.text


def test_a_crash_does_not_hide_behind_its_own_probe() -> None:
    assert text_of([ended(1, 2)], [event(REFUSED)]) == f"{CRASHED}its last words are below"


def test_a_process_that_its_probe_ends_does_not_end_by_itself() -> None:
    killed = "Container main failed startup probe, will be restarted"
    ran = {"startedAt": at(1), "finishedAt": at(9)}
    events = [timed(REFUSED, 9), timed(killed, 9, reason="Killing")]
    assert text_of([ended(143, 2, **ran)], events) == f"nothing listens on {PLACE}: {SAY_WHERE}"
    # One before it was; it itself was not.
    ran = {"startedAt": at(10), "finishedAt": at(11)}
    assert text_of([ended(1, 2, **ran)], events).startswith(CRASHED)


def test_a_process_that_outlives_its_predecessor_has_got_over_its_crash() -> None:
    again = ended(1, 1, startedAt=at(1), finishedAt=at(3))
    again["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": at(5)}}
    assert text_of([again], [timed(REFUSED, 11)]).startswith(CRASHED)
    assert text_of([again], [timed(REFUSED, 13)]) == f"nothing listens on {PLACE}: {SAY_WHERE}"


def test_a_volume_that_came_late_is_not_missing() -> None:
    event_of_it = timed(UNMOUNTED, 1, reason="FailedMount")
    pulling = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    told = text_of([pod(state=pulling)], [event_of_it])
    assert told.startswith("the image of the container 'main' cannot be had")
    assert text_of([ended(1, 2)], [event_of_it]).startswith(CRASHED)
    # While an image is pulled, a container's state says no more than before.
    creating = pod(state={"waiting": {"reason": "ContainerCreating"}})
    assert text_of([creating], [event_of_it]).startswith("a volume cannot be made")
    pulled = timed('Pulling image "shop:1"', 2, reason="Pulling")
    assert text_of([creating], [event_of_it, pulled]) == ""


def test_a_node_that_cannot_make_the_sandbox_is_told() -> None:
    failed = event("plugin type=calico failed", reason="FailedCreatePodSandBox")
    assert text_of([pod()], [failed]) == (
        "the node cannot make the pod's sandbox: plugin type=calico failed; that is the node's own "
        "trouble (its network, its runtime): have it mended"
    )


def test_a_probe_that_failed_before_is_past_when_its_container_is_ready_or_was_started_anew() -> (
    None
):
    running = pod(state={"running": {"startedAt": at(10)}})
    assert text_of([running], [timed(REFUSED, 9)]) == ""
    assert text_of([running], [timed(REFUSED, 10)]) != ""
    well = {"name": "proxy", "ready": True, "state": {"running": {"startedAt": at(1)}}}
    running["status"]["containerStatuses"].append(well)
    of_proxy = timed(REFUSED, 12)
    of_proxy["involvedObject"]["fieldPath"] = "spec.containers{proxy}"
    assert text_of([running], [of_proxy]) == ""
    of_proxy["involvedObject"]["fieldPath"] = "spec.containers{main}"
    assert text_of([running], [of_proxy]) != ""


def test_a_service_that_says_it_does_not_serve_is_told() -> None:
    message = 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'
    assert hint_of([pod()], [event(message)]) == Hint(
        text="its health service answers NOT_SERVING: the service itself holds back; see its log, "
        "or raise --grpclb-ready-timeout if it starts slowly",
        hopeless=False,
    )


def test_a_process_that_ends_in_silence_has_no_last_words() -> None:
    hint = hint_of([ended(0, 2)], [], crashes_allowed=2)
    assert hint == Hint(
        text="the process of the container 'main' ends by itself (exit code 0): it has written "
        "nothing",
        hopeless=True,
    )
