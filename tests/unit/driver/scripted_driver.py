"""A driver that says what is written down, stream by stream, and loses its connections."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.driver import DriverClient
from pytest_grpclb.driver import run as run_module
from pytest_grpclb.driver.plan import Plan
from pytest_grpclb.model import CallTemplate, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

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
