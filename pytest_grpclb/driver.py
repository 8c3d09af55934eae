"""Runs plans on the driver, the client program in the cluster, and collects their calls."""

from __future__ import annotations

import math
import queue
import threading
import time
from array import array
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.client_events import changes
from pytest_grpclb.errors import DriverError
from pytest_grpclb.model import (
    UNKNOWN_BACKEND,
    Calls,
    CallTemplate,
    Connection,
    Event,
    Failure,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    report_interval_s: float = 0.0
    """At most this long until a call is reported; 0: what the driver thinks fit."""

    def message(self) -> pb.RunRequest:
        """Write it down for the driver."""
        plan = pb.Plan(
            target=self.target.address,
            service_config=self.target.service_config,
            channels=self.channels,
            own_subchannel_pools=self.own_subchannel_pools,
            calls=self.calls,
            report_interval_s=self.report_interval_s,
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
        if self.target.authority_pem is not None:
            plan.credentials.root_certificates = self.target.authority_pem
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
    events: tuple[Event, ...] = ()
    """Since counting began; what happened to addresses and connections, as of the reports."""


@dataclass(slots=True)
class _Columns:
    sequence: array[int] = field(default_factory=lambda: array("Q"))
    channel: array[int] = field(default_factory=lambda: array("L"))
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    done_s: array[float] = field(default_factory=lambda: array("d"))
    backend: array[int] = field(default_factory=lambda: array("l"))
    status: array[int] = field(default_factory=lambda: array("L"))
    identities: list[str] = field(default_factory=list)


class _NonsenseError(Exception):
    """The driver said what cannot be: no verdict may rest on it."""


class DriverClient:
    """A connection to the driver's control port."""

    def __init__(self, address: str, *, identify: Callable[[str], str] = str) -> None:
        """Connect when it is first used.

        :param address: "host:port"
        :param identify: returns the UID of a backend by what named it in a response
        """
        self._address, self._identify = address, identify
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
        run = DriverRun(self._channel, plan, self._address, identify=self._identify)
        try:
            run.wait_started(plan.warm_up_timeout_s + _CONNECT_S)
        except BaseException:
            run.cancel()
            raise
        return run


class DriverRun:
    """One run of the driver: its calls so far, and the way to end it."""

    def __init__(
        self, channel: Any, plan: Plan, address: str, *, identify: Callable[[str], str] = str
    ) -> None:
        self._address, self._identify = address, identify
        self._requests: queue.SimpleQueue[pb.RunRequest | None] = queue.SimpleQueue()
        self._requests.put(plan.message())
        self._changed = threading.Condition()
        self._columns = _Columns()
        self._failures: list[Failure] = []
        self._first_report: pb.ChannelReport | None = None
        self._report: pb.ChannelReport | None = None
        self._events: list[Event] = []
        self._clock_s = -math.inf
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
            self.check()

    def check(self) -> None:
        """Return if the run goes on, or has ended as it should.

        :raises DriverError: if it ended early
        """
        if self._finished and self._error:
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
                identities=tuple(map(self._identify, columns.identities)),
            )

    def answered(self, start: int) -> list[tuple[int, str | None]]:
        """Return sequence number and backend of the calls reported so far, from row *start* on.

        The backend is None where the call failed, or nothing named who answered.
        """
        with self._changed:
            columns = self._columns
            identities = [self._identify(each) for each in columns.identities]
            rows = zip(
                columns.sequence[start:],
                columns.backend[start:],
                columns.status[start:],
                strict=True,
            )
            return [
                (
                    sequence,
                    identities[backend] if status == 0 and backend != UNKNOWN_BACKEND else None,
                )
                for sequence, backend, status in rows
            ]

    def failures(self) -> tuple[Failure, ...]:
        """Return the details of failed calls; at most 20 of each status."""
        with self._changed:
            return tuple(self._failures)

    def client_view(self) -> ClientView:
        """Return what the client's channels last told of themselves."""
        with self._changed:
            first, last, events = self._first_report, self._report, tuple(self._events)
        if first is None or last is None:
            return ClientView()
        rebuilds: int | None = 0
        for before, after in zip(first.channels, last.channels, strict=True):
            if not (before.HasField("picker_rebuilds") and after.HasField("picker_rebuilds")):
                rebuilds = None
                break
            rebuilds += after.picker_rebuilds - before.picker_rebuilds  # type: ignore[operator]
        return ClientView(
            connections=_connections(last),
            picker_rebuilds=rebuilds,
            events=tuple(replace(event, at_s=self._local_s(event.at_s)) for event in events),
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
        except _NonsenseError as failure:
            error = str(failure)
            self._responses.cancel()
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
            self._take_report(response.report)
        elif kind == "finished":
            self._error = response.finished.error
            self._finished = True

    def _take_report(self, report: pb.ChannelReport) -> None:
        if self._report is None:
            self._first_report = report
        else:
            before, after = _connections(self._report), _connections(report)
            self._events += changes(before, after, at_s=report.clock_s)
        self._report = report

    def _take_columns(self, message: pb.Columns) -> None:
        columns = self._columns
        _check_columns(message, known=len(columns.identities) + len(message.identities))
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
        if not clock_s >= self._clock_s:
            raise _NonsenseError(f"its clock stepped back from {self._clock_s} s to {clock_s} s")
        self._clock_s = clock_s
        offset_s = time.monotonic() - clock_s
        if self._clock_offset_s is None or offset_s < self._clock_offset_s:
            self._clock_offset_s = offset_s

    def _local_s(self, clock_s: float) -> float:
        return clock_s + (self._clock_offset_s or 0.0)


def _connections(report: pb.ChannelReport) -> tuple[Connection, ...]:
    return tuple(
        Connection(
            channel=channel.channel,
            address=subchannel.address,
            state=subchannel.state,
            calls_started=subchannel.calls_started,
            connections=subchannel.connections,
            subchannel=subchannel.id,
        )
        for channel in report.channels
        for subchannel in channel.subchannels
    )


def _check_columns(message: pb.Columns, *, known: int) -> None:
    """Raise unless every call has all its columns, a backend that was named, and took time.

    :param known: identities told so far
    """
    lengths = {
        name: len(getattr(message, name))
        for name in ("sequence", "channel", "sent_s", "done_s", "backend", "status")
    }
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise _NonsenseError(f"its columns differ in length: {told}")
    rows = zip(message.sequence, message.sent_s, message.done_s, message.backend, strict=True)
    for sequence, sent_s, done_s, backend in rows:
        if not done_s >= sent_s:
            raise _NonsenseError(
                f"call {sequence} was sent at {sent_s} s and ended at {done_s} s on its clock, "
                "which stepped back"
            )
        if not UNKNOWN_BACKEND <= backend < known:
            raise _NonsenseError(f"call {sequence} names backend {backend} of {known}")
