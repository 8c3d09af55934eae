"""Runs plans on the driver, the client program in the cluster, and collects their calls."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.errors import DriverError
from pytest_grpclb.told import NonsenseError, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.model import Calls, Failure, Stream
    from pytest_grpclb.plans import Plan
    from pytest_grpclb.told import ClientView

__all__ = ["DriverClient", "DriverRun"]

_RUN = "/grpclb.driver.v1.Driver/Run"
_EXCHANGE = "/grpclb.driver.v1.Driver/Exchange"
_CONNECT_S = 15.0
"""The driver's pod is ready before it is dialled; what is left is a port-forward's set-up."""
_STARTS = 3
"""Tries to start a run, or to exchange messages: nothing is counted before a run has begun."""
_FINISH_S = 30.0
"""After Stop: the longest deadline that calls in flight are expected to have, and a margin."""


class DriverClient:
    """A connection to the driver's control port."""

    def __init__(
        self,
        address: str,
        *,
        identify: Callable[[str], str] = str,
        explain: Callable[[], str] = str,
    ) -> None:
        """Connect when it is first used.

        :param address: "host:port"
        :param identify: returns the UID of a backend by what named it in a response
        :param explain: returns why the connection broke off, as far as that is known, for people
        """
        self._address, self._identify, self._explain = address, identify, explain
        self._channel = grpc.insecure_channel(
            address,
            options=[("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)],
        )

    def close(self) -> None:
        """Close the connection; a run that is under way is cancelled by it."""
        self._channel.close()

    def start(self, plan: Plan) -> DriverRun:
        """Start *plan* and return when its counting has begun.

        It is started again where the connection breaks off before that.

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
            )
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
                if _is_lost(error):
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


class DriverRun:
    """One run of the driver: its calls so far, and the way to end it."""

    def __init__(
        self,
        channel: Any,
        plan: Plan,
        address: str,
        *,
        identify: Callable[[str], str] = str,
        explain: Callable[[], str] = str,
    ) -> None:
        self._address, self._explain = address, explain
        self._requests: queue.SimpleQueue[pb.RunRequest | None] = queue.SimpleQueue()
        self._requests.put(plan.message())
        self._changed = threading.Condition()
        self._told = Told(identify=identify, allowed=plan.call.allowed_status)
        self._finished = False
        self._error = ""
        self.lost = False
        """Whether the connection to the driver broke off."""
        method = channel.stream_stream(
            _RUN,
            request_serializer=pb.RunRequest.SerializeToString,
            response_deserializer=pb.RunResponse.FromString,
        )
        self._responses = method(self._outgoing(), wait_for_ready=True)
        self._thread = threading.Thread(target=self._read, name="grpclb-driver-run", daemon=True)
        self._thread.start()

    # --- the caller's side

    @property
    def error(self) -> str:
        """Why it ended early; empty: it has not."""
        return self._error

    @property
    def has_started(self) -> bool:
        """Whether counting has begun."""
        return self._told.started is not None

    def wait_settled(self, timeout_s: float) -> None:
        """Return when counting has begun, the run has ended before, or the time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_started or self._finished, timeout_s)

    def require_started(self, waited_s: float, *, lost: str = "") -> None:
        """Return if counting has begun.

        :param waited_s: how long that was waited for
        :param lost: how an attempt before this one broke off
        :raises DriverError: if it has not: the driver gave up, or does not answer
        """
        if self.has_started:
            return
        why = self._why()
        if not self._finished:
            why = f"no answer within {waited_s:g} s"
            if lost:
                why = f"{why}, after {lost}; {self._explain()}".removesuffix("; ")
        raise DriverError(f"driver at {self._address}: the run did not start: {why}")

    @property
    def started_at_s(self) -> float:
        """When counting began, on this process's monotonic clock."""
        with self._changed:
            return self._told.started_at_s

    @property
    def warm_up_seen(self) -> tuple[int, ...]:
        """Distinct backends that each channel had seen when counting began."""
        assert self._told.started is not None
        return tuple(self._told.started.backends_seen)

    @property
    def warm_up_error(self) -> str:
        """The last warm-up call that failed: code and details; empty if none did."""
        assert self._told.started is not None
        return str(self._told.started.warm_up_error)

    @property
    def attributed(self) -> tuple[str, tuple[str, ...]]:
        """How it is known who answers; empty: it is not, for these ways named nobody."""
        with self._changed:
            return self._told.attributed

    @property
    def finished(self) -> bool:
        """Whether all calls have ended and were reported."""
        return self._finished

    def wait_change(self, timeout_s: float) -> None:
        """Return when more calls were reported, the run has ended, or the time has passed."""
        with self._changed:
            before = self._told.news
            self._changed.wait_for(lambda: self._finished or self._told.news > before, timeout_s)

    def wait_streams(self, streams: int, timeout_s: float) -> None:
        """Return when so many streams were answered or have ended, or the time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._told.news >= streams, timeout_s)

    def wait_finished(self, timeout_s: float | None = None) -> None:
        """Return when all calls have ended and were reported.

        :raises DriverError: if the run ended early, or not within *timeout_s*
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._finished, timeout_s):
                raise DriverError(
                    f"driver at {self._address}: the run had not ended {timeout_s:g} s after "
                    f"it was asked to; {len(self._told)} calls were reported"
                )
            self.check()

    def check(self) -> None:
        """Return if the run goes on, or has ended as it should.

        :raises DriverError: if it ended early
        """
        if self._finished and self._error:
            raise DriverError(f"driver at {self._address}: the run ended early: {self._why()}")

    def _why(self) -> str:
        explanation = self._explain() if self.lost else ""
        return f"{self._error}; {explanation}" if explanation else self._error

    def stop(self) -> None:
        """Send no further call and wait for those in flight.

        :raises DriverError: as `wait_finished`
        """
        self._requests.put(pb.RunRequest(stop=pb.Stop()))
        self.wait_finished(_FINISH_S)

    def cancel(self) -> None:
        """End the run at once; calls in flight are not reported."""
        self._requests.put(None)
        self._responses.cancel()
        self._thread.join()

    def calls(self) -> Calls:
        """Return the calls reported so far, their times on this process's monotonic clock."""
        with self._changed:
            return self._told.calls()

    def streams(self) -> tuple[Stream, ...]:
        """Return the streams reported so far, their times on this process's monotonic clock."""
        with self._changed:
            return self._told.streams()

    def answered(self, start: int) -> list[tuple[int, str | None]]:
        """Return sequence number and backend of the calls reported so far, from row *start* on.

        The backend is None where the call failed, or nothing named who answered.
        """
        with self._changed:
            return self._told.answered(start)

    def failures(self) -> tuple[Failure, ...]:
        """Return the details of failed calls; at most 1000 of each status."""
        with self._changed:
            return self._told.failures()

    def client_view(self) -> ClientView:
        """Return what the client's channels last told of themselves."""
        with self._changed:
            return self._told.client_view()

    # --- the reading thread

    def _outgoing(self) -> Iterator[pb.RunRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        error = ""
        try:
            for response in self._responses:
                with self._changed:
                    self._told.take(response)
                    self._changed.notify_all()
                    if self._told.finished is not None:
                        self._error = self._told.finished.error
                        return
            error = "the driver closed the stream without a word"
        except grpc.RpcError as failure:
            error = f"{failure.code().name}: {failure.details()}"
            self.lost = _is_lost(failure)
        except NonsenseError as failure:
            error = str(failure)
            self._responses.cancel()
        finally:
            self._requests.put(None)
            with self._changed:
                self._error = self._error or error
                self._finished = True
                self._changed.notify_all()


def _is_lost(error: grpc.RpcError) -> bool:
    """Tell whether the connection broke off, which releases of gRPC's core tell in two ways."""
    if error.code() is grpc.StatusCode.UNKNOWN:
        return "Stream removed" in (error.details() or "")
    return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
