"""What a lost connection to the driver means before a run has begun, and after."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import grpc
import pytest

from pytest_grpclb import driver
from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.driver import DriverClient
from pytest_grpclb.errors import DriverError
from pytest_grpclb.model import CallTemplate, Target
from pytest_grpclb.plans import Plan

PLAN = Plan(target=Target(address="dns:///shop:1"), call=CallTemplate(method="/shop.Shop/Sell"))
STARTED = pb.RunResponse(started=pb.Started(clock_s=100.0, backends_seen=[3]))
FINISHED = pb.RunResponse(finished=pb.Finished())
ANSWERS = pb.Answers(responses=[b"yes"], status=0)
Told = list[Any]


class Failure(grpc.RpcError):  # type: ignore[misc]
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


LOST = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")
REMOVED = Failure(grpc.StatusCode.UNKNOWN, "Stream removed")
BUG = Failure(grpc.StatusCode.UNKNOWN, "Unexpected <class 'ZeroDivisionError'>")
LATE = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
REFUSED = Failure(grpc.StatusCode.INVALID_ARGUMENT, "channels: 0 cannot be used")


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
                return
            if isinstance(each, Exception):
                raise each
            yield each

    def cancel(self) -> None:
        self._cancelled.set()


class Channel:
    """Each call gets the next of what was written down."""

    def __init__(self, *told: Told) -> None:
        self._told = list(told)
        self.calls = 0

    def _next(self) -> Told:
        self.calls += 1
        return self._told.pop(0)

    def stream_stream(self, _method: str, **_serializers: Any) -> Any:
        return lambda _requests, **_options: Stream(self._next())

    def unary_unary(self, _method: str, **_serializers: Any) -> Any:
        return lambda _message, **_options: next(iter(Stream(self._next())))

    def close(self) -> None:
        pass


def client_on(monkeypatch: pytest.MonkeyPatch, *told: Told) -> tuple[DriverClient, Channel]:
    channel = Channel(*told)
    monkeypatch.setattr(grpc, "insecure_channel", lambda *_, **__: channel)
    return DriverClient("10.0.0.9:50052", explain=lambda: "its pod was restarted"), channel


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
    monkeypatch.setattr(driver, "_CONNECT_S", 0.05)
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
    monkeypatch.setattr(driver, "_CONNECT_S", 0.05)
    client, _ = client_on(monkeypatch, [SILENCE])
    with pytest.raises(DriverError) as caught:
        client.start(replace(PLAN, warm_up_timeout_s=0.05))
    assert str(caught.value) == (
        "driver at 10.0.0.9:50052: the run did not start: no answer within 0.1 s"
    )


def test_a_run_that_is_lost_after_it_began_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its calls were counted: a second run would be a second chance."""
    client, channel = client_on(monkeypatch, [STARTED, LOST], [STARTED, FINISHED])
    run = client.start(PLAN)
    with pytest.raises(DriverError) as caught:
        run.wait_finished(10.0)
    assert str(caught.value) == (
        "driver at 10.0.0.9:50052: the run ended early: UNAVAILABLE: Socket closed; "
        "its pod was restarted"
    )
    assert channel.calls == 1


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
