"""Services of the embedded cluster on the wire: DNS, ClusterIPs, and what happens to them."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import dns.message
import dns.query
import dns.rcode
import grpc
import pytest

from pytest_grpclb._pb import helloworld_pb2
from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, PODS, KubeApi, Resource

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICES = Resource("v1", "services", namespaced=True)
LABELS = {"app": "greeter"}
PORT = 50051
TIMEOUT_S = 20.0


def until(condition: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (result := condition()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return result


class Greeter:
    """A Deployment of greeters, a headless Service and one with a ClusterIP."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        fields = {
            name: {"valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in (("POD_UID", "metadata.uid"), ("POD_NAME", "metadata.name"))
        }
        container = {
            "name": "greeter",
            "image": "pytest-grpclb",
            "args": ["greeter", f"--port={PORT}"],
            "env": [{"name": name, **source} for name, source in fields.items()],
            "ports": [{"name": "grpc", "containerPort": PORT}],
            "readinessProbe": {"grpc": {"port": PORT}},
        }
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
        spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
        body = {"metadata": {"name": "greeter"}, "spec": spec}
        api.request("POST", DEPLOYMENTS.path(namespace), body=body)
        ports = [{"name": "grpc", "port": PORT, "targetPort": "grpc"}]
        for name, extra in (("headless", {"clusterIP": "None"}), ("stable", {})):
            body = {
                "metadata": {"name": name},
                "spec": {"selector": LABELS, "ports": ports, **extra},
            }
            made = api.request("POST", SERVICES.path(namespace), body=body)
        self.cluster_ip = made["spec"]["clusterIP"]

    def scale(self, replicas: int) -> None:
        path = DEPLOYMENTS.path(self.namespace, "greeter", "scale")
        self.api.request(
            "PATCH",
            path,
            body={"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
        )

    def pods(self) -> list[dict[str, Any]]:
        return self.api.list(PODS, self.namespace, selector="app=greeter")

    def ready_addresses(self) -> set[str]:
        return {
            pod["status"]["podIP"]
            for pod in self.pods()
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in pod["status"].get("conditions", ())
            )
        }

    def until_ready(self, replicas: int) -> set[str]:
        addresses: set[str] = until(
            lambda: found if len(found := self.ready_addresses()) == replicas else None
        )
        return addresses

    def say_hello(self, target: str) -> str:
        """Call once on a new connection; return the UID of the pod that answered."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(target, options=options) as channel:
            call = channel.unary_unary(
                "/helloworld.Greeter/SayHello",
                request_serializer=helloworld_pb2.HelloRequest.SerializeToString,
                response_deserializer=helloworld_pb2.HelloReply.FromString,
            )
            _, called = call.with_call(
                helloworld_pb2.HelloRequest(name="you"), timeout=10, wait_for_ready=True
            )
            return str(dict(called.initial_metadata())["grpclb-backend"])


@pytest.fixture
def greeter(api: KubeApi, namespace: str) -> Greeter:
    return Greeter(api, namespace)


@pytest.fixture
def name_server(api: KubeApi, namespace: str) -> tuple[str, int]:
    """Return where the cluster's DNS is, as a pod is told."""
    container = {"name": "c", "image": "shell", "args": ["-c", "echo $GRPCLB_CLUSTER_DNS"]}
    body = {
        "metadata": {"name": "asks"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    api.request("POST", PODS.path(namespace), body=body)
    until(lambda: api.get(PODS, namespace, "asks")["status"]["phase"] == "Succeeded")
    host, _, port = api.logs(namespace, "asks").strip().partition(":")
    return host, int(port)


def resolved(name_server: tuple[str, int], name: str, *, over_tcp: bool = False) -> set[str] | None:
    """Return the addresses of a name; None: there is no such name."""
    host, port = name_server
    ask = dns.query.tcp if over_tcp else dns.query.udp
    reply = ask(dns.message.make_query(name, "A"), host, port=port, timeout=5)
    if reply.rcode() == dns.rcode.NXDOMAIN:
        return None
    assert reply.rcode() == dns.rcode.NOERROR
    return {record.address for answer in reply.answer for record in answer}


def test_dns_follows_the_pods_of_a_headless_service(
    greeter: Greeter, name_server: tuple[str, int]
) -> None:
    name = f"headless.{greeter.namespace}.svc.cluster.local."
    addresses = greeter.until_ready(2)
    until(lambda: resolved(name_server, name) == addresses)
    greeter.scale(4)
    addresses = greeter.until_ready(4)
    until(lambda: resolved(name_server, name) == addresses)
    assert resolved(name_server, name, over_tcp=True) == addresses
    greeter.scale(0)
    until(lambda: resolved(name_server, name) is None)


def test_dns_answers_with_the_cluster_ip(greeter: Greeter, name_server: tuple[str, int]) -> None:
    name = f"stable.{greeter.namespace}.svc.cluster.local."
    assert resolved(name_server, name) == {greeter.cluster_ip}
    assert resolved(name_server, "kubernetes.default.svc.cluster.local.")


def test_connections_to_a_cluster_ip_reach_every_pod(greeter: Greeter) -> None:
    greeter.until_ready(2)
    target = f"{greeter.cluster_ip}:{PORT}"
    seen = {greeter.say_hello(target) for _ in range(50)}  # one pod alone: once in 2**49 runs
    assert seen == {pod["metadata"]["uid"] for pod in greeter.pods()}


def test_a_cluster_ip_without_pods_refuses(greeter: Greeter) -> None:
    greeter.until_ready(2)
    until(lambda: listens(greeter.cluster_ip))
    greeter.scale(0)
    until(lambda: not listens(greeter.cluster_ip))


def listens(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=5).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        pass  # it came in the moment in which the listener goes
    return True
