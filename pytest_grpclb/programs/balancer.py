"""The balancer: tells gRPC clients which servers to use, and hears from them what they sent.

It speaks grpc.lb.v1 ("grpclb", the lookaside protocol): a client opens a stream, is told how often
to report, and then is sent the list of servers whenever it changes.

:source: https://github.com/grpc/grpc/blob/master/doc/load-balancing.md; gRFC A5 (SRV records)
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2

from pytest_grpclb._pb import load_balancer_pb2 as pb
from pytest_grpclb.programs import serving
from pytest_grpclb.programs.balancer_stats import ClientTotals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_grpclb.programs.balancer_endpoints import Server

SERVICE = "grpc.lb.v1.LoadBalancer"
_LOG = logging.getLogger(__name__)

# What clients in the middle of opening a stream are given before connections are cut.
_GRACE_S = 1.0
_LONGEST_INTERVAL_S = 3600.0


def main(argv: list[str]) -> int:
    """Serve until SIGTERM and return the exit code.

    :raises ProgramError: if the environment cannot be used or the port is taken
    """
    flags = serving.parser("balancer", __doc__, port=50053)
    flags.add_argument("--service", required=True, help="the Service whose endpoints are given out")
    flags.add_argument("--port-name", default="grpc", help="of which port of the Service")
    flags.add_argument("--namespace", default="", help="of the Service; default: the pod's own")
    flags.add_argument(
        "--report-interval-s",
        type=_interval_s,
        default=1.0,
        metavar="SECONDS",
        help="how often clients report their calls; 0: never",
    )
    options = flags.parse_args(argv)
    serving.start_log()
    asyncio.run(_serve(options))
    return 0


def _interval_s(text: str) -> float:
    try:
        interval_s = float(text)
    except ValueError:
        interval_s = math.nan
    # gRPC's C core takes less than a second for a second.
    if interval_s != 0 and not 1.0 <= interval_s <= _LONGEST_INTERVAL_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be used; expected seconds, 1 to {_LONGEST_INTERVAL_S:g}, or 0"
        )
    return interval_s


async def _serve(options: argparse.Namespace) -> None:
    # Not above: http.client and ssl would make the start of every other program slower.
    from pytest_grpclb.programs.balancer_watch import Account, EndpointWatch

    told, loop = serving.ending(), asyncio.get_running_loop()
    account = Account.from_environment()
    balancer = Balancer(report_interval_s=options.report_interval_s)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    balance = grpc.stream_stream_rpc_method_handler(
        balancer.balance,
        request_deserializer=pb.LoadBalanceRequest.FromString,
        response_serializer=pb.LoadBalanceResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"BalanceLoad": balance}),)
    )
    health = await serving.add_health(server, SERVICE)
    # The process lives, but has nothing to give out: no client shall find it yet.
    await health.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
    address = serving.listen(server, options.port)
    await server.start()
    _LOG.info("listening on %s", address)

    def publish(servers: tuple[Server, ...]) -> None:
        loop.call_soon_threadsafe(balancer.publish, servers)

    watch = EndpointWatch(
        account,
        namespace=options.namespace or account.namespace() or "default",
        service=options.service,
        port_name=options.port_name,
        publish=publish,
    )
    watch.start()
    known, ending = loop.create_task(balancer.known()), loop.create_task(told.wait())
    await asyncio.wait((known, ending), return_when=asyncio.FIRST_COMPLETED)
    if known.done():
        await health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    await ending
    _LOG.info("told to end")
    watch.stop()
    await health.enter_graceful_shutdown()
    # First the connections, then the streams: clients shall come back to another balancer.
    stopping = loop.create_task(server.stop(_GRACE_S))
    await asyncio.sleep(0)
    balancer.end()
    await stopping
    known.cancel()


class Balancer:
    """The service.

    :param report_interval_s: how often clients are asked to report; 0: never
    """

    def __init__(self, *, report_interval_s: float) -> None:
        self._report_interval_s = report_interval_s
        self._list: pb.LoadBalanceResponse | None = None
        self._ended = False
        self._changed = asyncio.Event()

    def publish(self, servers: tuple[Server, ...]) -> None:
        """Give *servers* to all clients, those there are and those to come."""
        told = " ".join(map(str, servers)) or "none: calls fail until there is one"
        _LOG.info("servers: %s", told)
        self._list = pb.LoadBalanceResponse(
            server_list=pb.ServerList(
                servers=[
                    pb.Server(
                        ip_address=each.address, port=each.port, load_balance_token=each.token
                    )
                    for each in servers
                ]
            )
        )
        self._wake()

    def end(self) -> None:
        """End all streams, in good order."""
        self._ended = True
        self._wake()

    async def known(self) -> None:
        """Return once there is a list to give out."""
        while self._list is None:
            await self._changed.wait()

    def _wake(self) -> None:
        # Those who wait hold this event; who waits from now on waits for what comes next.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def balance(self, requests: AsyncIterator[pb.LoadBalanceRequest], context: Any) -> None:
        """Serve one client for as long as its stream stands."""
        first = await anext(requests, pb.LoadBalanceRequest())
        if not first.HasField("initial_request"):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the first request is {first.WhichOneof('load_balance_request_type')!r}; "
                "expected initial_request",
            )
        client = ClientTotals(f"client {context.peer()} of {first.initial_request.name!r}")
        _LOG.info("%s: came", client.name)
        initial = pb.LoadBalanceResponse(initial_response=pb.InitialLoadBalanceResponse())
        initial.initial_response.client_stats_report_interval.FromMilliseconds(
            round(self._report_interval_s * 1000)
        )
        # A message of its own: it shares a oneof with the list of servers.
        await context.write(initial)
        listening = asyncio.ensure_future(_listen(requests, client))
        try:
            await self._give(context, listening)
        finally:
            listening.cancel()
            _LOG.info("%s: went; %s", client.name, client)

    async def _give(self, context: Any, listening: asyncio.Future[None]) -> None:
        """Send the list, and again when it has changed, until the client or the balancer ends."""
        given: pb.LoadBalanceResponse | None = None
        while not (self._ended or listening.done()):
            changed = asyncio.ensure_future(self._changed.wait())
            if self._list is not None and self._list is not given:
                given = self._list
                await context.write(given)
            try:
                await asyncio.wait((changed, listening), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()


async def _listen(requests: AsyncIterator[pb.LoadBalanceRequest], client: ClientTotals) -> None:
    """Collect what a client reports until it says no more."""
    async for request in requests:
        if request.HasField("client_stats") and client.add(request.client_stats):
            _LOG.info("%s: %s", client.name, client)
