"""What a lost connection to the driver means before a run has begun, and after."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.driver import DriverClient
from pytest_grpclb.driver import client as client_module
from pytest_grpclb.driver import run as run_module
from pytest_grpclb.driver.plan import Plan
from pytest_grpclb.errors import DriverError
from pytest_grpclb.model import CallTemplate, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAN = Plan(target=Target(address="dns:///shop:1"), call=CallTemplate(method="/shop.Shop/Sell"))
STARTED = pb.RunResponse(started=pb.Started(clock_s=100.0, backends_seen=[3]))
FINISHED = pb.RunResponse(finished=pb.Finished())
ANSWERS = pb.Answers(responses=[b"yes"], status=0)
Told = list[Any]


def columns(*sequence: int) -> pb.RunResponse:
    """Return what is told of calls that nobody is known to have answered."""
    same = len(sequence)
    return pb.RunResponse(
        columns=pb.Columns(
            sequence=sequence,
            channel=[0] * same,
            sent_s=[101.0] * same,
            done_s=[102.0] * same,
            backend=[-1] * same,
            status=[0] * same,
        )
    )


class Failure(grpc.RpcError):  # type: ignore[misc]
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


LOST = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")
UNKNOWN_RUN = Failure(grpc.StatusCode.NOT_FOUND, "there is no run 'x'")
REMOVED = Failure(grpc.StatusCode.UNKNOWN, "Stream removed")
BUG = Failure(grpc.StatusCode.UNKNOWN, "Unexpected <class 'ZeroDivisionError'>")
CANCELLED = Failure(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
LATE = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
REFUSED = Failure(grpc.StatusCode.INVALID_ARGUMENT, "channels: 0 cannot be used")

ENDED_EARLY = (
    "driver at 10.0.0.9:50052: the run ended early: UNAVAILABLE: Socket closed; "
    "its pod was restarted"
)

SILENCE = None
"""The way to the pod leads nowhere: gRPC waits for a connection until the call is cancelled."""


class Stream:
    def __init__(self, told: Told) -> None:
        self._told = told
        self._cancelled = threading.Event()

    def __iter__(self) -> Any:
        for each in self._told:
            if each is SILENCE:
                self._cancelled.wait()
                raise CANCELLED
            if isinstance(each, threading.Event):
                assert each.wait(10.0)
                continue
            if isinstance(each, Exception):
                raise each
            yield each

    def cancel(self) -> None:
        self._cancelled.set()

    def initial_metadata(self) -> tuple[Metadatum, ...]:
        return ()

    def wait_cancelled(self) -> None:
        self._cancelled.wait()


class Metadatum(NamedTuple):
    key: str
    value: str


def unanswered(stream: Stream) -> tuple[Metadatum, ...]:
    stream.wait_cancelled()
    return ()


class Resumed(Stream):
    """A stream that goes on with a run."""

    def __init__(self, told: Told, *, responses: int) -> None:
        super().__init__(told)
        self._responses = responses

    def initial_metadata(self) -> tuple[Metadatum, ...]:
        return (Metadatum("grpclb-responses", str(self._responses)),)


class Channel:
    """Each call gets the next of what was written down."""

    def __init__(self, *told: Told | Stream) -> None:
        self._told: list[Any] = list(told)
        self.calls = 0
        self.asked: list[pb.RunRequest] = []
        """The first request of each stream."""

    def _next(self) -> Any:
        self.calls += 1
        return self._told.pop(0)

    def next_is(self, told: Told) -> None:
        self._told.insert(0, told)

    def stream_stream(self, _method: str, **_serializers: Any) -> Any:
        def begin(requests: Iterator[pb.RunRequest], *, wait_for_ready: bool) -> Stream:
            self.asked.append(next(requests))
            assert wait_for_ready == self.asked[-1].HasField("plan")
            following = self._next()
            return following if isinstance(following, Stream) else Stream(following)

        return begin

    def unary_unary(self, _method: str, **_serializers: Any) -> Any:
        return lambda _message, **_options: next(iter(Stream(self._next())))

    def close(self) -> None:
        pass


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline_s


def client_on(
    monkeypatch: pytest.MonkeyPatch, *told: Told | Stream, has_ended: Callable[[], bool] = bool
) -> tuple[DriverClient, Channel]:
    channel = Channel(*told)
    monkeypatch.setattr(grpc, "insecure_channel", lambda *_, **__: channel)
    monkeypatch.setattr(run_module, "_PAUSE_S", 0.01)
    made = DriverClient(
        "10.0.0.9:50052", explain=lambda: "its pod was restarted", has_ended=has_ended
    )
    return made, channel


@pytest.mark.parametrize("lost", [LOST, REMOVED])
def test_a_run_that_is_lost_before_it_begins_is_started_again(
    monkeypatch: pytest.MonkeyPatch, lost: Failure
) -> None:
    client, channel = client_on(monkeypatch, [lost], [lost], [STARTED, FINISHED])
    run = client.start(PLAN)
    run.wait_finished(10.0)
    assert channel.calls == 3


@pytest.mark.parametrize(
    ("told", "tries", "why"),
    [
        ([LOST], 3, "UNAVAILABLE: Socket closed; its pod was restarted"),
        ([REMOVED], 3, "UNKNOWN: Stream removed; its pod was restarted"),
        ([BUG], 1, "UNKNOWN: Unexpected <class 'ZeroDivisionError'>"),
        ([REFUSED], 1, "INVALID_ARGUMENT: channels: 0 cannot be used"),
        ([FINISHED], 1, ""),
    ],
)
def test_a_run_that_does_not_begin_says_why(
    monkeypatch: pytest.MonkeyPatch, told: Told, tries: int, why: str
) -> None:
    client, channel = client_on(monkeypatch, told, told, told, told)
    with pytest.raises(DriverError) as caught:
        client.start(PLAN)
    assert str(caught.value) == f"driver at 10.0.0.9:50052: the run did not start: {why}"
    assert channel.calls == tries


def test_a_driver_that_has_gone_for_good_is_told_with_how_it_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second try does not fail, for it waits for a connection: that to a dead pod never is."""
    monkeypatch.setattr(client_module, "_CONNECT_S", 0.05)
    client, channel = client_on(monkeypatch, [LOST], [SILENCE])
    with pytest.raises(DriverError) as caught:
        client.start(replace(PLAN, warm_up_timeout_s=0.05))
    assert str(caught.value) == (
        "driver at 10.0.0.9:50052: the run did not start: no answer within 0.1 s, after "
        "UNAVAILABLE: Socket closed; its pod was restarted"
    )
    assert channel.calls == 2


