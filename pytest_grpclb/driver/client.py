"""Starts plans on the driver, the client program in the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

import grpc

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.driver.run import DriverRun, is_lost
from pytest_grpclb.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.driver.plan import Plan

__all__ = ["DriverClient"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_EXCHANGE = "/grpclb.driver.v1.Driver/Exchange"
_CONNECT_S = 15.0
"""The driver's pod is ready before it is dialled; what is left is a port-forward's set-up."""
_STARTS = 3
"""Tries to start a run, or to exchange messages: nothing is counted before a run has begun."""
_RECONNECT_MS = (200, 2000)
"""Between two tries of a broken connection, at first and at most: gRPC's own limit is 2 minutes."""


class DriverClient:
    """A connection to the driver's control port."""

    def __init__(
        self,
        address: str,
        *,
        identify: Callable[[str], str] = str,
        explain: Callable[[], str] = str,
        has_ended: Callable[[], bool] = bool,
    ) -> None:
        """Connect when it is first used.

        :param address: "host:port"
        :param identify: returns the UID of a backend by what named it in a response
        :param explain: returns why the connection broke off, as far as that is known, for people
        :param has_ended: returns whether the driver is known to have ended
        """
        self._address, self._identify, self._explain = address, identify, explain
        self._has_ended = has_ended
        self._runs: WeakSet[DriverRun] = WeakSet()
        self._given_up: list[str] = []
        soon, late = _RECONNECT_MS
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.initial_reconnect_backoff_ms", soon),
                ("grpc.max_reconnect_backoff_ms", late),
            ],
        )

    def close(self) -> None:
        """Cancel the runs that are under way, and close the connection."""
        for run in list(self._runs):
            if not run.finished:
                run.cancel()
        self._channel.close()

    def start(self, plan: Plan) -> DriverRun:
        """Start *plan* and return when its counting has begun.

        It is started again where the connection breaks off before that, and found again where it
        does afterwards.

        :raises DriverError: if the driver cannot be reached or refuses the plan
        """
        timeout_s, lost = plan.warm_up_timeout_s + _CONNECT_S, ""
        for attempt in range(1, _STARTS + 1):
            run = DriverRun(
                self._channel,
                plan,
                self._address,
                identify=self._identify,
                explain=self._explain,
                has_ended=self._has_ended,
                given_up=self._given_up,
            )
            self._runs.add(run)
            try:
                run.wait_settled(timeout_s)
                if not run.lost or run.has_started or attempt == _STARTS:
                    run.require_started(timeout_s, lost=lost)
                    return run
            except BaseException:
                run.cancel()
                raise
            lost = run.error
            run.cancel()
        raise AssertionError("unreachable: the last attempt returns or raises")

    def exchange(self, plan: Plan) -> tuple[list[bytes], int, str]:
        """Send each request of the plan's call on a stream, one after the other, until one fails.

        :return: the answers, the last one's gRPC status code, and its details
        :raises DriverError: if the driver cannot be reached or refuses the plan
        """
        method = self._channel.unary_unary(
            _EXCHANGE,
            request_serializer=pb.Plan.SerializeToString,
            response_deserializer=pb.Answers.FromString,
        )
        message = plan.message().plan
        message.call.wait_for_ready = True
        lost = ""
        for attempt in range(1, _STARTS + 1):
            try:
                answers = method(
                    message,
                    timeout=plan.call.timeout_s + _CONNECT_S,
                    wait_for_ready=True,
                )
            except grpc.RpcError as error:
                told = f"{error.code().name}: {error.details()}"
                if is_lost(error):
                    lost = told
                    if attempt < _STARTS:
                        continue
                elif lost:
                    told = f"{told}, after {lost}"
                why = f"{told}; {self._explain()}" if lost else told
                raise DriverError(
                    f"driver at {self._address}: no exchange of {plan.call.method}: "
                    f"{why.removesuffix('; ')}"
                ) from error
            return list(answers.responses), answers.status, answers.details
        raise AssertionError("unreachable: the last attempt returns or raises")
