"""Pods as they are followed, and told apart by what responses say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_grpclb.clusters.pods import PodWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.kube import KubeApi


class Listing:
    """An API that lists pods once, and then cannot be reached."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self._pods = pods

    def request(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"items": list(self._pods), "metadata": {"resourceVersion": "1"}}

    def stream(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError


def pod(uid: str, address: str) -> dict[str, Any]:
    status = {"podIP": address} if address else {}
    return {"metadata": {"uid": uid, "name": f"pod-{uid}"}, "status": status}


@pytest.fixture
def watch() -> Iterator[PodWatch]:
    pods = [pod("u1", "127.9.1.5"), pod("u2", ""), pod("u6", "fd00::5")]
    made = PodWatch(cast("KubeApi", Listing(*pods)), "ns", {"app": "shop"})
    assert made.wait_for(lambda seen: len(seen) == 3, timeout_s=30.0)
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
        ("127.9.1.6:50051", "127.9.1.6:50051"),
        ("", ""),
    ],
)
def test_a_pod_is_known_by_its_uid_or_its_address(watch: PodWatch, told: str, uid: str) -> None:
    assert watch.uid_of(told) == uid
