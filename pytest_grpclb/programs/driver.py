"""The driver: carries out plans of calls, and tells what became of each call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs import channels, serving
from pytest_grpclb.programs.plan import MAX_PLAN_BYTES, PlanError, checked, checked_exchange
from pytest_grpclb.programs.runs import Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = "grpclb.driver.v1.Driver"
_LOG = logging.getLogger(__name__)

# Runs that a SIGTERM stops still report what was in flight, if it ends in this time.
_GRACE_S = 1.0


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
        self._runs: set[Run] = set()

    def stop(self, error: str) -> None:
        """Stop every run, which each tells *error* as the reason."""
        for run in self._runs:
            run.stop(error)

    async def run(self, requests: AsyncIterator[driver_pb2.RunRequest], context: Any) -> None:
        """Carry out the plan that is the first request, or go on telling of one that was."""
        first = await anext(requests, driver_pb2.RunRequest())
        taken = 0
        if first.HasField("resume"):
            run = self._named(first.resume.run)
            taken = first.resume.taken
            if run is None:
                told = f"there is no run {first.resume.run!r}"
                await context.abort(grpc.StatusCode.NOT_FOUND, told)
                raise AssertionError(told)
            # At once: there may be nothing to tell for long.
            await context.send_initial_metadata((("grpclb-responses", str(run.responses)),))
        else:
            try:
                run = self._start(checked(first))
            except PlanError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                raise
        obeying = asyncio.create_task(_obey(requests, run))
        try:
            await run.tell(context, taken)
        except LookupError as error:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
        finally:
            obeying.cancel()
            await asyncio.gather(obeying, return_exceptions=True)

    def _named(self, name: str) -> Run | None:
        return next((run for run in self._runs if name and run.name == name), None)

    def _start(self, plan: driver_pb2.Plan) -> Run:
        if self._named(plan.run):
            raise PlanError("run", plan.run, expected="a name that no run has had")
        # Their calls would be in the way of others.
        for unwanted in [run for run in self._runs if run.name in plan.given_up]:
            unwanted.drop()
        run = Run(plan, over=self._runs.discard)
        self._runs.add(run)
        return run

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


async def _obey(requests: AsyncIterator[driver_pb2.RunRequest], run: Run) -> None:
    """Do with *run* what requests say; a client that says no more may still listen."""
    async for request in requests:
        match request.WhichOneof("request"):
            case "taken":
                run.take(request.taken.responses)
            case "stop":
                run.stop()
            case "cancel":
                run.drop()
            case other:
                run.stop(f"request: {other!r} cannot be used; expected stop, taken or cancel")
