"""Reading the logs of pods through the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.api.streams import LogOptions, LogResponse

from .test_api import PODS, Json, pod

if TYPE_CHECKING:
    from .conftest import Client


# --- logs


def with_status(client: Client, **status: Any) -> None:
    made = client.store.get("pods", "a", "default")
    client.store.update_status("pods", {**made, "status": status})


def running(name: str, **more: Any) -> Json:
    return {"name": name, "state": {"running": {}}, "restartCount": 0, **more}


def test_a_log_is_asked_of_the_reader(client: Client) -> None:
    client.make(PODS, pod())
    with_status(client, containerStatuses=[running("c", lastState={"terminated": {}})])
    answer = client.send(
        "GET",
        f"{PODS}/a/log",
        follow="true",
        previous="true",
        timestamps="true",
        tailLines="5",
        limitBytes="9",
        sinceSeconds="60",
    )
    assert isinstance(answer, LogResponse)
    assert (answer.status, answer.content_type) == (200, "text/plain")
    assert client.logs_asked == [
        LogOptions(
            container="c",
            follow=True,
            previous=True,
            timestamps=True,
            tail_lines=5,
            limit_bytes=9,
            since_s=60,
        )
    ]


@pytest.mark.parametrize(
    ("statuses", "query", "message"),
    [
        ([], {}, 'container "c" in pod "a" is waiting to start: no status yet'),
        ([running("c")], {"container": "x"}, "container x is not valid for pod a"),
        (
            [running("c")],
            {"previous": "1"},
            'previous terminated container "c" in pod "a" not found',
        ),
        (
            [{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}],
            {},
            'container "c" in pod "a" is waiting to start: ContainerCreating',
        ),
        (
            [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such"}}}],
            {},
            'container "c" in pod "a" is waiting to start: no such',
        ),
    ],
)
def test_logs_that_are_not_there(
    client: Client, statuses: list[Json], query: dict[str, str], message: str
) -> None:
    client.make(PODS, pod())
    with_status(client, containerStatuses=statuses)
    assert client.refused("GET", f"{PODS}/a/log", **query) == (400, "BadRequest", message)


def test_a_container_that_waits_to_start_again_has_a_log(client: Client) -> None:
    client.make(PODS, pod())
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    entry = {"name": "c", "state": waiting, "lastState": {"terminated": {}}}
    with_status(client, containerStatuses=[entry])
    assert isinstance(client.send("GET", f"{PODS}/a/log"), LogResponse)


def test_of_several_containers_one_must_be_named(client: Client) -> None:
    body = pod()
    body["spec"]["containers"].append({"name": "d", "image": "x"})
    body["spec"]["initContainers"] = [{"name": "i", "image": "x"}]
    client.make(PODS, body)
    with_status(client, initContainerStatuses=[running("i")])
    assert client.refused("GET", f"{PODS}/a/log")[2] == (
        "a container name must be specified for pod a, choose one of: [c d] or one of the init "
        "containers: [i]"
    )
    assert isinstance(client.send("GET", f"{PODS}/a/log", container="i"), LogResponse)
