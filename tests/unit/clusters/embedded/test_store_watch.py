"""Following what a store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.store.status import BadRequestError, GoneError
from pytest_grpclb.clusters.embedded.store.store import Store
from pytest_grpclb.clusters.embedded.store.watch import History, Watch

from .test_store import config, pod

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Event, Object


# --- following


def test_observers_hear_every_change_in_order_even_of_their_own_making(store: Store) -> None:
    heard: list[tuple[str, str]] = []

    def mark_first(event: Event) -> None:
        name = event.object["metadata"]["name"]
        if event.type == "ADDED" and name == "a":
            store.create("configmaps", config("made-by-first"))

    def note(event: Event) -> None:
        heard.append((event.type, event.object["metadata"]["name"]))

    store.subscribe({"configmaps"}, mark_first)
    leave = store.subscribe(None, note)
    store.create("configmaps", config("a"))
    assert heard == [("ADDED", "a"), ("ADDED", "made-by-first")]
    leave()
    store.create("configmaps", config("b"))
    assert len(heard) == 2


def test_observers_hear_of_the_kinds_that_they_named(store: Store) -> None:
    heard: list[str] = []
    store.subscribe(["pods"], lambda event: heard.append(event.object["kind"]))
    store.create("configmaps", config("a"))
    store.create("pods", pod())
    assert heard == ["Pod"]


def test_a_watch_says_once_that_something_is_there(store: Store) -> None:
    watch = store.watch("configmaps")
    calls: list[None] = []
    watch.on_ready = lambda: calls.append(None)
    store.create("configmaps", config("a"))
    store.create("configmaps", config("b"))
    assert len(calls) == 1
    assert [event.object["metadata"]["name"] for event in watch.take()] == ["a", "b"]
    store.create("configmaps", config("c"))
    assert len(calls) == 2
    watch.close()
    watch.close()
    store.create("configmaps", config("d"))
    assert [event.object["metadata"]["name"] for event in watch.take()] == ["c"]


def test_a_watch_of_one_namespace_hears_of_no_other(store: Store) -> None:
    watch = store.watch("configmaps", "mine", 0)
    store.create("configmaps", config("a", namespace="mine"))
    store.create("configmaps", config("a", namespace="other"))
    assert [event.object["metadata"]["namespace"] for event in watch.take()] == ["mine"]


def test_a_watch_cannot_begin_in_the_future(store: Store) -> None:
    with pytest.raises(BadRequestError) as caught:
        store.watch("pods", since=5)
    assert str(caught.value) == (
        "resource version 5 was never given out, the last one is 0; list and watch from what the "
        "list says"
    )


def test_history_is_bounded_and_says_so() -> None:
    store = Store()
    store._histories["configmaps"] = History(limit=3)
    for number in range(5):
        store.create("configmaps", config(f"c{number}"))
    store.create("pods", pod())  # another kind does not push out this one's history
    seen = [event.revision for event in store.watch("configmaps", since=2).take()]
    assert seen == [3, 4, 5]
    with pytest.raises(GoneError) as caught:
        store.watch("configmaps", since=1)
    assert str(caught.value) == "too old resource version: 1 (2); list and watch again"
    assert caught.value.status()["code"] == 410


def test_a_watch_that_nobody_reads_is_cut_off_rather_than_kept_for_ever(store: Store) -> None:
    gone: list[Watch] = []
    watch = Watch("", (), limit=2, leave=gone.append)
    feed = store.watch("configmaps", since=0)
    for number in range(3):
        store.create("configmaps", config(f"c{number}"))
    for event in feed.take():
        watch.offer(event)
    assert gone == [watch]
    with pytest.raises(GoneError) as caught:
        watch.take()
    assert str(caught.value) == (
        "the watch was more than 2 changes behind and lost some; list and watch again"
    )


NAMES = st.sampled_from(["a", "b", "c"])
NAMESPACES = st.sampled_from(["x", "y"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "update", "delete"]), NAMESPACES, NAMES, st.integers(0, 2)
    ),
    max_size=30,
)


@given(STEPS, st.data())
def test_any_watch_from_any_revision_arrives_at_the_list(
    steps: list[tuple[str, str, str, int]], data: st.DataObject
) -> None:
    store = Store()
    whole = store.watch("configmaps", since=0)
    lists = {0: store.list("configmaps")}
    for verb, namespace, name, value in steps:
        there = store.find("configmaps", name, namespace) is not None
        obj = config(name, str(value), namespace=namespace)
        if verb == "create" and not there:
            store.create("configmaps", obj)
        elif verb == "update" and there:
            store.update("configmaps", obj)
        elif verb == "delete" and there:
            store.delete("configmaps", name, namespace)
        lists[store.revision] = store.list("configmaps")
    history = whole.take()
    assert [event.revision for event in history] == list(range(1, store.revision + 1))

    since = data.draw(st.sampled_from(sorted(lists)))
    namespace = data.draw(st.sampled_from(["", "x", "y"]))

    def within(obj: Object) -> bool:
        return namespace in {"", obj["metadata"]["namespace"]}

    events = store.watch("configmaps", namespace, since).take()
    assert events == [e for e in history if e.revision > since and within(e.object)]
    state = {o["metadata"]["uid"]: o for o in lists[since] if within(o)}
    for event in events:
        uid = event.object["metadata"]["uid"]
        assert (event.type == "ADDED") == (uid not in state)
        assert event.previous == state.get(uid)
        assert event.object["metadata"]["resourceVersion"] == str(event.revision)
        if event.type == "DELETED":
            del state[uid]
        else:
            state[uid] = event.object
    final = sorted(
        state.values(), key=lambda o: (o["metadata"]["namespace"], o["metadata"]["name"])
    )
    assert final == store.list("configmaps", namespace)