def test_a_driver_that_never_answers_is_told_with_the_time_that_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_CONNECT_S", 0.05)
    client, _ = client_on(monkeypatch, [SILENCE])
    with pytest.raises(DriverError) as caught:
        client.start(replace(PLAN, warm_up_timeout_s=0.05))
    assert str(caught.value) == (
        "driver at 10.0.0.9:50052: the run did not start: no answer within 0.1 s"
    )


def test_a_run_that_is_lost_after_it_began_is_found_again_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not repeated: its calls were counted, and a second run would be a second chance."""
    first, second = columns(0, 1), columns(2)
    told: list[Told] = [[STARTED, first, LOST], [REMOVED], [second, LOST], [FINISHED]]
    client, channel = client_on(monkeypatch, *told)
    run = client.start(PLAN)
    run.wait_finished(10.0)
    assert list(run.calls().sequence) == [0, 1, 2]
    plan, *resumed = channel.asked
    assert plan.plan.run
    assert {each.resume.run for each in resumed} == {plan.plan.run}
    assert [each.resume.taken for each in resumed] == [2, 2, 3]


def test_a_quiet_run_may_break_off_again_after_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing to tell in between, as one of long streams."""
    monkeypatch.setattr(run_module, "_AWAY_S", 0.2)
    over = threading.Event()
    quiet = Resumed([over, LOST], responses=1)
    client, channel = client_on(monkeypatch, [STARTED, LOST], quiet, [FINISHED])
    started = client.start(PLAN)
    until(lambda: channel.calls == 2)
    deadline_s = time.monotonic() + 0.3  # the first break is given up by then, if nothing is heard
    until(lambda: time.monotonic() > deadline_s)
    over.set()
    started.wait_finished(10.0)
    assert channel.calls == 3


def test_a_run_that_was_found_again_is_looked_at_when_the_rest_has_been_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, ended = threading.Event(), threading.Event()
    rest = Resumed([told, columns(0), columns(1), ended, FINISHED], responses=3)
    client, channel = client_on(monkeypatch, [STARTED, LOST], rest)
    started = client.start(PLAN)
    seen: list[int] = []

    def look() -> None:
        until(lambda: channel.calls == 2)
        started.check()
        seen.append(len(started.calls()))

    looking = threading.Thread(target=look)
    looking.start()
    until(lambda: channel.calls == 2)
    assert not seen
    told.set()
    looking.join()
    assert seen == [2]
    ended.set()
    started.wait_finished(10.0)


def test_what_was_cancelled_unheard_is_named_in_the_next_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = [[REMOVED] for _ in range(1000)]
    client, channel = client_on(monkeypatch, [STARTED, LOST], *lost)
    client.start(PLAN).cancel()
    channel.next_is([STARTED, FINISHED])
    client.start(PLAN).wait_finished(10.0)
    first, last = channel.asked[0].plan, channel.asked[-1].plan
    assert first.run
    assert list(last.given_up) == [first.run]


