"""What a driver has told of its run so far: messages in, columns of calls and accounts out."""

from __future__ import annotations

import math
import time
from array import array
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_grpclb.client_events import changes
from pytest_grpclb.model import UNKNOWN_BACKEND, Calls, Connection, Event, Failure, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pytest_grpclb._pb import driver_pb2 as pb

__all__ = ["ClientView", "NonsenseError", "Told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientView:
    """What the client's channels knew when the driver last told."""

    connections: tuple[Connection, ...] = ()
    picker_rebuilds: int | None = None
    """Since counting began; None: the client's gRPC does not tell."""
    events: tuple[Event, ...] = ()
    """Since counting began; what happened to addresses and connections, as of the reports."""


class NonsenseError(Exception):
    """The driver said what cannot be: no verdict may rest on it."""


@dataclass(slots=True)
class _Columns:
    sequence: array[int] = field(default_factory=lambda: array("Q"))
    channel: array[int] = field(default_factory=lambda: array("L"))
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    done_s: array[float] = field(default_factory=lambda: array("d"))
    backend: array[int] = field(default_factory=lambda: array("l"))
    status: array[int] = field(default_factory=lambda: array("L"))
    identities: list[str] = field(default_factory=list)
    messages: list[tuple[int, int]] = field(default_factory=list)
    """Sent and received, where calls are streams."""
    opened: dict[int, tuple[int, float, float, int]] = field(default_factory=dict)
    """Of each stream that was answered, by its sequence number: channel, sent, opened, backend."""


class Told:
    """All that one run's driver has told. It knows no threads: who shares it, locks it."""

    def __init__(
        self,
        *,
        identify: Callable[[str], str] = str,
        allowed: Collection[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing.

        :param identify: returns the UID of a backend by what named it in a response
        :param allowed: gRPC status codes beside OK that are answers
        :param clock: the reader's, seconds; the driver's moments are told on it
        """
        self._identify, self._now_s = identify, clock
        self._allowed = frozenset(allowed)
        self._columns = _Columns()
        self._failures: list[Failure] = []
        self._first_report: pb.ChannelReport | None = None
        self._report: pb.ChannelReport | None = None
        self._events: list[Event] = []
        self._clock_s = -math.inf
        self._clock_offset_s: float | None = None
        self.started: pb.Started | None = None
        """Told when counting began."""
        self.attributed: tuple[str, tuple[str, ...]] = ("", ())
        """How it is known who answers, for people, and which ways named nobody."""
        self.finished: pb.Finished | None = None
        """Told at the end."""

    # --- in

    def take(self, response: pb.RunResponse) -> None:
        """Take in one message.

        :raises NonsenseError: if what it says cannot be
        """
        kind = response.WhichOneof("response")
        if kind == "columns":
            self._take_columns(response.columns)
        elif kind == "started":
            self._take_clock(response.started.clock_s)
            self.started = response.started
        elif kind == "report":
            self._take_clock(response.report.clock_s)
            self._take_report(response.report)
        elif kind == "attributed":
            told = response.attributed
            self.attributed = (told.way, tuple(told.tried))
        elif kind == "finished":
            self.finished = response.finished

    def _take_report(self, report: pb.ChannelReport) -> None:
        if self._report is None:
            self._first_report = report
        else:
            before, after = _connections(self._report), _connections(report)
            self._events += changes(before, after, at_s=report.clock_s)
        self._report = report

    def _take_columns(self, message: pb.Columns) -> None:
        columns = self._columns
        known = len(columns.identities) + len(message.identities)
        _check_columns(message, known=known)
        _check_opened(message, known=known)
        columns.sequence.extend(message.sequence)
        columns.channel.extend(message.channel)
        columns.sent_s.extend(message.sent_s)
        columns.done_s.extend(message.done_s)
        columns.backend.extend(message.backend)
        columns.status.extend(message.status)
        columns.identities.extend(message.identities)
        columns.messages.extend(zip(message.messages_sent, message.messages_received, strict=True))
        told = message.opened
        rows = zip(told.channel, told.sent_s, told.opened_s, told.backend, strict=True)
        columns.opened.update(zip(told.sequence, rows, strict=True))
        self._failures.extend(
            Failure(sequence=each.sequence, status=each.status, details=each.details)
            for each in message.failures
        )

    def _take_clock(self, clock_s: float) -> None:
        """Keep the smallest difference of the clocks: the message that was the least delayed."""
        if not clock_s >= self._clock_s:
            raise NonsenseError(f"its clock stepped back from {self._clock_s} s to {clock_s} s")
        self._clock_s = clock_s
        offset_s = self._now_s() - clock_s
        if self._clock_offset_s is None or offset_s < self._clock_offset_s:
            self._clock_offset_s = offset_s

    # --- out

    def __len__(self) -> int:
        """Return how many calls were told of."""
        return len(self._columns.sequence)

    @property
    def news(self) -> int:
        """How much was told so far: of calls that they ended, of streams that they opened, too."""
        return len(self) + len(self._columns.opened)

    @property
    def started_at_s(self) -> float:
        """When counting began, on the reader's clock."""
        assert self.started is not None
        return self._local_s(self.started.clock_s)

    def calls(self) -> Calls:
        """Return the calls told so far, their times on the reader's clock."""
        columns, offset_s = self._columns, self._clock_offset_s or 0.0
        return Calls(
            sequence=columns.sequence[:],
            channel=columns.channel[:],
            sent_s=array("d", (moment + offset_s for moment in columns.sent_s)),
            done_s=array("d", (moment + offset_s for moment in columns.done_s)),
            backend=columns.backend[:],
            status=columns.status[:],
            identities=tuple(map(self._identify, columns.identities)),
            allowed=self._allowed,
        )

    def streams(self) -> tuple[Stream, ...]:
        """Return the streams told so far, in the order of their opening, on the reader's clock."""
        columns, offset_s = self._columns, self._clock_offset_s or 0.0
        identities = ["", *map(self._identify, columns.identities)]
        found = {
            sequence: Stream(
                sequence=sequence,
                channel=channel,
                sent_s=sent_s + offset_s,
                opened_s=opened_s + offset_s,
                backend=identities[backend + 1],
            )
            for sequence, (channel, sent_s, opened_s, backend) in columns.opened.items()
        }
        # Unary calls have no messages: nothing is found then.
        for row, (sent, received) in enumerate(columns.messages):
            sequence = columns.sequence[row]
            opened = columns.opened.get(sequence)
            found[sequence] = Stream(
                sequence=sequence,
                channel=columns.channel[row],
                sent_s=columns.sent_s[row] + offset_s,
                opened_s=None if opened is None else opened[2] + offset_s,
                backend=identities[columns.backend[row] + 1],
                ended_s=columns.done_s[row] + offset_s,
                status=columns.status[row],
                messages_sent=sent,
                messages_received=received,
            )
        return tuple(found[sequence] for sequence in sorted(found))

    def answered(self, start: int) -> list[tuple[int, str | None]]:
        """Return sequence number and backend of the calls told so far, from row *start* on.

        The backend is None where the call failed, or nothing named who answered.
        """
        columns = self._columns
        identities = [self._identify(each) for each in columns.identities]
        rows = zip(
            columns.sequence[start:], columns.backend[start:], columns.status[start:], strict=True
        )
        answers = self._allowed | {0}
        return [
            (
                sequence,
                identities[backend] if backend != UNKNOWN_BACKEND and status in answers else None,
            )
            for sequence, backend, status in rows
        ]

    def failures(self) -> tuple[Failure, ...]:
        """Return the details of failed calls; at most 1000 of each status."""
        return tuple(self._failures)

    def client_view(self) -> ClientView:
        """Return what the client's channels last told of themselves."""
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
            connections=_connections(last),
            picker_rebuilds=rebuilds,
            events=tuple(replace(event, at_s=self._local_s(event.at_s)) for event in self._events),
        )

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


def _check_lengths(what: str, message: object, names: tuple[str, ...]) -> None:
    lengths = {name: len(getattr(message, name)) for name in names}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise NonsenseError(f"{what} differ in length: {told}")


def _check_columns(message: pb.Columns, *, known: int) -> None:
    """Raise unless every call has all its columns, a backend that was named, and took time.

    :param known: identities told so far
    """
    names = ("sequence", "channel", "sent_s", "done_s", "backend", "status")
    _check_lengths("its columns", message, names)
    rows = zip(message.sequence, message.sent_s, message.done_s, message.backend, strict=True)
    _check_rows(rows, "call", "ended", known=known)


def _check_opened(message: pb.Columns, *, known: int) -> None:
    """Raise unless every stream has all its columns, and a backend that was named.

    :param known: identities told so far
    """
    ended = len(message.sequence)
    counted = {len(message.messages_sent), len(message.messages_received)}
    if counted not in ({0}, {ended}):
        raise NonsenseError(
            f"its columns differ in length: sequence {ended}, messages_sent "
            f"{len(message.messages_sent)}, messages_received {len(message.messages_received)}"
        )
    opened = message.opened
    names = ("sequence", "channel", "sent_s", "opened_s", "backend")
    _check_lengths("its columns of opened streams", opened, names)
    rows = zip(opened.sequence, opened.sent_s, opened.opened_s, opened.backend, strict=True)
    _check_rows(rows, "stream", "answered", known=known)


def _check_rows(
    rows: Iterable[tuple[int, float, float, int]], what: str, then: str, *, known: int
) -> None:
    """Raise unless each took time and names a backend that was told of.

    :param rows: sequence number, moments of sending and of what came *then*, backend
    """
    for sequence, sent_s, then_s, backend in rows:
        if not then_s >= sent_s:
            raise NonsenseError(
                f"{what} {sequence} was sent at {sent_s} s and {then} at {then_s} s on its clock, "
                "which stepped back"
            )
        if not UNKNOWN_BACKEND <= backend < known:
            raise NonsenseError(f"{what} {sequence} names backend {backend} of {known}")
