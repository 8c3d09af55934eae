"""A port-forward through an API whose connections grow old, fall silent, or break off."""

from __future__ import annotations

import logging
import select
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.api import portforward
from pytest_grpclb.clusters.api.portforward import forwarded

from .stand_in_api import BINARY, CLOSE, PING, PONG, StandInApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.api.kube import KubeApi

    from .stand_in_api import Line

DATA, ERRORS = b"\x00", b"\x01"
TIMEOUT_S = 15.0


def begin(line: Line) -> None:
    """Open the channels, as kubelets do: each repeats the port."""
    for channel in (DATA, ERRORS):
        line.say(BINARY, channel + (7000).to_bytes(2, "little"))


def echo(line: Line) -> None:
    """Send back whatever comes, as a pod would, and answer pings, as a kubelet does."""
    begin(line)
    answer(line)


def answer(line: Line) -> None:
    while True:
        kind, message = line.hear()
        if kind == BINARY:
            line.say(BINARY, message)
        elif kind == PING:
            line.say(PONG, message)
        elif kind == CLOSE:
            line.say(CLOSE, message)
            return


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandInApi]:
    with StandInApi(tmp_path, echo) as api:
        yield api


@pytest.fixture
def api(stand_in: StandInApi) -> Iterator[KubeApi]:
    with stand_in.connection() as connection:
        yield connection


def once(stand_in: StandInApi, script: Callable[[Line], None]) -> None:
    """Have *script* happen to the first connection that carries anything, and to no other."""
    waiting = [echo, script]  # the first is the try in the foreground

    def chosen(line: Line) -> None:
        (waiting.pop(0) if waiting else echo)(line)

    stand_in.script = chosen


def connect(address: str) -> socket.socket:
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def echoed(connection: socket.socket, data: bytes) -> bool:
    connection.sendall(data)
    received = b""
    while len(received) < len(data) and (piece := connection.recv(65536)):
        received += piece
    return received == data


def test_what_only_keeps_a_connection_alive_holds_up_nothing(
    stand_in: StandInApi, api: KubeApi
) -> None:
    answered = threading.Event()

    def script(line: Line) -> None:
        begin(line)
        line.say(PONG, b"unasked")
        line.say(PING, b"here?")
        assert line.hear() == (PONG, b"here?")
        answered.set()
        answer(line)

    once(stand_in, script)
    with forwarded(api, "ns", "p", 7000) as address, connect(address) as connection:
        assert answered.wait(TIMEOUT_S)
        assert echoed(connection, b"hello")


def test_a_silent_connection_is_kept_alive(
    stand_in: StandInApi, api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where something ends connections that are silent for so long, they never are."""
    monkeypatch.setattr(portforward, "PING_S", 0.01)
    pinged = threading.Semaphore(0)

    def script(line: Line) -> None:
        begin(line)
        while True:
            kind, message = line.hear()
            if kind == PING:
                pinged.release()
                line.say(PONG, message)
            elif kind == BINARY:
                line.say(BINARY, message)
            else:
                return

    once(stand_in, script)
    with forwarded(api, "ns", "p", 7000) as address, connect(address) as connection:
        for _ in range(3):
            assert pinged.acquire(timeout=TIMEOUT_S)
        assert echoed(connection, b"hello")


def test_the_pings_come_before_the_strictest_load_balancer_loses_patience() -> None:
    assert portforward.PING_S <= 30
    assert portforward.SILENCE_S >= 2 * portforward.PING_S


def test_an_api_that_falls_silent_is_told_from_one_that_was_silent_all_along(
    stand_in: StandInApi,
    api: KubeApi,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(portforward, "PING_S", 0.01)
    monkeypatch.setattr(portforward, "SILENCE_S", 0.2)

    def never(line: Line) -> None:
        """Answer no ping, which is against the protocol, but carry bytes."""
        begin(line)
        pings = 0
        while True:
            kind, message = line.hear()
            pings += kind == PING
            if kind == CLOSE:
                return
            if kind == BINARY and pings > 30:  # far beyond the limit
                line.say(BINARY, message)

    def no_more(line: Line) -> None:
        begin(line)
        line.say(PONG, line.hear()[1])
        while line.hear()[0] != CLOSE:
            pass

    with caplog.at_level(logging.WARNING, logger="pytest_grpclb"):
        once(stand_in, no_more)
        with forwarded(api, "ns", "p", 7000) as address:
            with connect(address) as connection:
                assert connection.recv(1) == b""
            with connect(address) as connection:
                assert echoed(connection, b"hello")
        assert "broke off: the API has been silent for" in caplog.text
        caplog.clear()
        once(stand_in, never)
        with forwarded(api, "ns", "p", 7000) as address, connect(address) as connection:
            assert not select.select([connection], [], [], 0.5)[0]
            assert echoed(connection, b"hello")
    assert caplog.text == ""


def resets(line: Line) -> None:
    line.reset()


def hangs_up(line: Line) -> None:
    line.hang_up()


def says_goodbye(line: Line) -> None:
    line.say(CLOSE, (1001).to_bytes(2))


def breaks_a_frame(line: Line) -> None:
    line.raw(bytes((0x82, 100)) + DATA + b"less")
    line.hang_up()


def says_what_is_no_frame(line: Line) -> None:
    line.raw(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    line.hang_up()


@pytest.mark.parametrize(
    "end", [resets, hangs_up, says_goodbye, breaks_a_frame, says_what_is_no_frame]
)
@pytest.mark.parametrize("messages", [0, 1, 5])
@pytest.mark.parametrize("begun", [False, True], ids=["before it begins", "after it began"])
def test_a_connection_that_breaks_at_any_moment_ends_and_the_next_one_works(
    stand_in: StandInApi,
    api: KubeApi,
    end: Callable[[Line], None],
    messages: int,
    *,
    begun: bool,
) -> None:
    def script(line: Line) -> None:
        if begun:
            begin(line)
        for _ in range(messages):
            line.hear()
        end(line)

    once(stand_in, script)
    with forwarded(api, "ns", "p", 7000) as address:
        with connect(address) as connection:
            ended = False
            while not ended:
                try:
                    connection.sendall(b"x")
                    ended = connection.recv(1) == b"" if messages < 2 else False
                except OSError:
                    ended = True
        with connect(address) as connection:
            assert echoed(connection, b"hello")