def test_a_client_that_is_closed_cancels_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = client_on(monkeypatch, [STARTED, SILENCE])
    started = client.start(PLAN)
    client.close()
    assert started.finished
    with pytest.raises(DriverError, match="the run ended early: CANCELLED"):
        started.check()


def test_a_reader_that_fails_is_no_end_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = client_on(monkeypatch, [STARTED, ValueError("Cannot invoke RPC: channel closed!")])
    told = "the run ended early: ValueError: Cannot invoke RPC: channel closed!"
    with pytest.raises(DriverError, match=told):
        client.start(PLAN).wait_finished(10.0)


def test_a_run_that_the_driver_does_not_know_any_more_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, channel = client_on(monkeypatch, [STARTED, LOST], [REMOVED], [UNKNOWN_RUN])
    with pytest.raises(DriverError) as caught:
        client.start(PLAN).wait_finished(10.0)
    assert str(caught.value) == ENDED_EARLY
    assert channel.calls == 3


def test_a_run_is_not_looked_for_where_its_pod_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    client, channel = client_on(monkeypatch, [STARTED, LOST], has_ended=lambda: True)
    with pytest.raises(DriverError) as caught:
        client.start(PLAN).wait_finished(10.0)
    assert str(caught.value) == ENDED_EARLY
    assert channel.calls == 1


def test_a_run_that_stays_lost_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_AWAY_S", 0.05)
    client, channel = client_on(monkeypatch, [STARTED, LOST], *([REMOVED] for _ in range(1000)))
    with pytest.raises(DriverError) as caught:
        client.start(PLAN).wait_finished(10.0)
    assert str(caught.value) == ENDED_EARLY
    assert 2 <= channel.calls < 1000


def test_a_driver_that_does_not_answer_who_looks_for_a_run_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "_AWAY_S", 0.05)
    monkeypatch.setattr(Stream, "initial_metadata", unanswered)
    client, channel = client_on(monkeypatch, [STARTED, LOST], [SILENCE])
    with pytest.raises(DriverError) as caught:
        client.start(PLAN).wait_finished(10.0)
    assert str(caught.value) == ENDED_EARLY
    assert channel.calls == 2


def test_a_run_that_was_to_stop_while_it_was_lost_is_told_so_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    class Listening(Stream):
        def __init__(self, requests: Iterator[pb.RunRequest]) -> None:
            super().__init__([FINISHED])
            self._requests = requests

        def __iter__(self) -> Any:
            said.append(str(next(self._requests).WhichOneof("request")))
            return super().__iter__()

    def begin(requests: Iterator[pb.RunRequest], **_options: Any) -> Stream:
        if next(requests).HasField("plan"):
            return Stream([STARTED, LOST])
        return Listening(requests)

    away, back = threading.Event(), threading.Event()

    def has_ended() -> bool:
        away.set()
        return not back.wait(10.0)

    client, channel = client_on(monkeypatch, has_ended=has_ended)
    channel.stream_stream = lambda _method, **_serializers: begin  # type: ignore[method-assign]
    started = client.start(PLAN)
    assert away.wait(10.0)
    stopping = threading.Thread(target=started.stop)
    stopping.start()
    until(lambda: started._stopping)
    back.set()
    stopping.join()
    assert said == ["stop"]


def test_a_lost_run_that_is_cancelled_is_looked_for_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, channel = client_on(monkeypatch, [STARTED, LOST], *([REMOVED] for _ in range(1000)))
    started = client.start(PLAN)
    started.cancel()
    assert started.finished
    assert channel.calls < 1000


def test_an_exchange_that_is_lost_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    client, channel = client_on(monkeypatch, [LOST], [REMOVED], [ANSWERS])
    assert client.exchange(PLAN) == ([b"yes"], 0, "")
    assert channel.calls == 3


@pytest.mark.parametrize(
    ("failures", "tries", "why"),
    [
        ([LOST] * 3, 3, "UNAVAILABLE: Socket closed; its pod was restarted"),
        ([REFUSED], 1, "INVALID_ARGUMENT: channels: 0 cannot be used"),
        (
            [LOST, LATE],
            2,
            "DEADLINE_EXCEEDED: Deadline Exceeded, after UNAVAILABLE: Socket closed; its pod was "
            "restarted",
        ),
    ],
)
def test_an_exchange_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch, failures: list[Failure], tries: int, why: str
) -> None:
    client, channel = client_on(monkeypatch, *([failure] for failure in failures))
    with pytest.raises(DriverError) as caught:
        client.exchange(PLAN)
    assert str(caught.value) == (f"driver at 10.0.0.9:50052: no exchange of /shop.Shop/Sell: {why}")
    assert channel.calls == tries
