"""The greeter, a sample backend: it says hello and names the pod that it runs in."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc._cython import cygrpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from pytest_grpclb._pb import helloworld_pb2
from pytest_grpclb.programs import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = "helloworld.Greeter"
_LOG = logging.getLogger(__name__)
_DRAIN_S = 10.0


def main(argv: list[str]) -> int:
    """Serve until SIGTERM, drain, and return the exit code.

    :raises ProgramError: if the environment cannot be used or the port is taken
    """
    flags = serving.parser("greeter", __doc__, port=50051)
    flags.add_argument(
        "--delay-ms",
        type=_delay_s,
        default=0.0,
        dest="delay_s",
        metavar="MS",
        help="wait so long before each answer",
    )
    flags.add_argument(
        "--stream-interval-ms",
        type=_delay_s,
        default=1.0,
        dest="stream_interval_s",
        metavar="MS",
        help="wait so long between two greetings of SayHelloStreamReply (default: 1000)",
    )
    flags.add_argument(
        "--tls",
        type=Path,
        metavar="DIRECTORY",
        help="serve TLS with the tls.crt and tls.key in it, as a Secret is mounted",
    )
    options = flags.parse_args(argv)
    serving.start_log()
    credentials = None if options.tls is None else _credentials(options.tls)
    asyncio.run(_serve(options, credentials))
    return 0


def _credentials(directory: Path) -> Any:
    """Return the TLS of a server whose certificate and key are in *directory*."""
    try:
        chain = (directory / "tls.crt").read_bytes()
        key = (directory / "tls.key").read_bytes()
    except OSError as error:
        raise serving.ProgramError(
            f"--tls={directory}: {error.filename}: {error.strerror}; mount a Secret of the type "
            "kubernetes.io/tls there",
            exit_code=serving.MISUSED,
        ) from error
    return grpc.ssl_server_credentials([(key, chain)])


def _delay_s(text: str) -> float:
    try:
        delay_ms = float(text)
    except ValueError:
        delay_ms = math.nan
    if not 0 <= delay_ms <= 3_600_000:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be used; expected milliseconds, 0 to 3600000"
        )
    return delay_ms / 1000


class _Identity(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Names the pod, and how it was reached, in the initial metadata of the answers.

    It sees to unary answers of every service; streams of the greeter call `name`.
    """

    def __init__(self, *, uid: str, name: str) -> None:
        self._metadata = (("grpclb-backend", uid), ("grpclb-backend-name", name))

    async def name(self, context: Any) -> None:
        """Send the initial metadata of an answer."""
        secured = context.auth_context().get("transport_security_type") == [b"ssl"]
        transport = ("grpclb-transport", "tls" if secured else "plaintext")
        await context.send_initial_metadata((*self._metadata, transport))

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def answer(request: Any, context: Any) -> Any:
            await self.name(context)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )


class _Greeter:
    """The methods of the service."""

    def __init__(
        self, pod: str, identity: _Identity, *, delay_s: float, stream_interval_s: float
    ) -> None:
        self._pod, self._identity = pod, identity
        self._delay_s, self._stream_interval_s = delay_s, stream_interval_s

    def handlers(self) -> dict[str, Any]:
        """Return the handler of each method, by its name."""
        codec = {
            "request_deserializer": helloworld_pb2.HelloRequest.FromString,
            "response_serializer": helloworld_pb2.HelloReply.SerializeToString,
        }
        return {
            "SayHello": grpc.unary_unary_rpc_method_handler(self._say_hello, **codec),
            "SayHelloStreamReply": grpc.unary_stream_rpc_method_handler(
                self._say_hello_stream_reply, **codec
            ),
            "SayHelloBidiStream": grpc.stream_stream_rpc_method_handler(
                self._say_hello_bidi_stream, **codec
            ),
        }

    async def _say_hello(
        self, request: helloworld_pb2.HelloRequest, _context: Any
    ) -> helloworld_pb2.HelloReply:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        return helloworld_pb2.HelloReply(message=f"Hello {request.name} from {self._pod}")

    async def _say_hello_stream_reply(
        self, request: helloworld_pb2.HelloRequest, context: Any
    ) -> AsyncIterator[helloworld_pb2.HelloReply]:
        await self._identity.name(context)
        while True:
            yield await self._say_hello(request, context)
            await asyncio.sleep(self._stream_interval_s)

    async def _say_hello_bidi_stream(
        self, requests: AsyncIterator[helloworld_pb2.HelloRequest], context: Any
    ) -> AsyncIterator[helloworld_pb2.HelloReply]:
        await self._identity.name(context)
        async for request in requests:
            yield await self._say_hello(request, context)


async def _serve(options: argparse.Namespace, credentials: Any) -> None:
    told = serving.ending()
    pod = os.environ.get("POD_NAME") or socket.gethostname()
    age_s = serving.seconds_from_environment("GRPC_MAX_CONNECTION_AGE")
    grace_s = serving.seconds_from_environment("GRPC_MAX_CONNECTION_AGE_GRACE")
    drain_s = serving.seconds_from_environment("GRPCLB_DRAIN_S") or _DRAIN_S

    # Without so_reuseport=0 a second greeter on the same port would silently share its calls.
    arguments = [("grpc.so_reuseport", 0), ("grpc.enable_channelz", 1)]
    if age_s is not None:
        arguments.append(("grpc.max_connection_age_ms", round(age_s * 1000)))
    if grace_s is not None:
        arguments.append(("grpc.max_connection_age_grace_ms", round(grace_s * 1000)))
    identity = _Identity(uid=os.environ.get("POD_UID") or pod, name=pod)
    server = grpc.aio.server(interceptors=[identity], options=arguments)
    greeter = _Greeter(
        pod, identity, delay_s=options.delay_s, stream_interval_s=options.stream_interval_s
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, greeter.handlers()),)
    )
    state = await serving.add_health(server, SERVICE)
    channelz.add_channelz_servicer(server)
    reflection.enable_server_reflection(
        (
            SERVICE,
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
            channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
        ),
        server,
    )
    address = serving.listen(server, options.port, credentials)
    await server.start()
    _LOG.info("listening on %s", address)
    await told.wait()
    _LOG.info("told to end")
    await state.enter_graceful_shutdown()
    await _drain(server, drain_s=drain_s, age_s=age_s)


async def _drain(server: Any, *, drain_s: float, age_s: float | None) -> None:
    """Let clients go without a failed call, then stop.

    A gRPC server that stops cancels the calls that reach it before its GOAWAY reaches the client.
    So a server whose connections age goes on serving until the last has aged out: a client that
    looks the name up again does not come back. Without an age nothing makes clients leave, and
    that race is gRPC's own; a preStop sleep does not help there either.
    """
    until = time.monotonic() + drain_s
    if age_s is not None:
        # A client may reconnect once before it looks the name up; an age is jittered by 10 %.
        leave_by = time.monotonic() + min(2 * 1.1 * age_s, drain_s / 2)
        while _connections() and time.monotonic() < leave_by:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    await server.stop(max(0.0, until - time.monotonic()))
    _LOG.info("drained")


def _connections() -> int:
    """Return how many connections this process's one server has."""
    servers = json.loads(cygrpc.channelz_get_servers(0)).get("server", [])
    return sum(
        len(
            json.loads(
                cygrpc.channelz_get_server_sockets(int(server["ref"]["serverId"]), 0, 0)
            ).get("socketRef", [])
        )
        for server in servers
    )
