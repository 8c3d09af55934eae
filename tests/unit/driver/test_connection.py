"""What a lost connection to the driver means before a run has begun, and after."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.driver import client as client_module
from pytest_grpclb.driver import run as run_module
from pytest_grpclb.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb._pb import driver_pb2 as pb

from .scripted_driver import (
    ANSWERS,
    BUG,
    ENDED_EARLY,
    FINISHED,
    LATE,
    LOST,
    PLAN,
    REFUSED,
    REMOVED,
    SILENCE,
    STARTED,
    UNKNOWN_RUN,
    Failure,
    Resumed,
    Stream,
    Told,
    client_on,
    columns,
    unanswered,
    until,
)


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
