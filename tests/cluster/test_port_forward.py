"""A local port that leads to a pod through the API."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.api.kube import PODS
from pytest_grpclb.clusters.api.portforward import forwarded
from pytest_grpclb.clusters.pods.watch import PodWatch
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.api.kube import KubeApi

ECHO = """
import os, socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

Server((os.environ["GRPCLB_LISTEN_IP"], 7000), Echo).serve_forever()
"""


@pytest.fixture
def echo(api: KubeApi, namespace: str) -> Iterator[str]:
    """A pod that sends back on port 7000 what it gets."""
    container = {
        "name": "main",
        "image": "python",
        "args": ["-c", ECHO],
        "readinessProbe": {"tcpSocket": {"port": 7000}, "periodSeconds": 1},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    pod = {"metadata": {"name": "echo", "labels": {"app": "echo"}}, "spec": spec}
    api.request("POST", PODS.path(namespace), body=pod)
    watch = PodWatch(api, namespace, {"app": "echo"})
    try:
        assert watch.wait_for(lambda pods: any(pod.ready for pod in pods), timeout_s=30)
    finally:
        watch.close()
    yield "echo"
    api.delete(PODS, namespace, "echo", grace_s=0)


def connect(address: str) -> socket.socket:
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := connection.recv(65536)):
        data += piece
    return data


def test_several_connections_carry_bytes_both_ways(api: KubeApi, namespace: str, echo: str) -> None:
    much = bytes(range(256)) * 20_000  # 5 MB: more than all buffers on the way hold
    with forwarded(api, namespace, echo, 7000) as address:
        with connect(address) as one, connect(address) as two:
            one.sendall(b"one")
            two.sendall(b"two")
            assert (received(two, 3), received(one, 3)) == (b"two", b"one")
            sender = threading.Thread(target=one.sendall, args=(much,))
            sender.start()
            assert received(one, len(much)) == much
            sender.join()
        with connect(address) as another:
            another.sendall(b"again")
            assert received(another, 5) == b"again"


def test_a_port_that_nobody_listens_on_ends_the_connection_and_is_logged(
    api: KubeApi, namespace: str, echo: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, logger="pytest_grpclb"),
        forwarded(api, namespace, echo, 7001) as address,
        connect(address) as connection,
    ):
        assert received(connection, 1) == b""
    assert "error forwarding port 7001 to pod echo: " in caplog.text


def test_a_pod_that_goes_ends_its_connections(api: KubeApi, namespace: str, echo: str) -> None:
    with forwarded(api, namespace, echo, 7000) as address, connect(address) as connection:
        connection.sendall(b"here")
        assert received(connection, 4) == b"here"
        api.delete(PODS, namespace, echo, grace_s=0)
        assert received(connection, 1) == b""


def test_a_pod_that_is_not_there_is_an_error_by_name(api: KubeApi, namespace: str) -> None:
    with pytest.raises(ApiError) as caught, forwarded(api, namespace, "missing", 7000):
        pass
    assert str(caught.value) == (
        f"GET /api/v1/namespaces/{namespace}/pods/missing/portforward?ports=7000: "
        'the Kubernetes API answered 404: NotFound: pods "missing" not found'
    )
