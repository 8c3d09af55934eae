"""What the preflight asks for, and what it does without."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.errors import ApiError, PreflightError

from .ingresses import (
    SERVICES,
    patch,
    pod_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.handle import Grpclb


# --- what a port-forward tells of a pod is no reason to fail


class Forwarding:
    """A cluster whose port-forwards end without a word, as to a service on its pod's address."""

    ingress_workers = None
    ingress_push_s = 1.0

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, 0

    @contextlib.contextmanager
    def reach(self, *_which: object) -> Iterator[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def hang_up() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        listener.accept()[0].close()

            thread = threading.Thread(target=hang_up)
            thread.start()
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


FORBIDDEN = ApiError("GET", "/api/v1/namespaces/n/pods/p/portforward", status=403)


@pytest.mark.parametrize("error", [None, FORBIDDEN])
def test_a_service_that_answers_needs_no_port_forward(
    installed: Callable[..., Grpclb], error: Exception | None
) -> None:
    cluster: Any = Forwarding(error)
    replace(installed(replicas=1).ingress, cluster=cluster).check()
    assert cluster.asked == 0


def test_what_a_port_forward_tells_explains_calls_that_fail(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    ports = [{"name": "grpc", "port": 50051, "protocol": "TCP", "targetPort": 50099}]
    patch(api, SERVICES, namespace, {"spec": {"ports": ports}})
    wait_until(lambda: not any(grpclb.ingress.answer().answered for _ in range(10)))
    forwarding: Any = Forwarding()
    forbidden: Any = Forwarding(FORBIDDEN)
    with pytest.raises(PreflightError) as caught:
        replace(grpclb.ingress, cluster=forwarding).check()
    assert caught.value.mismatches == (
        f"Service 'grpclb-ingress' has targetPort 50099, where pod {pod_of(grpclb)!r} does not "
        "answer a port-forward (container ports: grpc:50051): nothing listens there, or only on "
        "the pod's own address; if it is nothing, change targetPort",
    )
    # Who may not forward is told nothing of the pod; the run shows what comes of calls.
    replace(grpclb.ingress, cluster=forbidden).check()


# --- Secrets are others' affairs


@pytest.fixture
def asked(api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests for Secrets that are sent from here on; that of all namespaces is refused."""
    sent, request = [], api.request

    def watched(verb: str, path: str, **more: Any) -> Any:
        if path.rpartition("/")[2] == "secrets" or "/secrets/" in path:
            sent.append(f"{verb} {path} {more.get('query') or ''}".strip())
        if path == "/api/v1/secrets":
            raise ApiError(verb, path, status=403, message="only in namespaces")
        return request(verb, path, **more)

    monkeypatch.setattr(api, "request", watched)
    return sent


def test_only_the_secret_that_is_named_is_read(
    installed: Callable[..., Grpclb], namespace: str, asked: list[str]
) -> None:
    grpclb = installed(replicas=1)
    asked.clear()
    grpclb.ingress.check()
    assert asked == [f"GET /api/v1/namespaces/{namespace}/secrets/grpclb-ingress-tls"]


def test_other_namespaces_are_looked_into_once_where_it_is_missing(
    installed: Callable[..., Grpclb], namespace: str, asked: list[str]
) -> None:
    grpclb = installed(replicas=1, certificate="missing")
    for _ in range(3):
        assert grpclb.ingress.mismatches() == [
            f"there is no Secret 'grpclb-ingress-tls' in namespace {namespace!r}: "
            "spec.tls.secretName must name one in the Ingress's own namespace"
        ]
    everywhere = [each for each in asked if each.startswith("GET /api/v1/secrets")]
    assert everywhere == [
        "GET /api/v1/secrets {'fieldSelector': 'metadata.name=grpclb-ingress-tls'}"
    ]
