"""gRPC health checks for the cluster process, in a fork of the zygote, which has gRPC imported.

Asked over a socket, one JSON object a line: {"id": ..., "target": "ip:port", "service": ...,
"timeout_s": ...}; answers {"id": ..., "failure": message}, the message empty if all is well.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from pytest_grpclb.clusters.embedded.node.probes import go_duration, unconnected

__all__ = ["main"]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # pods are on loopback: no proxy of the user's is on the way
    ("grpc.use_local_subchannel_pool", 1),  # a check says something only of a connection of its own
    ("grpc.primary_user_agent", "kube-probe"),
)


async def check(target: str, service: str, timeout_s: float) -> str:
    """Ask a server for its health; return why it is not healthy, or nothing.

    :source: gRPC Health Checking Protocol; Kubernetes, ``pkg/probe/grpc`` (the messages)
    """
    request = health_pb2.HealthCheckRequest(service=service)
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            # Who does not speak HTTP/2, as one who wants TLS, is dialled again until time is up.
            response = await call(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if late and channel.get_state() is not grpc.ChannelConnectivity.READY:
                return unconnected(target, timeout_s)
            return _explain(error, timeout_s)
    if response.status == _SERVING:
        return ""
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return f'service unhealthy (responded with "{status}")'


def _explain(error: grpc.aio.AioRpcError, timeout_s: float) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return (
                "error: this server does not implement the grpc health protocol "
                f"(grpc.health.v1.Health): {error.details()}"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"timeout: health rpc did not complete within {go_duration(timeout_s)}"
        case code:
            name = code.name.title().replace("_", "").replace("Cancelled", "Canceled")
            told = f"rpc error: code = {name} desc = {error.details()}"
            return f"error: health rpc probe failed: {told}"


async def _serve(asked: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=asked)
    running: set[asyncio.Task[None]] = set()

    async def answer(line: bytes) -> None:
        order = json.loads(line)
        failure = await check(order["target"], order["service"], order["timeout_s"])
        writer.write(json.dumps({"id": order["id"], "failure": failure}).encode() + b"\n")

    while line := await reader.readline():
        task = asyncio.create_task(answer(line))
        running.add(task)
        task.add_done_callback(running.discard)


def main(descriptor: int) -> None:
    """Serve until the cluster process closes the socket *descriptor*, or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(_serve(socket.socket(fileno=descriptor)))
