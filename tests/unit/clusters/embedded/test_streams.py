"""Watches: what a client is told, in which order, and when a watch ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.api.streams import WatchResponse
from pytest_grpclb.clusters.embedded.store.watch import History

from .conftest import Client

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Object

Json = dict[str, Any]
PATH = "/api/v1/namespaces/default/configmaps"


def config(name: str, app: str = "web") -> Object:
    return {"metadata": {"name": name, "namespace": "default", "labels": {"app": app}}}


def watch(client: Client, path: str = PATH, **query: str) -> WatchResponse:
    answer = client.send("GET", path, watch="1", **query)
    assert isinstance(answer, WatchResponse)
    return answer


def told(stream: WatchResponse) -> list[tuple[str, str]]:
    return [
        (event["type"], event["object"]["metadata"].get("name", "")) for event in events(stream)
    ]


def events(stream: WatchResponse) -> list[Json]:
    return [json.loads(line) for line in stream.take().splitlines()]


def test_a_watch_goes_on_where_a_list_ended(client: Client) -> None:
    client.store.create("configmaps", config("a"))
    version = client.get(PATH)["metadata"]["resourceVersion"]
    client.store.create("configmaps", config("b"))
    stream = watch(client, resourceVersion=version)
    assert told(stream) == [("ADDED", "b")]
    client.store.update("configmaps", config("a", "api"))
    client.store.delete("configmaps", "b", "default")
    assert told(stream) == [("MODIFIED", "a"), ("DELETED", "b")]
    assert told(stream) == []
    assert not stream.ended


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}])
def test_a_watch_from_nowhere_begins_with_what_is_there(
    client: Client, query: dict[str, str]
) -> None:
    client.store.create("configmaps", config("a"))
    stream = watch(client, **query)
    client.store.create("configmaps", config("b"))
    assert told(stream) == [("ADDED", "a"), ("ADDED", "b")]


def test_a_streamed_list_ends_with_a_marked_bookmark(client: Client) -> None:
    # Kubernetes documentation, "API concepts", "Streaming lists"
    client.store.create("configmaps", config("a"))
    stream = watch(
        client,
        sendInitialEvents="true",
        resourceVersionMatch="NotOlderThan",
        allowWatchBookmarks="true",
    )
    first, bookmark = events(stream)
    assert first["type"] == "ADDED"
    assert bookmark == {
        "type": "BOOKMARK",
        "object": {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "resourceVersion": "2",
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        },
    }


def test_without_initial_events_only_news_are_told(client: Client) -> None:
    client.store.create("configmaps", config("a"))
    stream = watch(client, resourceVersion="2", sendInitialEvents="false")
    assert told(stream) == []


def test_what_enters_a_selection_is_added_and_what_leaves_it_is_deleted(client: Client) -> None:
    stream = watch(client, resourceVersion="1", labelSelector="app%3Dweb")
    client.store.create("configmaps", config("a", "api"))
    assert told(stream) == []
    client.store.update("configmaps", config("a", "web"))
    assert told(stream) == [("ADDED", "a")]
    client.store.update("configmaps", config("a", "api"))
    (left,) = events(stream)
    assert left["type"] == "DELETED"
    assert left["object"]["metadata"]["labels"] == {"app": "web"}
    assert left["object"]["metadata"]["resourceVersion"] == "4"
    client.store.delete("configmaps", "a", "default")
    assert told(stream) == []


def test_one_object_is_watched_by_its_name(client: Client) -> None:
    stream = watch(client, resourceVersion="1", fieldSelector="metadata.name%3Db")
    client.store.create("configmaps", config("a"))
    client.store.create("configmaps", config("b"))
    assert told(stream) == [("ADDED", "b")]


def test_bookmarks_come_every_minute_and_carry_the_latest_version(client: Client) -> None:
    stream = watch(client, resourceVersion="1", allowWatchBookmarks="true")
    assert stream.wake_in_s() == 60
    assert told(stream) == []
    client.store.create("secrets", {"metadata": {"name": "s", "namespace": "default"}})
    client.clock_s += 60
    (bookmark,) = events(stream)
    assert bookmark["object"]["metadata"] == {"resourceVersion": "2"}
    assert stream.wake_in_s() == 60


def test_a_watch_ends_when_it_was_told_to(client: Client) -> None:
    stream = watch(client, resourceVersion="1", timeoutSeconds="5")
    assert stream.wake_in_s() == 5
    client.clock_s += 4
    assert told(stream) == []
    assert not stream.ended
    client.store.create("configmaps", config("a"))
    client.clock_s += 1
    assert told(stream) == [("ADDED", "a")]
    assert stream.ended
    stream = watch(client, resourceVersion="2", timeoutSeconds="0", allowWatchBookmarks="true")
    assert [event["type"] for event in events(stream)] == ["BOOKMARK"]


def test_a_watch_without_timeout_waits_for_ever(client: Client) -> None:
    assert watch(client, resourceVersion="1").wake_in_s() is None


def test_a_version_that_is_too_old_is_gone(client: Client) -> None:
    client.store._histories["configmaps"] = History(limit=1)
    client.store.create("configmaps", config("a"))
    client.store.create("configmaps", config("b"))
    assert client.refused("GET", PATH, watch="1", resourceVersion="1") == (
        410,
        "Expired",
        "too old resource version: 1 (2); list and watch again",
    )


def test_a_watch_that_fell_behind_ends_with_an_error(client: Client) -> None:
    client.store._histories["configmaps"] = History(limit=1)
    stream = watch(client, resourceVersion="1")
    client.store.create("configmaps", config("a"))
    client.store.create("configmaps", config("b"))
    (error,) = events(stream)
    assert error["type"] == "ERROR"
    assert error["object"]["code"] == 410
    assert error["object"]["reason"] == "Expired"
    assert stream.ended


def test_a_watch_in_the_form_of_tables(client: Client) -> None:
    answer = client.send(
        "GET",
        PATH,
        watch="1",
        accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )
    assert isinstance(answer, WatchResponse)
    client.store.create("configmaps", config("a"))
    (event,) = events(answer)
    assert event["object"]["kind"] == "Table"
    assert event["object"]["rows"][0]["cells"] == ["a", 0, "0s"]


def test_a_closed_watch_hears_nothing(client: Client) -> None:
    stream = watch(client, resourceVersion="1")
    calls: list[None] = []
    stream.on_ready(lambda: calls.append(None))
    client.store.create("configmaps", config("a"))
    assert len(calls) == 1
    stream.close()
    client.store.create("configmaps", config("b"))
    assert told(stream) == [("ADDED", "a")]
    assert len(calls) == 1


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["web", "api", "gone"])), max_size=25
)


@given(STEPS, st.integers(0, 25))
def test_a_selected_watch_always_arrives_at_the_selected_list(
    steps: list[tuple[str, str]], begin: int
) -> None:
    client = Client()
    known: dict[str, str] = {}
    stream: WatchResponse | None = None
    for number, (name, app) in enumerate(steps):
        if number == begin:
            stream = watch(client, labelSelector="app%3Dweb")
        there = client.store.find("configmaps", name, "default") is not None
        if app == "gone":
            if there:
                client.store.delete("configmaps", name, "default")
        elif there:
            client.store.update("configmaps", config(name, app))
        else:
            client.store.create("configmaps", config(name, app))
    stream = stream or watch(client, labelSelector="app%3Dweb")
    for change, name in told(stream):
        assert (change == "ADDED") == (name not in known)
        if change == "DELETED":
            del known[name]
        else:
            known[name] = change
    listed = client.get(PATH, labelSelector="app%3Dweb")["items"]
    assert sorted(known) == [item["metadata"]["name"] for item in listed]
