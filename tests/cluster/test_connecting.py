"""Certificates that are not checked, and proxies between the test process and the API."""

from __future__ import annotations

import json
import select
import socket
import socketserver
import ssl
import threading
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import urllib3
from urllib3.exceptions import InsecureRequestWarning

from pytest_grpclb.clusters.api import connecting, kube
from pytest_grpclb.clusters.api.connecting import configured
from pytest_grpclb.clusters.api.kube import NAMESPACES, PODS, KubeApi
from pytest_grpclb.clusters.pods.watch import PodWatch
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there: what goes by it fails."""
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def unverified(embedded_cluster: EmbeddedCluster, tmp_path: Path) -> Iterator[KubeApi]:
    """A connection by a kubeconfig that says nothing of who vouches for the API."""
    config = json.loads(embedded_cluster.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    del cluster["certificate-authority-data"]
    cluster["insecure-skip-tls-verify"] = True
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    api = KubeApi(path, embedded_cluster.context, scratch=tmp_path)
    yield api
    api.close()


def test_a_certificate_that_is_not_checked_is_no_warning_where_the_kubeconfig_says_so(
    unverified: KubeApi, namespace: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert namespace in {each["metadata"]["name"] for each in unverified.list(NAMESPACES)}
        watch = PodWatch(unverified, namespace, {"app": "none"})
        try:
            assert watch.wait_for(lambda pods: not pods, timeout_s=10)
        finally:
            watch.close()
        stranger = unverified.without_credentials()
        with pytest.raises(ApiError, match="answered 401"):
            stranger.list(NAMESPACES)
        stranger.close()
        with pytest.raises(ApiError, match="answered 404"):
            unverified.websocket(
                PODS.path(namespace, "missing", "portforward") + "?ports=1", "v4.channel.k8s.io"
            )


def test_the_warnings_of_others_stay(
    unverified: KubeApi, embedded_cluster: EmbeddedCluster
) -> None:
    unverified.list(NAMESPACES)
    config = json.loads(embedded_cluster.kubeconfig.read_text())
    server = config["clusters"][0]["cluster"]["server"]
    with (
        urllib3.PoolManager(cert_reqs=ssl.CERT_NONE) as theirs,
        pytest.warns(InsecureRequestWarning),
    ):
        assert theirs.request("GET", f"{server}/version").status == 401


def test_no_proxy_of_the_environment_stands_before_a_cluster_of_this_machine(
    embedded_cluster: EmbeddedCluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in VARIABLES[:-1]:
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.lower(), NOWHERE)
    api = KubeApi(embedded_cluster.kubeconfig, embedded_cluster.context, scratch=tmp_path)
    try:
        assert api.list(PODS, namespace) == []
        with pytest.raises(ApiError, match="answered 404"):
            api.websocket(
                PODS.path(namespace, "missing", "portforward") + "?ports=1", "v4.channel.k8s.io"
            )
    finally:
        api.close()


@pytest.mark.parametrize(
    ("host", "environment", "told", "proxy"),
    [
        ("https://api.example.com:6443", {"HTTPS_PROXY": NOWHERE}, None, NOWHERE),
        ("http://api.example.com", {"HTTPS_PROXY": NOWHERE}, None, None),
        (
            "https://api.example.com",
            {"HTTPS_PROXY": NOWHERE, "NO_PROXY": ".example.com"},
            None,
            None,
        ),
        ("https://10.0.0.1", {"HTTPS_PROXY": NOWHERE}, None, NOWHERE),
        ("https://127.4.0.1:6443", {"HTTPS_PROXY": NOWHERE}, None, None),
        ("https://localhost:6443", {"HTTPS_PROXY": NOWHERE}, None, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": NOWHERE}, None, None),
        ("https://api.example.com", {}, "http://told:1", "http://told:1"),
        ("https://127.0.0.1", {"NO_PROXY": "*"}, "http://told:1", "http://told:1"),
    ],
)
def test_the_proxy_is_the_kubeconfigs_else_the_environments(
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    environment: dict[str, str],
    told: str | None,
    proxy: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def load(configuration: Any) -> None:
        configuration.host = host
        if told:
            configuration.proxy = told

    assert configured(load).proxy == proxy


class Proxy(socketserver.BaseRequestHandler):
    """Leads to where a CONNECT says."""

    asked: ClassVar[list[str]] = []

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(65536)
        verb, place, _ = head.decode().split(" ", 2)
        assert verb == "CONNECT"
        self.asked.append(head.decode())
        host, _, port = place.partition(":")
        with socket.create_connection((host, int(port))) as beyond:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {self.request: beyond, beyond: self.request}
            while True:
                for ready in select.select(list(ends), [], [])[0]:
                    piece = ready.recv(65536)
                    if not piece:
                        return
                    ends[ready].sendall(piece)


def test_requests_and_port_forwards_go_by_the_proxy_that_is_told(
    embedded_cluster: EmbeddedCluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the environment says that nothing goes by a proxy: kubectl does so, too."""
    monkeypatch.setenv("NO_PROXY", "*")
    Proxy.asked.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            original = connecting.configured
            place = f"http://me:p%40ss@127.0.0.1:{server.server_address[1]}"

            def told(load: Callable[[Any], None]) -> Any:
                configuration = original(load)
                configuration.proxy, configuration.no_proxy = place, ""
                return configuration

            # Not every version of the client reads proxy-url from a kubeconfig.
            monkeypatch.setattr(kube, "configured", told)
            api = KubeApi(embedded_cluster.kubeconfig, embedded_cluster.context, scratch=tmp_path)
            assert api.list(PODS, namespace) == []
            with pytest.raises(ApiError, match="answered 404"):
                api.websocket(
                    PODS.path(namespace, "missing", "portforward") + "?ports=1", "v4.channel.k8s.io"
                )
            api.close()
        finally:
            server.shutdown()
            thread.join()
    assert len(Proxy.asked) == 2
    assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in Proxy.asked[1]


def test_the_kernel_asks_after_the_api_while_a_connection_is_silent(
    api: KubeApi, unverified: KubeApi
) -> None:
    for connected in (api, unverified):
        connected.list(NAMESPACES)
        connection = connected._pool.connection_from_url(connected.server).pool.get(block=False)
        sock = connection.sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        between_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        times = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle_s + times * between_s == 25
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        connection.close()
