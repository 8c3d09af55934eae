"""Commands in containers, against an API that speaks as real ones do, and as broken ones do."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from pytest_grpclb.clusters.api.execute import OUTPUT_LIMIT, execute
from pytest_grpclb.errors import ApiError, CommandError

from .stand_in_api import BINARY, CLOSE, PING, TEXT, StandInApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.api.kube import KubeApi

    from .stand_in_api import Line

OUT, ERR, STATUS = b"\x01", b"\x02", b"\x03"
SUCCESS = {"metadata": {}, "status": "Success"}
WHERE = "in container 'main' of pod 'p'"


def failure(code: int) -> dict[str, object]:
    """Return what the API says of a command that ended with *code*."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def begin(line: Line) -> None:
    """Open the channels with an empty message each, as kubelets do."""
    for channel in (OUT, ERR, STATUS):
        line.say(BINARY, channel)


def end(line: Line, status: object) -> None:
    line.say(BINARY, STATUS + json.dumps(status).encode())
    line.say(CLOSE, (1000).to_bytes(2))


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandInApi]:
    with StandInApi(tmp_path) as api:
        yield api


@pytest.fixture
def api(stand_in: StandInApi) -> Iterator[KubeApi]:
    with stand_in.connection() as connection:
        yield connection


def cat(api: KubeApi, timeout_s: float = 15.0) -> str:
    return execute(api, "ns", "p", "cat", "/a b", container="main", timeout_s=timeout_s)


def test_what_a_command_writes_comes_back_piece_by_piece(
    stand_in: StandInApi, api: KubeApi
) -> None:
    def script(line: Line) -> None:
        begin(line)
        euro = "€".encode()
        line.say(BINARY, OUT + b"one " + euro[:1])
        line.say(BINARY, ERR + b"by the way")
        line.say(PING, b"here?")
        line.say(BINARY, OUT + euro[1:] + b"\xff")
        end(line, SUCCESS)

    stand_in.script = script
    assert cat(api) == "one €\ufffd"
    [head] = stand_in.heads
    url = urlsplit(head.split()[1])
    assert url.path == "/api/v1/namespaces/ns/pods/p/exec"
    assert parse_qs(url.query) == {
        "command": ["cat", "/a b"],
        "stdout": ["1"],
        "stderr": ["1"],
        "container": ["main"],
    }
    # The newest that every API knows: v5 only adds a way to close the standard input.
    assert "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n" in head
    assert "authorization: Bearer secret\r\n" in head


def test_a_message_may_come_in_several_frames(stand_in: StandInApi, api: KubeApi) -> None:
    def script(line: Line) -> None:
        line.raw(bytes((0x02, 2)) + OUT + b"a")  # not final
        line.say(PING)  # between them
        line.raw(bytes((0x80, 1)) + b"b")  # continued and final
        end(line, SUCCESS)

    stand_in.script = script
    assert cat(api) == "ab"


def test_much_output_comes_back_whole(stand_in: StandInApi, api: KubeApi) -> None:
    piece = bytes(range(32, 127)) * 300

    def script(line: Line) -> None:
        for _ in range(200):
            line.say(BINARY, OUT + piece)
        end(line, SUCCESS)

    stand_in.script = script
    assert cat(api) == (piece * 200).decode()


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (b"cat: /a b: No such file\n", "; it said:\ncat: /a b: No such file"),
        (b"", ""),
    ],
)
def test_a_command_that_fails_is_told_with_its_exit_code_and_words(
    stand_in: StandInApi, api: KubeApi, stderr: bytes, said: str
) -> None:
    def script(line: Line) -> None:
        begin(line)
        line.say(BINARY, OUT + b"half of it")
        line.say(BINARY, ERR + stderr)
        end(line, failure(3))

    stand_in.script = script
    with pytest.raises(CommandError) as caught:
        cat(api)
    assert str(caught.value) == f"`cat '/a b'` {WHERE} ended with exit code 3{said}"


def test_a_command_that_cannot_be_started_is_told_with_the_reason(
    stand_in: StandInApi, api: KubeApi
) -> None:
    why = 'exec: "cat": executable file not found in $PATH: unknown'

    def script(line: Line) -> None:
        begin(line)
        end(line, {"status": "Failure", "message": why, "reason": "InternalError", "code": 500})

    stand_in.script = script
    with pytest.raises(CommandError) as caught:
        cat(api)
    assert str(caught.value) == f"`cat '/a b'` {WHERE} cannot be run: {why}"


def closes(line: Line) -> None:
    line.say(CLOSE, (1011).to_bytes(2) + b"container is gone")


def resets(line: Line) -> None:
    line.reset()


def breaks_a_frame(line: Line) -> None:
    line.raw(bytes((0x82, 100)) + OUT + b"less")
    line.hang_up()


def says_what_is_no_frame(line: Line) -> None:
    line.raw(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    line.hang_up()


def says_text(line: Line) -> None:
    line.say(TEXT, b"hello")


def says_nonsense(line: Line) -> None:
    line.say(BINARY, STATUS + b"{oops")
    line.say(CLOSE, (1000).to_bytes(2))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (closes, "closed with code 1011: container is gone"),
        (resets, ".*"),
        (breaks_a_frame, ".*"),
        (says_what_is_no_frame, ".*"),
        (says_text, "a text message"),
        (says_nonsense, "its status is no JSON object: '{oops'"),
    ],
)
def test_a_connection_that_breaks_gives_no_half_output(
    stand_in: StandInApi, api: KubeApi, script: Callable[[Line], None], reason: str
) -> None:
    def breaking(line: Line) -> None:
        begin(line)
        line.say(BINARY, OUT + b"half of it")
        script(line)

    stand_in.script = breaking
    told = rf"`cat '/a b'` {WHERE}: the connection broke off before its end was told: {reason}"
    with pytest.raises(ConnectionError, match=told):
        cat(api)


@pytest.mark.parametrize("writes", [False, True])
def test_a_command_has_its_time_whether_it_is_silent_or_not(
    stand_in: StandInApi, api: KubeApi, *, writes: bool
) -> None:
    def script(line: Line) -> None:
        begin(line)
        while writes:
            line.say(BINARY, OUT)
        line.hear()  # until the client leaves

    stand_in.script = script
    began_s = time.monotonic()
    with pytest.raises(CommandError) as caught:
        cat(api, timeout_s=0.2)
    assert str(caught.value) == f"`cat '/a b'` {WHERE} had not ended after 0.2 s"
    assert time.monotonic() - began_s < 10


def test_output_without_an_end_is_not_kept(stand_in: StandInApi, api: KubeApi) -> None:
    piece = OUT + bytes(1 << 20)

    def script(line: Line) -> None:
        while True:
            line.say(BINARY, piece)

    stand_in.script = script
    with pytest.raises(CommandError) as caught:
        cat(api, timeout_s=60)
    limit = OUTPUT_LIMIT >> 20
    assert str(caught.value) == f"`cat '/a b'` {WHERE} has written more than {limit} MiB"


def test_an_api_that_refuses_is_named(api: KubeApi, stand_in: StandInApi) -> None:
    stand_in.__exit__()
    with pytest.raises(ApiError, match=r"GET /api/v1/namespaces/ns/pods/p/exec.* does not answer"):
        cat(api)
