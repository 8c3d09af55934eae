"""Pods as they are followed, and told apart by what responses say of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from pytest_grpclb.clusters.pods.watch import PodWatch
from pytest_grpclb.deployment import Deployment
from pytest_grpclb.model import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.api.kube import KubeApi


class Listing:
    """An API that lists pods once, and then cannot be reached."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self._pods = pods

    def request(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"items": list(self._pods), "metadata": {"resourceVersion": "1"}}

    def stream(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError


class Silent:
    """A watch whose connection was dropped on the way: nothing is ever told."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()

    def events(self) -> Iterator[Any]:
        self._closed.wait()
        yield from ()


class Blind(Listing):
    """An API whose watches are silent, though pods come and go."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        super().__init__(*pods)
        self.watched = threading.Event()

    def become(self, *pods: dict[str, Any]) -> None:
        assert self.watched.wait(30.0)
        self._pods = pods

    def list(self, *_: Any, **__: Any) -> Any:
        """Events: nothing is told."""
        return []

    def stream(self, *_: Any, **__: Any) -> Any:
        self.watched.set()
        return Silent()


def test_what_no_watch_has_told_of_is_listed_before_it_is_taken_for_missing() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    api = Blind(pod("old", "127.9.1.5", **ready))
    watch = PodWatch(cast("KubeApi", api), "ns", {"app": "shop"})
    try:
        assert watch.wait_for(lambda pods: len(pods) == 1, timeout_s=30.0)
        api.become(pod("new", "127.9.1.6", **ready))
        assert [each.uid for each in watch.pods()] == ["old"]
        watch.refresh()
        assert [(each.uid, each.serves) for each in watch.pods()] == [("new", True)]
        assert [each.removed_at_s is None for each in watch.backends()] == [False, True]
    finally:
        watch.close()


def test_a_deployment_that_got_ready_behind_a_silent_watch_is_ready() -> None:
    api = Blind()
    service = Service(name="s", namespace="ns", selector={"app": "shop"}, port=1, deployment="d")
    deployment = Deployment(cast("KubeApi", api), service, ready_timeout_s=0.1)
    try:
        api.become(pod("new", "127.9.1.6", conditions=[{"type": "Ready", "status": "True"}]))
        deployment.wait_ready(1)
    finally:
        deployment.close()


def pod(uid: str, address: str, *others: str, **told: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"podIP": address} if address else {}
    if others:
        status["podIPs"] = [{"ip": each} for each in (address, *others)]
    status |= told
    return {"metadata": {"uid": uid, "name": f"pod-{uid}"}, "status": status}


LONG = f"pod-{'of-a-long-name-' * 4}7d9f-x2x4z"


def named(pod: dict[str, Any], name: str) -> dict[str, Any]:
    return pod | {"metadata": pod["metadata"] | {"name": name}}


@pytest.fixture
def watch() -> Iterator[PodWatch]:
    pods = [
        pod("u1", "127.9.1.5"),
        pod("u2", ""),
        pod("u6", "fd00::5"),
        pod("both", "10.0.0.7", "fd00::7", conditions=[{"type": "Ready", "status": "True"}]),
        named(pod("long", ""), LONG),
        named(pod("first", ""), "shop-0"),
        named(pod("second", ""), "shop-0"),
        # Evicted: its address was given to another that came after it, or before it in the list.
        pod("gone", "127.9.1.5", phase="Failed", reason="Evicted"),
    ]
    made = PodWatch(cast("KubeApi", Listing(*pods)), "ns", {"app": "shop"})
    assert made.wait_for(lambda seen: len(seen) == 8, timeout_s=30.0)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("told", "uid"),
    [
        ("u1", "u1"),
        ("127.9.1.5", "u1"),
        ("127.9.1.5:50051", "u1"),
        ("fd00::5", "u6"),
        ("[fd00::5]:50051", "u6"),
        ("10.0.0.7:50051", "both"),
        ("[fd00::7]:50051", "both"),
        ("127.9.1.6:50051", "127.9.1.6:50051"),
        ("pod-u1", "u1"),
        (LONG, "long"),
        (LONG[:63], "long"),
        ("pod-u", "pod-u"),
        ("shop-0", "shop-0"),  # of a StatefulSet: which of the two is not known
        ("", ""),
    ],
)
def test_a_pod_is_known_by_its_uid_its_address_or_its_name(
    watch: PodWatch, told: str, uid: str
) -> None:
    assert watch.uid_of(told) == uid


def test_a_pod_of_two_families_is_one_backend_with_both_addresses(watch: PodWatch) -> None:
    [backend] = watch.backends()
    assert backend.uid == "both"
    assert backend.addresses == ("10.0.0.7", "fd00::7")


def test_a_pod_that_was_evicted_takes_no_replicas_place(watch: PodWatch) -> None:
    assert {each.uid: each.stays for each in watch.pods()} == {
        "u1": True,
        "u2": True,
        "u6": True,
        "both": True,
        "long": True,
        "first": True,
        "second": True,
        "gone": False,
    }
