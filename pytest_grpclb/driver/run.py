"""One run of the driver: its calls so far, and the way to end it.

The way to the driver may break off: on real clusters it is a port-forward through the Kubernetes
API. The calls are sent by the driver and do not notice; what it has to tell of them waits there
until it is heard again.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.driver.told import NonsenseError, Told
from pytest_grpclb.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.driver.plan import Plan
    from pytest_grpclb.driver.told import ClientView
    from pytest_grpclb.model import Calls, Failure, Stream

__all__ = ["DriverRun", "is_lost"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_RUN = "/grpclb.driver.v1.Driver/Run"
_RESPONSES = "grpclb-responses"
_FINISH_S = 30.0
"""After Stop: the longest deadline that calls in flight are expected to have, and a margin."""
_AWAY_S = 60.0
"""As long as a broken connection may stay away: an API server that is restarted is back then."""
_PAUSE_S = 0.2
"""Between two tries to find a run again."""
_GOODBYE_S = 1.0
"""For the driver to take note that a run is not wanted any more."""
_ACKNOWLEDGED = 64
"""Responses that the driver keeps, at the most, beyond those that are under way."""


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
        has_ended: Callable[[], bool] = bool,
        given_up: list[str] | None = None,
    ) -> None:
        self._address, self._explain, self._has_ended = address, explain, has_ended
        # Names of the client's runs that the driver may not know to be unwanted.
        self._given_up = [] if given_up is None else given_up
        self._changed = threading.Condition()
        self._told = Told(identify=identify, allowed=plan.call.allowed_status)
        self._taken = self._behind = 0
        self._stopping = False
        self._unwanted = threading.Event()
        self._away = False
        self._finished = False
        self._error = ""
        self.lost = False
        """Whether the connection to the driver broke off for good."""
        self._method = channel.stream_stream(
            _RUN,
            request_serializer=pb.RunRequest.SerializeToString,
            response_deserializer=pb.RunResponse.FromString,
        )
        self._name = uuid.uuid4().hex
        request = plan.message()
        request.plan.run = self._name
        request.plan.given_up.extend(self._given_up)
        self._open(request)
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
        """Return if the run goes on, or has ended as it should; it is waited for while it is lost.

        :raises DriverError: if it ended early
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._away, _AWAY_S)
        if self._finished and self._error:
            raise DriverError(f"driver at {self._address}: the run ended early: {self._why()}")

    def _why(self) -> str:
        explanation = self._explain() if self.lost else ""
        return f"{self._error}; {explanation}" if explanation else self._error

    def stop(self) -> None:
        """Send no further call and wait for those in flight.

        :raises DriverError: as `wait_finished`
        """
        with self._changed:
            self._stopping = True
            self._requests.put(pb.RunRequest(stop=pb.Stop()))
            self._changed.wait_for(lambda: not self._away, _AWAY_S)
        self.wait_finished(_FINISH_S)

    def cancel(self) -> None:
        """End the run at once; calls in flight are not reported."""
        with self._changed:
            self._unwanted.set()
            if not self._finished:
                self._given_up.append(self._name)
            # A run that has begun survives its stream, unless it is told not to.
            self._requests.put(pb.RunRequest(cancel=pb.Cancel()))
            self._requests.put(None)
            goodbye_s = _GOODBYE_S if self.has_started and not self._away else 0.0
        self._thread.join(goodbye_s)
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

    def _open(self, request: pb.RunRequest) -> None:
        """Begin a stream with *request*; what is put into `_requests` from now on follows it."""
        self._requests: queue.SimpleQueue[pb.RunRequest | None] = queue.SimpleQueue()
        self._requests.put(request)
        outgoing = iter(self._requests.get, None)
        self._responses = self._method(outgoing, wait_for_ready=request.HasField("plan"))

    def _read(self) -> None:
        error = ""
        try:
            error = self._follow()
        except NonsenseError as failure:
            error = str(failure)
            self._dismiss()
        except Exception as failure:  # noqa: BLE001  # such as a channel that was closed meanwhile
            error = f"{type(failure).__name__}: {failure}"
        finally:
            self._requests.put(None)
            with self._changed:
                self._error, self._finished, self._away = error, True, False
                self._changed.notify_all()

    def _dismiss(self) -> None:
        """End the run, whose stream is of no more use."""
        self._given_up.append(self._name)
        self._requests.put(pb.RunRequest(cancel=pb.Cancel()))
        giving_up = threading.Timer(_GOODBYE_S, self._responses.cancel)
        giving_up.start()
        with contextlib.suppress(grpc.RpcError):
            for _ in self._responses:
                pass
        giving_up.cancel()

    def _follow(self) -> str:
        """Take in what the driver tells, to the end, and return what went wrong.

        :raises NonsenseError: if what it says cannot be
        """
        lost, until_s = "", 0.0
        while True:
            try:
                return self._hear()
            except grpc.RpcError as failure:
                told, broken = f"{failure.code().name}: {failure.details()}", is_lost(failure)
            if not lost:
                lost, until_s = told, time.monotonic() + _AWAY_S
            if not broken or not self.has_started:
                # A driver that does not know the run any more is another one than it was.
                self.lost = broken or lost != told
                return lost
            with self._changed:
                self._away = True
            if self._has_ended() or time.monotonic() > until_s or self._unwanted.wait(_PAUSE_S):
                self.lost = True
                return lost
            if self._resume(until_s):
                lost = ""

    def _hear(self) -> str:
        """Take in what one stream tells, to its end; return what is wrong with that."""
        for response in self._responses:
            self._take(response)
            if self._told.finished is not None:
                return self._told.finished.error
        return "the driver closed the stream without a word"

    def _take(self, response: pb.RunResponse) -> None:
        with self._changed:
            self._told.take(response)
            self._taken += 1
            if self._taken == 1 or self._taken % _ACKNOWLEDGED == 0:
                self._requests.put(pb.RunRequest(taken=pb.Taken(responses=self._taken)))
            self._away = self._away and self._taken < self._behind
            self._changed.notify_all()

    def _resume(self, until_s: float) -> bool:
        """Ask for the rest of the run on a new stream; return whether it will be told.

        :param until_s: when a driver that does not answer is given up
        """
        resume = pb.Resume(run=self._name, taken=self._taken)
        with self._changed:
            self._open(pb.RunRequest(resume=resume))
            if self._stopping:
                self._requests.put(pb.RunRequest(stop=pb.Stop()))
            wait_s = max(0.0, until_s - time.monotonic())
            if self._unwanted.is_set():
                self._requests.put(pb.RunRequest(cancel=pb.Cancel()))
                wait_s = min(wait_s, _GOODBYE_S)
        giving_up = threading.Timer(wait_s, self._responses.cancel)
        giving_up.start()
        # They come at once, or the stream has failed.
        metadata = {each.key: each.value for each in self._responses.initial_metadata() or ()}
        giving_up.cancel()
        if _RESPONSES not in metadata:
            return False
        with self._changed:
            # What happened meanwhile is still to be told.
            self._behind = int(metadata[_RESPONSES])
            self._away = self._taken < self._behind
            self._changed.notify_all()
        return True


def is_lost(error: grpc.RpcError) -> bool:
    """Tell whether the connection broke off, which releases of gRPC's core tell in two ways."""
    if error.code() is grpc.StatusCode.UNKNOWN:
        return "Stream removed" in (error.details() or "")
    return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
