"""Round robin over three servers, checked by hand: no cluster, no plugin, nothing of this project.

What a capable engineer writes for CI, and so the yardstick of the plugin's cold start.

    python benchmarks/by_hand.py
    python -m pytest benchmarks/by_hand.py
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent import futures
from typing import Any

import grpc

SERVERS = 3
CALLS = 584
IN_FLIGHT = 8
METHOD = "/helloworld.Greeter/SayHello"
ROUND_ROBIN = '{"loadBalancingConfig":[{"round_robin":{}}]}'


def serve(name: str) -> None:
    """Answer calls as *name* on a free port, told on standard output, until killed."""

    def say_hello(_request: bytes, context: Any) -> bytes:
        context.send_initial_metadata((("backend", name),))
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(), options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(say_hello)
    service, method = METHOD.strip("/").split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def check(ports: list[int]) -> Counter[str]:
    """Return how many of the calls each server answered.

    :raises AssertionError: if they are not as even as round robin makes them
    """
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    options = [("grpc.service_config", ROUND_ROBIN), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options=options) as channel:
        say_hello = channel.unary_unary(METHOD)

        def backend(_call: int = 0) -> str:
            _, call = say_hello.with_call(b"", timeout=10, wait_for_ready=True)
            return str(dict(call.initial_metadata())["backend"])

        warm: set[str] = set()
        while len(warm) < SERVERS:
            warm.add(backend())
        with futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
            counts = Counter(pool.map(backend, range(CALLS)))
    assert len(counts) == SERVERS, counts
    assert max(counts.values()) - min(counts.values()) <= 1, counts
    return counts


def test_round_robin_over_three_servers() -> None:
    """Start the servers, check them, and print the counts."""
    servers = [
        subprocess.Popen([sys.executable, __file__, f"server-{number}"], stdout=subprocess.PIPE)
        for number in range(SERVERS)
    ]
    try:
        ports = [int(server.stdout.readline()) for server in servers if server.stdout]
        for name, calls in sorted(check(ports).items()):
            print(f"{name}: {calls}")
    finally:
        for server in servers:
            server.kill()
            server.communicate()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    else:
        test_round_robin_over_three_servers()
