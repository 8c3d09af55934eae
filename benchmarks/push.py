"""From a change of the Kubernetes API's endpoints to the list that a balancer pushes to its client.

Budget: 50 ms. The clock starts before the request that makes the change, so that the API's own
time counts too; a bare request of the same size tells how much that is.

    python benchmarks/push.py
"""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
import yaml

from pytest_grpclb._pb import load_balancer_pb2 as pb
from pytest_grpclb.clusters import ClusterRequest, find
from pytest_grpclb.clusters.api.kube import KubeApi
from pytest_grpclb.deployment import temporary_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANGES = 100
BUDGET_S = 0.05
NAMESPACE, SERVICE = "benchmark", "shop"


def main() -> None:
    """Make changes one after the other, and print the median and its ratio."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        cluster = find("embedded")(ClusterRequest(directory=Path(folder) / "cluster"))
        stack.callback(cluster.close)
        cluster.start()
        cluster.wait()
        api = KubeApi(cluster.kubeconfig, cluster.context)
        stack.enter_context(temporary_namespace(api, NAMESPACE, run="benchmark"))
        api.apply([endpoint_slice(0)], namespace=NAMESPACE)
        account = Path(folder) / "account"
        write_account(account, cluster.kubeconfig)
        address = stack.enter_context(balancer(account, urlsplit(api.server)))
        pushed_s, asked_s = measure(api, stack.enter_context(client(address)))
    median_s, bare_s = statistics.median(pushed_s), statistics.median(asked_s)
    print(
        f"pushed {1e3 * median_s:.1f} ms after the request began, median of {CHANGES}, "
        f"from {1e3 * min(pushed_s):.1f} to {1e3 * max(pushed_s):.1f}; "
        f"the request itself {1e3 * bare_s:.1f} ms"
    )
    print(f"ratio to the budget of {1e3 * BUDGET_S:g} ms: {median_s / BUDGET_S:.2f}")


def endpoint_slice(number: int) -> dict[str, Any]:
    """Return the endpoints of the Service: one ready pod, told apart by its address."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 50051}],
        "endpoints": [{"addresses": [f"10.0.0.{number + 1}"], "conditions": {"ready": True}}],
    }


def write_account(directory: Path, kubeconfig: Path) -> None:
    """Write what a pod is given of its service account."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    directory.mkdir()
    (directory / "ca.crt").write_bytes(base64.b64decode(authority))
    (directory / "token").write_text(config["users"][0]["user"]["token"], encoding="ascii")


@contextlib.contextmanager
def balancer(account: Path, api: Any) -> Iterator[str]:
    """Run a balancer of the Service, and give its address."""
    environment = {
        "KUBERNETES_SERVICE_HOST": api.hostname,
        "KUBERNETES_SERVICE_PORT": str(api.port),
        "GRPCLB_SERVICEACCOUNT_DIR": str(account),
        "GRPCLB_LISTEN_IP": "127.0.0.1",
    }
    arguments = ["--port=0", f"--service={SERVICE}", f"--namespace={NAMESPACE}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_grpclb.programs", "balancer", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stderr is not None
    try:
        yield next(line for line in process.stderr if "listening on" in line).split()[-1]
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def client(address: str) -> Iterator[Any]:
    """Open a stream to the balancer, and give the lists that come."""
    requests: queue.SimpleQueue[pb.LoadBalanceRequest | None] = queue.SimpleQueue()
    initial = pb.InitialLoadBalanceRequest(name=SERVICE)
    requests.put(pb.LoadBalanceRequest(initial_request=initial))
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        balance = channel.stream_stream(
            "/grpc.lb.v1.LoadBalancer/BalanceLoad",
            request_serializer=pb.LoadBalanceRequest.SerializeToString,
            response_deserializer=pb.LoadBalanceResponse.FromString,
        )
        call = balance(iter(requests.get, None), wait_for_ready=True)
        try:
            yield (each.server_list for each in call if each.HasField("server_list"))
        finally:
            call.cancel()
            requests.put(None)


def measure(api: KubeApi, lists: Iterator[pb.ServerList]) -> tuple[list[float], list[float]]:
    """Return how long each push took, and each request, both from the request's start, in s."""
    where = api.resource("discovery.k8s.io/v1", "EndpointSlice")
    path = where.path(NAMESPACE, SERVICE)
    pushed_s, asked_s = [], []
    next(lists)
    for number in range(1, CHANGES + 1):
        began_s = time.perf_counter()
        api.request("PUT", path, body=endpoint_slice(number))
        asked_s.append(time.perf_counter() - began_s)
        [server] = next(lists).servers
        pushed_s.append(time.perf_counter() - began_s)
        assert server.ip_address[-1] == number + 1, "a push of another change"
    return pushed_s, asked_s


if __name__ == "__main__":
    main()
