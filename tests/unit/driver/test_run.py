"""The test process's side of a run: what it makes of what a driver says."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.driver import DriverRun
from pytest_grpclb.driver.plan import Plan
from pytest_grpclb.errors import DriverError
from pytest_grpclb.model import CallKind, CallTemplate, EventKind, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PLAN = Plan(target=Target(address="dns:///shop:1"), call=CallTemplate(method="/shop.Shop/Sell"))
STARTED = pb.RunResponse(started=pb.Started(clock_s=100.0, backends_seen=[3]))
FINISHED = pb.RunResponse(finished=pb.Finished())
Row = tuple[int, int, float, float, int, int]


class _Stream:
    """A driver that says what is written down, and ends when told to."""

    def __init__(self, responses: Iterable[pb.RunResponse | Exception]) -> None:
        self._responses = responses
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[pb.RunResponse]:
        for response in self._responses:
            if isinstance(response, Exception):
                raise response
            yield response

    def cancel(self) -> None:
        self.cancelled.set()

    def initial_metadata(self) -> None:
        pass

    def is_active(self) -> bool:
        return not self.cancelled.is_set()


class _Channel:
    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def stream_stream(self, _method: str, **_serializers: Any) -> Any:
        return lambda _requests, **_options: self._stream


def run_of(*responses: pb.RunResponse | Exception) -> DriverRun:
    return DriverRun(_Channel(_Stream(responses)), PLAN, "10.0.0.9:50052")


def columns(rows: Sequence[Row], identities: Sequence[str] = ()) -> pb.RunResponse:
    sequence, channel, sent_s, done_s, backend, status = zip(*rows, strict=True)
    return pb.RunResponse(
        columns=pb.Columns(
            sequence=sequence,
            channel=channel,
            sent_s=sent_s,
            done_s=done_s,
            backend=backend,
            status=status,
            identities=identities,
        )
    )


def report(clock_s: float, *states: str) -> pb.RunResponse:
    channel = pb.Channel(
        channel=0,
        picker_rebuilds=0,
        subchannels=[
            pb.Subchannel(
                address=f"10.0.0.{index}:1", state=state, connections=int(state == "READY")
            )
            for index, state in enumerate(states, start=1)
        ],
    )
    return pb.RunResponse(report=pb.ChannelReport(clock_s=clock_s, channels=[channel]))


class _Refused(grpc.RpcError):  # type: ignore[misc]
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> str:
        return "message larger than max"


# --- columns


@st.composite
def made_rows(draw: st.DrawFn) -> list[tuple[str | None, Row]]:
    """Generate calls as a driver may tell them, with the name of who answered."""
    names = draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=30))
    order = draw(st.permutations(range(len(names))))
    told: dict[str, int] = {}
    rows = []
    for sequence, name in zip(order, names, strict=True):
        index = -1 if name is None else told.setdefault(name, len(told))
        sent_s = draw(st.integers(0, 1000)) / 8
        done_s = sent_s + draw(st.integers(0, 100)) / 8
        status = draw(st.sampled_from([0, 0, 14]))
        rows.append((name, (sequence, draw(st.integers(0, 3)), sent_s, done_s, index, status)))
    return rows


@settings(deadline=None)
@given(made_rows(), st.lists(st.integers(1, 10)))
def test_calls_are_the_same_however_they_are_cut_into_messages(
    rows: list[tuple[str | None, Row]], sizes: list[int]
) -> None:
    messages, left, known = [], list(rows), set[str | None]({None})
    for size in itertools.chain(sizes, itertools.repeat(30)):
        part, left = left[:size], left[size:]
        if not part:
            break
        new = [name for name in dict.fromkeys(name for name, _ in part) if name not in known]
        known.update(new)
        messages.append(columns([row for _, row in part], [name for name in new if name]))
    run = run_of(STARTED, *messages, FINISHED)
    run.wait_finished(10.0)
    calls, offset_s = run.calls(), run.started_at_s - 100.0
    assert list(calls.sequence) == [row[0] for _, row in rows]
    assert list(calls.channel) == [row[1] for _, row in rows]
    assert list(calls.status) == [row[5] for _, row in rows]
    # The driver's times are eighths, which a double holds: only the offset is rounded.
    assert calls.sent_s == pytest.approx([row[2] + offset_s for _, row in rows])
    assert calls.done_s == pytest.approx([row[3] + offset_s for _, row in rows])
    named = [None if index == -1 else calls.identities[index] for index in calls.backend]
    assert named == [name for name, _ in rows]
    expected = [(row[0], None if row[5] else name) for name, row in rows]
    for start in range(len(rows) + 1):
        assert run.answered(start) == expected[start:]


def test_columns_of_different_length_end_the_run() -> None:
    torn = pb.RunResponse(columns=pb.Columns(sequence=[0, 1], channel=[0], status=[0]))
    with pytest.raises(DriverError) as raised:
        run_of(STARTED, torn).wait_finished(10.0)
    assert str(raised.value) == (
        "driver at 10.0.0.9:50052: the run ended early: its columns differ in length: "
        "sequence 2, channel 1, sent_s 0, done_s 0, backend 0, status 1"
    )


@pytest.mark.parametrize("backend", [-2, 1, 7])
def test_a_backend_that_was_never_named_ends_the_run(backend: int) -> None:
    run = run_of(STARTED, columns([(4, 0, 1.0, 2.0, backend, 0)], ["a"]))
    with pytest.raises(DriverError, match=f"ended early: call 4 names backend {backend} of 1$"):
        run.wait_finished(10.0)


def test_a_call_that_ended_before_it_was_sent_ends_the_run() -> None:
    run = run_of(STARTED, columns([(4, 0, 101.5, 101.25, -1, 0)]))
    with pytest.raises(DriverError) as raised:
        run.wait_finished(10.0)
    assert str(raised.value) == (
        "driver at 10.0.0.9:50052: the run ended early: call 4 was sent at 101.5 s and ended at "
        "101.25 s on its clock, which stepped back"
    )
    assert len(run.calls()) == 0


# --- streams


def opened(
    rows: Sequence[tuple[int, int, float, float, int]], identities: Sequence[str] = ()
) -> pb.RunResponse:
    sequence, channel, sent_s, opened_s, backend = zip(*rows, strict=True)
    told = pb.Opened(
        sequence=sequence, channel=channel, sent_s=sent_s, opened_s=opened_s, backend=backend
    )
    return pb.RunResponse(columns=pb.Columns(opened=told, identities=identities))


def test_streams_are_told_of_when_they_open_and_when_they_end() -> None:
    cut = columns([(0, 1, 101.0, 103.0, 0, 14), (2, 0, 102.0, 103.0, -1, 4)])
    cut.columns.messages_sent.extend([3, 0])
    cut.columns.messages_received.extend([2, 0])
    run = run_of(
        STARTED,
        opened([(1, 0, 101.0, 101.5, 1), (0, 1, 101.0, 101.25, 0)], ["a", "b"]),
        cut,
        FINISHED,
    )
    run.wait_finished(10.0)
    offset_s = run.started_at_s - 100.0
    first, second, third = run.streams()
    assert (first.sequence, first.channel, first.backend) == (0, 1, "a")
    assert (first.status, first.messages_sent, first.messages_received) == (14, 3, 2)
    assert first.opened_s == pytest.approx(101.25 + offset_s)
    assert first.ended_s == pytest.approx(103.0 + offset_s)
    assert (second.backend, second.status, second.ended_s) == ("b", None, None)
    assert second.sent_s == pytest.approx(101.0 + offset_s)
    assert (third.opened_s, third.backend, third.status) == (None, "", 4)
    assert list(run.calls().sequence) == [0, 2]


def test_unary_calls_are_no_streams() -> None:
    run = run_of(STARTED, columns([(0, 0, 101.0, 102.0, 0, 0)], ["a"]), FINISHED)
    run.wait_finished(10.0)
    assert run.streams() == ()


def torn_opened() -> pb.RunResponse:
    return pb.RunResponse(columns=pb.Columns(opened=pb.Opened(sequence=[0, 1], channel=[0])))


def torn_messages() -> pb.RunResponse:
    told = columns([(0, 0, 101.0, 102.0, -1, 0)])
    told.columns.messages_sent.extend([1, 2])
    return told


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (
            torn_opened(),
            "its columns of opened streams differ in length: "
            "sequence 2, channel 1, sent_s 0, opened_s 0, backend 0",
        ),
        (
            torn_messages(),
            "its columns differ in length: sequence 1, messages_sent 2, messages_received 0",
        ),
        (opened([(7, 0, 1.0, 2.0, 3)], ["a"]), "stream 7 names backend 3 of 1"),
        (
            opened([(7, 0, 2.0, 1.0, 0)], ["a"]),
            "stream 7 was sent at 2.0 s and answered at 1.0 s on its clock, which stepped back",
        ),
    ],
)
def test_streams_that_cannot_be_end_the_run(told: pb.RunResponse, why: str) -> None:
    run = run_of(STARTED, told)
    with pytest.raises(DriverError) as raised:
        run.wait_finished(10.0)
    assert str(raised.value) == f"driver at 10.0.0.9:50052: the run ended early: {why}"
    assert run.streams() == ()


def test_the_plan_of_a_stream_says_how_it_is_to_end() -> None:
    call = CallTemplate(
        method="/shop.Shop/Chat",
        kind=CallKind.BIDIRECTIONAL_STREAMING,
        message_interval_s=0.5,
        messages=4,
        duration_s=9.0,
    )
    assert Plan(target=PLAN.target, call=call).message().plan.call.stream == pb.Stream(
        bidirectional=True, interval_s=0.5, messages=4, duration_s=9.0
    )
    endless = CallTemplate(method="/shop.Shop/Follow", kind=CallKind.SERVER_STREAMING)
    message = Plan(target=PLAN.target, call=endless).message()
    assert message.plan.call.HasField("stream")
    assert message.plan.call.stream == pb.Stream()
    assert not PLAN.message().plan.call.HasField("stream")


def test_a_clock_that_steps_back_between_two_messages_ends_the_run() -> None:
    run = run_of(STARTED, report(101.0), report(100.5), FINISHED)
    with pytest.raises(DriverError, match=r"its clock stepped back from 101\.0 s to 100\.5 s$"):
        run.wait_finished(10.0)


# --- how a run ends


def test_a_run_that_ended_as_planned_passes_every_check() -> None:
    run = run_of(STARTED, FINISHED)
    run.wait_finished(10.0)
    run.check()
    assert len(run.calls()) == 0


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (_Refused(), "RESOURCE_EXHAUSTED: message larger than max"),
        (pb.RunResponse(finished=pb.Finished(error="told to end")), "told to end"),
    ],
)
def test_a_run_that_ended_early_says_why(last: pb.RunResponse | Exception, why: str) -> None:
    run = run_of(STARTED, last)
    with pytest.raises(DriverError) as raised:
        run.wait_finished(10.0)
    assert str(raised.value) == f"driver at 10.0.0.9:50052: the run ended early: {why}"
    with pytest.raises(DriverError, match=f"ended early: {why}$"):
        run.check()


# --- events


def test_events_are_what_changed_from_report_to_report_on_this_clock() -> None:
    began_s = time.monotonic()
    run = run_of(
        STARTED,
        report(100.0, "READY", "READY"),
        report(100.5, "READY", "IDLE"),
        report(101.0, "READY", "IDLE", "CONNECTING"),
        FINISHED,
    )
    run.wait_finished(10.0)
    view = run.client_view()
    assert [(event.kind, event.address, event.detail) for event in view.events] == [
        (EventKind.CONNECTION_CLOSED, "10.0.0.2:1", ""),
        (EventKind.RESOLVED, "", "3 known, 1 new, 0 gone"),
    ]
    # The last report, of 101.0 s, came within the test: its clock is this one's, less 101 s.
    first, second = (event.at_s for event in view.events)
    assert second - first == pytest.approx(0.5)
    assert began_s <= second <= time.monotonic()


def test_what_there_is_at_first_is_no_event() -> None:
    run = run_of(STARTED, report(100.0, "READY"), FINISHED)
    run.wait_finished(10.0)
    assert run.client_view().events == ()
