"""The driver: carries out plans of calls, and tells what became of each call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs import channels, serving
from pytest_grpclb.programs.load import Caller, Load
from pytest_grpclb.programs.plan import MAX_PLAN_BYTES, PlanError, checked, checked_exchange
from pytest_grpclb.programs.streams import StreamCaller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_grpclb.programs.attribution import Attributor

SERVICE = "grpclb.driver.v1.Driver"
_LOG = logging.getLogger(__name__)

# Runs that a SIGTERM stops still report what was in flight, if it ends in this time.
_GRACE_S = 1.0

# How often the channels' accounts are looked at, as long as that takes no more than a fiftieth of
# the event loop's time: the traces that are read grow with every connection.
_REPORT_INTERVAL_S = 0.1
_REPORT_SHARE = 50


def main(argv: list[str]) -> int:
    """Serve until SIGTERM and return the exit code.

    :raises ProgramError: if the environment cannot be used or the port is taken
    """
    flags = serving.parser("driver", __doc__, port=50052)
    flags.add_argument(
        "--attached",
        action="store_true",
        help="write the address to standard output, and end when standard input closes",
    )
    options = flags.parse_args(argv)
    serving.start_log()
    asyncio.run(_serve(options.port, attached=options.attached))
    return 0


async def _serve(port: int, *, attached: bool) -> None:
    told = serving.ending()
    driver = Driver()
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_PLAN_BYTES)]
    )
    run = grpc.stream_stream_rpc_method_handler(
        driver.run,
        request_deserializer=driver_pb2.RunRequest.FromString,
        response_serializer=driver_pb2.RunResponse.SerializeToString,
    )
    exchange = grpc.unary_unary_rpc_method_handler(
        driver.exchange,
        request_deserializer=driver_pb2.Plan.FromString,
        response_serializer=driver_pb2.Answers.SerializeToString,
    )
    methods = {"Run": run, "Exchange": exchange}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    health = await serving.add_health(server, SERVICE)
    address = serving.listen(server, port)
    await server.start()
    _LOG.info("listening on %s", address)
    if attached:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        serving.end_with_input(told)
    await told.wait()
    _LOG.info("told to end")
    await health.enter_graceful_shutdown()
    driver.stop("the driver was told to end (SIGTERM)")
    await server.stop(_GRACE_S)


class Driver:
    """The service; runs at the same time share nothing but the process."""

    def __init__(self) -> None:
        self._loads: set[Load] = set()

    def stop(self, error: str) -> None:
        """Stop every run, which each tells *error* as the reason."""
        for load in self._loads:
            load.stop(error)

    async def run(self, requests: AsyncIterator[driver_pb2.RunRequest], context: Any) -> None:
        """Carry out the plan that is the first request."""
        try:
            plan = checked(await anext(requests, driver_pb2.RunRequest()))
        except PlanError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        _LOG.info("run: %d calls to %s", plan.calls, plan.target)
        async with channels.opened(plan) as opened:
            kind = StreamCaller if plan.call.HasField("stream") else Caller
            caller = kind([each.channel for each in opened], plan.call)
            load = Load(plan, caller)
            self._loads.add(load)
            try:
                async with asyncio.TaskGroup() as tasks:
                    obeying = tasks.create_task(_obey(requests, load))
                    await _carry_out(plan, load, opened, _Teller(context, caller.attributor))
                    obeying.cancel()
            finally:
                self._loads.discard(load)
        _LOG.info("run: %d calls ended", load.recorder.calls)

    async def exchange(self, plan: driver_pb2.Plan, context: Any) -> driver_pb2.Answers:
        """Send each of the plan's requests on a stream and return what was answered."""
        try:
            plan = checked_exchange(plan)
        except PlanError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        answers = driver_pb2.Answers()
        metadata = tuple((entry.key, entry.value) for entry in plan.call.metadata) or None
        async with channels.opened(plan) as [opened]:
            # A stream for each: where a server has no such method, a message that is sent on an
            # open stream meets its end, and gRPC for Python says INTERNAL in place of the status.
            method = opened.channel.unary_stream(plan.call.method)
            for request in plan.call.requests:
                call = method(
                    request,
                    timeout=plan.call.timeout_s,
                    metadata=metadata,
                    wait_for_ready=plan.call.wait_for_ready or None,
                )
                with contextlib.suppress(grpc.aio.AioRpcError):  # the call's own status says it
                    async for response in call:
                        answers.responses.append(response)
                code = await call.code()
                answers.status, answers.details = code.value[0], await call.details() or ""
                if code is not grpc.StatusCode.OK:
                    break
        return answers


class _Teller:
    """What a run writes to whoever started it."""

    def __init__(self, context: Any, attributor: Attributor) -> None:
        self._context, self._attributor = context, attributor
        self._told: tuple[str, tuple[str, ...]] | None = None

    async def write(self, **what: Any) -> None:
        await self._context.write(driver_pb2.RunResponse(**what))

    async def tell_calls(self, load: Load) -> None:
        for columns in load.recorder.take():
            await self.write(columns=columns)

    async def tell_attribution(self) -> None:
        """Tell how it is known who answers, where that is news."""
        attributor = self._attributor
        # Why other ways failed is of interest only as long as none has been found.
        known = (attributor.way, () if attributor.way else attributor.tried)
        if known != self._told:
            self._told = known
            way, tried = known
            await self.write(attributed=driver_pb2.Attributed(way=way, tried=tried))


async def _obey(requests: AsyncIterator[driver_pb2.RunRequest], load: Load) -> None:
    """Stop *load* when a request says so; a client that says no more may still listen."""
    async for request in requests:
        if request.HasField("stop"):
            load.stop()
        else:
            load.stop(f"request: {request.WhichOneof('request')!r} cannot be used; expected stop")


async def _carry_out(
    plan: driver_pb2.Plan, load: Load, opened: list[channels.Opened], teller: _Teller
) -> None:
    warm_up = await load.warm_up()
    started = driver_pb2.Started(
        clock_s=time.monotonic(),
        warm_up_calls=warm_up.calls,
        warm_up_s=warm_up.duration_s,
        backends_seen=warm_up.backends_seen,
        warm_up_error=warm_up.error,
    )
    # Before the first counted call, so that no change of a channel during counting is missed.
    report = channels.report(opened)
    await teller.write(started=started)
    await teller.tell_attribution()
    await teller.write(report=report)
    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(load.run())
        next_report_s = 0.0
        while not counting.done():
            await asyncio.wait({counting}, timeout=plan.report_interval_s)
            await teller.tell_calls(load)
            if (now_s := time.monotonic()) >= next_report_s:
                previous, report = report, channels.report(opened)
                took_s = time.monotonic() - now_s
                next_report_s = now_s + max(_REPORT_INTERVAL_S, _REPORT_SHARE * took_s)
                if _without_counts(report) != _without_counts(previous):
                    await teller.write(report=report)
    await teller.tell_calls(load)
    await teller.write(report=channels.report(opened))
    finished = driver_pb2.Finished(calls=load.recorder.calls, error=load.error)
    await teller.tell_attribution()
    await teller.write(finished=finished)


def _without_counts(report: driver_pb2.ChannelReport) -> driver_pb2.ChannelReport:
    """Return what of *report* is news: not the time, not that calls were sent."""
    news = driver_pb2.ChannelReport()
    news.CopyFrom(report)
    news.ClearField("clock_s")
    for channel in news.channels:
        for subchannel in channel.subchannels:
            subchannel.ClearField("calls_started")
    return news
