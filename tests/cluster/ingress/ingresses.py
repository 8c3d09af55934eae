"""What the tests of calls through an Ingress share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import KubeApi, Resource
from pytest_grpclb.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.handle import Grpclb

INGRESSES = Resource("networking.k8s.io/v1", "ingresses", namespaced=True)
SERVICES = Resource("v1", "services", namespaced=True)
SECRETS = Resource("v1", "secrets", namespaced=True)

PROTOCOL = "nginx.ingress.kubernetes.io/backend-protocol"
PASSTHROUGH = "nginx.ingress.kubernetes.io/ssl-passthrough"
FAKE = "CN=Kubernetes Ingress Controller Fake Certificate,O=Acme Co"


def refusal(grpclb: Grpclb) -> list[str]:
    """Return the mismatches that keep the first call from being sent."""
    with pytest.raises(PreflightError) as caught:
        grpclb.drive(calls=10)
    assert str(caught.value).startswith(
        f"Ingress 'grpclb-ingress' does not lead {grpclb.ingress.host!r} to the backends:\n- "
    )
    assert caught.value.host == grpclb.ingress.host
    return list(caught.value.mismatches)


def pod_of(grpclb: Grpclb) -> str:
    # Its probe may be late on a busy machine, and the pod not ready for a moment.
    wait_until(lambda: len(grpclb.backends()) == 1)
    [name] = [backend.name for backend in grpclb.backends()]
    return name


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def patch(api: KubeApi, where: Resource, namespace: str, body: dict[str, Any]) -> None:
    api.request(
        "PATCH",
        where.path(namespace, "grpclb-ingress"),
        body=body,
        content_type="application/merge-patch+json",
    )
