"""Events: made once, counted afterwards."""

from __future__ import annotations

from datetime import UTC, datetime

from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.store import Store


def test_an_event_that_happens_again_is_counted() -> None:
    times = [datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (9, 5, 4, 3, 2, 1, 0)]
    store = Store(now=lambda: times[-1])
    pod = store.create("pods", {"metadata": {"name": "p", "namespace": "test"}, "spec": {}})
    recorder = Recorder(store, "kubelet", "embedded")
    recorder.normal(pod, "Started", "Started container main")
    recorder.warning(pod, "Unhealthy", "not ready")
    del times[-1]
    recorder.warning(pod, "Unhealthy", "not ready")
    first, second = store.list("events", "test")
    assert first["metadata"]["name"] == "p.kubelet.0000000000000001"
    assert (first["type"], first["reason"], first["count"]) == ("Normal", "Started", 1)
    assert second == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": second["metadata"],
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "p",
            "namespace": "test",
            "uid": pod["metadata"]["uid"],
            "resourceVersion": pod["metadata"]["resourceVersion"],
        },
        "type": "Warning",
        "reason": "Unhealthy",
        "message": "not ready",
        "source": {"component": "kubelet", "host": "embedded"},
        "reportingComponent": "kubelet",
        "reportingInstance": "embedded",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:01Z",
        "count": 2,
    }


def test_an_event_whose_namespace_was_emptied_is_made_anew() -> None:
    store = Store()
    pod = store.create("pods", {"metadata": {"name": "p", "namespace": "test"}, "spec": {}})
    recorder = Recorder(store, "kubelet")
    recorder.normal(pod, "Started", "x")
    [event] = store.list("events", "test")
    store.remove("events", event["metadata"]["name"], "test")
    recorder.normal(pod, "Started", "x")
    assert [event["count"] for event in store.list("events", "test")] == [1]
