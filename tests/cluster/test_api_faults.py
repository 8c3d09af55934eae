"""Whatever the API does at any moment is survived, or reported by name."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters import ClusterRequest
from pytest_grpclb.clusters.api.kube import PODS, KubeApi
from pytest_grpclb.clusters.kubeconfig import KubeconfigCluster
from pytest_grpclb.clusters.namespaces import create_namespace, delete_namespace
from pytest_grpclb.clusters.pods.watch import PodWatch
from pytest_grpclb.conformance.subject import CONFIG_MAPS
from pytest_grpclb.errors import ApiError, ClusterStartError

from .faulty_api import Fault, FaultyApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

TIMEOUT_S = 30.0
RUN = "faults-main"


@pytest.fixture
def faulty(embedded_cluster: EmbeddedCluster, tmp_path: Path) -> Iterator[FaultyApi]:
    with FaultyApi(embedded_cluster.kubeconfig, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def through(faulty: FaultyApi, embedded_cluster: EmbeddedCluster) -> Iterator[KubeApi]:
    """A connection to the API through what goes wrong."""
    api = KubeApi(faulty.leads_here, embedded_cluster.context, scratch=faulty.folder)
    yield api
    api.close()


def first(faulty: FaultyApi, verb: str, path: str, *faults: Fault) -> None:
    """Have *faults* happen to the first requests of that verb and path, and to no other."""
    waiting = list(faults)

    def plan(seen_verb: str, seen_path: str) -> Fault | None:
        matches = seen_verb == verb and seen_path.startswith(path)
        return waiting.pop(0) if matches and waiting else None

    faulty.plan = plan


def always(faulty: FaultyApi, verb: str, fault: Fault) -> None:
    faulty.plan = lambda seen, _path: fault if seen == verb else None


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(reset=True)],
        [Fault(lose_answer=True)],
        [Fault(status=500), Fault(status=502), Fault(status=503), Fault(status=504)],
        [Fault(status=429), Fault(reset=True), Fault(status=503)],
    ],
    ids=["reset", "lost answer", "away", "all of it"],
)
@pytest.mark.parametrize("verb", ["GET", "PATCH", "DELETE"])
def test_a_request_that_may_be_repeated_survives(
    faulty: FaultyApi, through: KubeApi, namespace: str, verb: str, faults: list[Fault]
) -> None:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"n": "1"}}
    through.apply([made], namespace=namespace)
    path = CONFIG_MAPS.path(namespace, "a")
    first(faulty, verb, path, *faults)
    if verb == "GET":
        assert through.get(CONFIG_MAPS, namespace, "a")["data"] == {"n": "1"}
    elif verb == "PATCH":
        [changed] = through.apply([{**made, "data": {"n": "2"}}], namespace=namespace)
        assert changed["data"] == {"n": "2"}
    else:
        through.delete(CONFIG_MAPS, namespace, "a")
        assert through.list(CONFIG_MAPS, namespace, selector="!none") == []
    asked = [1 for seen, where in faulty.seen if (seen, where.partition("?")[0]) == (verb, path)]
    assert len(asked) >= len(faults) + 1


def test_retry_after_is_waited_for(faulty: FaultyApi, through: KubeApi, namespace: str) -> None:
    path = PODS.path(namespace)
    first(faulty, "GET", path, Fault(status=429, headers=(("Retry-After", "1"),)))
    began_s = time.monotonic()
    assert through.list(PODS, namespace) == []
    assert time.monotonic() - began_s >= 1.0


def test_an_api_that_stays_away_is_named(
    faulty: FaultyApi, through: KubeApi, namespace: str
) -> None:
    path = PODS.path(namespace)
    always(faulty, "GET", Fault(status=503))
    with pytest.raises(ApiError) as caught:
        through.list(PODS, namespace)
    assert str(caught.value) == f"GET {path}: the Kubernetes API answered 503: Injected: injected"
    always(faulty, "GET", Fault(reset=True))
    with pytest.raises(ApiError, match=f"GET {path}: the Kubernetes API does not answer: ") as lost:
        through.list(PODS, namespace)
    assert lost.value.status == 0


@pytest.mark.parametrize("body", ["<html>Log in</html>", "[1]"])
def test_what_is_no_answer_of_an_api_is_told(
    faulty: FaultyApi, through: KubeApi, namespace: str, body: str
) -> None:
    path = PODS.path(namespace)
    always(faulty, "GET", Fault(line=body.encode()))
    with pytest.raises(ApiError) as caught:
        through.list(PODS, namespace)
    assert str(caught.value) == (
        f"GET {path}: the Kubernetes API answered 200: {body!r} is no JSON object; is a proxy or a "
        "login page in its place?"
    )


def test_a_conflict_is_reported_and_not_repeated(
    faulty: FaultyApi, through: KubeApi, namespace: str
) -> None:
    always(faulty, "PATCH", Fault(status=409))
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    with pytest.raises(ApiError, match="answered 409"):
        through.apply([made], namespace=namespace)
    assert sum(verb == "PATCH" for verb, _ in faulty.seen) == 1


def test_a_request_that_may_not_be_repeated_is_not(
    faulty: FaultyApi, through: KubeApi, namespace: str
) -> None:
    always(faulty, "POST", Fault(reset=True))
    path = CONFIG_MAPS.path(namespace)
    with pytest.raises(ApiError, match=f"POST {path}: the Kubernetes API does not answer: "):
        through.request("POST", path, body={"metadata": {"name": "a"}})
    assert sum(verb == "POST" for verb, _ in faulty.seen) == 1


def test_a_namespace_whose_creation_went_unanswered_is_ours(
    faulty: FaultyApi, through: KubeApi
) -> None:
    first(faulty, "POST", "/api/v1/namespaces", Fault(lose_answer=True))
    create_namespace(through, "grpclb-faults-main-1", run=RUN)
    assert sum(verb == "POST" for verb, _ in faulty.seen) == 2
    delete_namespace(through, "grpclb-faults-main-1", run=RUN)


GONE = json.dumps(
    {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
).encode()


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(reset=True)],
        [Fault(reset_after_lines=0)],
        [Fault(reset_after_lines=1)],
        [Fault(status=410)],
        [Fault(status=500), Fault(status=429), Fault(status=409)],
        [Fault(line=GONE + b"\n", reset_after_lines=1)],
        [Fault(line=b"<html>Log in</html>\n"), Fault(line=b"[]\n"), Fault(line=b"{}\n")],
    ],
    ids=[
        "refused",
        "broken off",
        "broken off later",
        "gone",
        "overloaded",
        "gone on the way",
        "somebody else's",
    ],
)
def test_a_watch_that_breaks_off_goes_on_and_misses_nothing(
    faulty: FaultyApi, through: KubeApi, api: KubeApi, namespace: str, faults: list[Fault]
) -> None:
    waiting = list(faults)

    def plan(verb: str, path: str) -> Fault | None:
        return waiting.pop(0) if verb == "GET" and "watch=1" in path and waiting else None

    faulty.plan = plan
    watch = PodWatch(through, namespace, {"app": "a"})
    try:
        for number in range(5):  # the image is none: what counts is that the pods are there
            pod = {
                "metadata": {"name": f"pod-{number}", "labels": {"app": "a"}},
                "spec": {"containers": [{"name": "main", "image": "none:1"}]},
            }
            api.request("POST", PODS.path(namespace), body=pod)
        assert watch.wait_for(lambda pods: len(pods) == 5, timeout_s=TIMEOUT_S)
        for number in range(4):
            api.delete(PODS, namespace, f"pod-{number}", grace_s=0)
        assert watch.wait_for(
            lambda pods: not waiting and [pod.name for pod in pods] == ["pod-4"],
            timeout_s=TIMEOUT_S,
        )
    finally:
        watch.close()


def test_a_watch_that_is_not_allowed_is_reported(
    faulty: FaultyApi, through: KubeApi, namespace: str
) -> None:
    always(faulty, "GET", Fault(status=403))
    watch = PodWatch(through, namespace, {"app": "a"})
    try:
        with pytest.raises(ApiError, match="answered 403"):
            watch.wait_for(lambda _pods: False, timeout_s=TIMEOUT_S)
    finally:
        watch.close()


def test_an_existing_cluster_that_does_not_answer_is_named(
    faulty: FaultyApi, embedded_cluster: EmbeddedCluster
) -> None:
    always(faulty, "GET", Fault(status=503))
    cluster = KubeconfigCluster(
        ClusterRequest(
            directory=faulty.folder,
            kubeconfig=str(faulty.leads_here),
            context=embedded_cluster.context,
            image="programs:1",
        )
    )
    try:
        cluster.start()
        with pytest.raises(ClusterStartError) as caught:
            cluster.wait()
    finally:
        cluster.close()
    assert str(caught.value) == (
        f"cluster provider 'kubeconfig' did not start: context {embedded_cluster.context!r} of "
        f"{faulty.leads_here}: GET /version: the Kubernetes API answered 503: Injected: injected"
    )
