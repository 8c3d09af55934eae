"""Runs plans on the driver, the client program in the cluster, and collects their calls."""

from __future__ import annotations

import queue
import threading
import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.errors import DriverError
from pytest_grpclb.model import Calls, CallTemplate, Connection, Failure, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ClientView", "DriverClient", "DriverRun", "Plan"]

_RUN = "/grpclb.driver.v1.Driver/Run"
_CONNECT_S = 15.0
"""The driver's pod is ready before it is dialled; what is left is a port-forward's set-up."""
_FINISH_S = 30.0
"""After Stop: the longest deadline that calls in flight are expected to have, and a margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one run of the driver shall do."""

    target: Target
    call: CallTemplate
    channels: int = 1
    own_subchannel_pools: bool = True
    concurrency: int = 8
    rate_per_s: float | None = None
    """None: closed loop with ``concurrency`` calls in flight; else that many calls a second."""
    calls: int = 0
    """Counted calls; 0: until stopped."""
    warm_up_backends: int = 1
    warm_up_timeout_s: float = 5.0

    def message(self) -> pb.RunRequest:
        """Write it down for the driver."""
        plan = pb.Plan(
            target=self.target.address,
            service_config=self.target.service_config,
            channels=self.channels,
            own_subchannel_pools=self.own_subchannel_pools,
            calls=self.calls,
            call=pb.Call(
                method=self.call.method,
                request=self.call.request,
                timeout_s=self.call.timeout_s,
                metadata=[pb.Metadata(key=key, value=text) for key, text in self.call.metadata],
                backend_key=self.call.backend_key,
            ),
            warm_up=pb.WarmUp(backends=self.warm_up_backends, timeout_s=self.warm_up_timeout_s),
        )
        for name, value in self.target.arguments:
            if isinstance(value, int):
                plan.arguments.add(name=name, int_value=value)
            else:
                plan.arguments.add(name=name, string_value=value)
        if self.rate_per_s is None:
            plan.closed.concurrency = self.concurrency
        else:
            plan.open.rate_per_s = self.rate_per_s
        return pb.RunRequest(plan=plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientView:
    """What the client's channels knew when the driver last told."""

    connections: tuple[Connection, ...] = ()
    picker_rebuilds: int | None = None
    """Since counting began; None: the client's gRPC does not tell."""
    resolutions: int = 0


@dataclass(slots=True)
class _Columns:
    sequence: array[int] = field(default_factory=lambda: array("Q"))
    channel: array[int] = field(default_factory=lambda: array("L"))
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    done_s: array[float] = field(default_factory=lambda: array("d"))
    backend: array[int] = field(default_factory=lambda: array("l"))
    status: array[int] = field(default_factory=lambda: array("L"))
    identities: list[str] = field(default_factory=list)


class DriverClient:
    """A connection to the driver's control port."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(
            address,
            options=[("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)],
        )

    def close(self) -> None:
        """Close the connection; a run that is under way is cancelled by it."""
        self._channel.close()

    def start(self, plan: Plan) -> DriverRun:
        """Start *plan* and return when its counting has begun.

        :raises DriverError: if the driver cannot be reached or refuses the plan
        """
        run = DriverRun(self._channel, plan, self._address)
        try:
            run.wait_started(plan.warm_up_timeout_s + _CONNECT_S)
        except BaseException:
            run.cancel()
            raise
        return run


class DriverRun:
    """One run of the driver: its calls so far, and the way to end it."""

    def __init__(self, channel: Any, plan: Plan, address: str) -> None:
        self._address = address
        self._requests: queue.SimpleQueue[pb.RunRequest | None] = queue.SimpleQueue()
        self._requests.put(plan.message())
        self._changed = threading.Condition()
        self._columns = _Columns()
        self._failures: list[Failure] = []
        self._first_report: pb.ChannelReport | None = None
        self._report: pb.ChannelReport | None = None
        self._clock_offset_s: float | None = None
        self._started: pb.Started | None = None
        self._finished = False
        self._error = ""
        method = channel.stream_stream(
            _RUN,
            request_serializer=pb.RunRequest.SerializeToString,
            response_deserializer=pb.RunResponse.FromString,
        )
        self._responses = method(self._outgoing(), wait_for_ready=True)
        self._thread = threading.Thread(target=self._read, name="grpclb-driver-run", daemon=True)
        self._thread.start()

    # --- the caller's side

    def wait_started(self, timeout_s: float) -> None:
        """Return when counting has begun.

        :raises DriverError: if that takes longer than *timeout_s* or the driver gives up
        """
        with self._changed:
            began = self._changed.wait_for(
                lambda: self._started is not None or self._finished, timeout_s
            )
            if self._started is None:
                why = self._error if began else f"no answer within {timeout_s:g} s"
                raise DriverError(f"driver at {self._address}: the run did not start: {why}")

    @property
    def started_at_s(self) -> float:
        """When counting began, on this process's monotonic clock."""
        assert self._started is not None
        return self._local_s(self._started.clock_s)

    @property
    def warm_up_seen(self) -> tuple[int, ...]:
        """Distinct backends that each channel had seen when counting began."""
        assert self._started is not None
        return tuple(self._started.backends_seen)

    @property
    def warm_up_error(self) -> str:
        """The last warm-up call that failed: code and details; empty if none did."""
        assert self._started is not None
        return str(self._started.warm_up_error)

    @property
    def finished(self) -> bool:
        """Whether all calls have ended and were reported."""
        return self._finished

    def wait_change(self, timeout_s: float) -> None:
        """Return when more calls were reported, the run has ended, or the time has passed."""
        with self._changed:
            before = len(self._columns.sequence)
            self._changed.wait_for(
                lambda: self._finished or len(self._columns.sequence) > before, timeout_s
            )

    def wait_finished(self, timeout_s: float | None = None) -> None:
        """Return when all calls have ended and were reported.

        :raises DriverError: if the run ended early, or not within *timeout_s*
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._finished, timeout_s):
                raise DriverError(
                    f"driver at {self._address}: the run had not ended {timeout_s:g} s after "
                    f"it was asked to; {len(self._columns.sequence)} calls were reported"
                )
            if self._error:
                raise DriverError(f"driver at {self._address}: the run ended early: {self._error}")

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
            columns, offset_s = self._columns, self._clock_offset_s or 0.0
            return Calls(
                sequence=columns.sequence[:],
                channel=columns.channel[:],
                sent_s=array("d", (moment + offset_s for moment in columns.sent_s)),
                done_s=array("d", (moment + offset_s for moment in columns.done_s)),
                backend=columns.backend[:],
                status=columns.status[:],
                identities=tuple(columns.identities),
            )

    def failures(self) -> tuple[Failure, ...]:
        """Return the details of failed calls; at most 20 of each status."""
        with self._changed:
            return tuple(self._failures)

    def client_view(self) -> ClientView:
        """Return what the client's channels last told of themselves."""
        with self._changed:
            first, last = self._first_report, self._report
        if first is None or last is None:
            return ClientView()
        rebuilds: int | None = 0
        for before, after in zip(first.channels, last.channels, strict=True):
            if not (before.HasField("picker_rebuilds") and after.HasField("picker_rebuilds")):
                rebuilds = None
                break
            rebuilds += after.picker_rebuilds - before.picker_rebuilds  # type: ignore[operator]
        return ClientView(
            connections=tuple(
                Connection(
                    channel=channel.channel,
                    address=subchannel.address,
                    state=subchannel.state,
                    calls_started=subchannel.calls_started,
                    connections=subchannel.connections,
                )
                for channel in last.channels
                for subchannel in channel.subchannels
            ),
            picker_rebuilds=rebuilds,
            resolutions=sum(channel.resolutions for channel in last.channels),
        )

    # --- the reading thread

    def _outgoing(self) -> Iterator[pb.RunRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        error = ""
        try:
            for response in self._responses:
                with self._changed:
                    self._take(response)
                    self._changed.notify_all()
                    if self._finished:
                        return
            error = "the driver closed the stream without a word"
        except grpc.RpcError as failure:
            error = f"{failure.code().name}: {failure.details()}"
        finally:
            self._requests.put(None)
            with self._changed:
                self._error = self._error or error
                self._finished = True
                self._changed.notify_all()

    def _take(self, response: pb.RunResponse) -> None:
        kind = response.WhichOneof("response")
        if kind == "columns":
            self._take_columns(response.columns)
        elif kind == "started":
            self._take_clock(response.started.clock_s)
            self._started = response.started
        elif kind == "report":
            self._take_clock(response.report.clock_s)
            self._first_report = self._first_report or response.report
            self._report = response.report
        elif kind == "finished":
            self._error = response.finished.error
            self._finished = True

    def _take_columns(self, message: pb.Columns) -> None:
        columns = self._columns
        columns.sequence.extend(message.sequence)
        columns.channel.extend(message.channel)
        columns.sent_s.extend(message.sent_s)
        columns.done_s.extend(message.done_s)
        columns.backend.extend(message.backend)
        columns.status.extend(message.status)
        columns.identities.extend(message.identities)
        self._failures.extend(
            Failure(sequence=each.sequence, status=each.status, details=each.details)
            for each in message.failures
        )

    def _take_clock(self, clock_s: float) -> None:
        """Keep the smallest difference of the clocks: the message that was the least delayed."""
        offset_s = time.monotonic() - clock_s
        if self._clock_offset_s is None or offset_s < self._clock_offset_s:
            self._clock_offset_s = offset_s

    def _local_s(self, clock_s: float) -> float:
        return clock_s + (self._clock_offset_s or 0.0)
