"""Probes: what counts, when, and what they say; against real sockets where they use them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.node.probes import (
    Timing,
    attempt,
    follow,
    go_duration,
    http_get,
    port_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONTAINER = {"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}


def timing(**given: float) -> Timing:
    values: dict[str, Any] = {
        "initial_delay_s": 0.0,
        "period_s": 0.001,
        "timeout_s": 1.0,
        "successes": 1,
        "failures": 3,
        **given,
    }
    return Timing(**values)


def played(
    results: list[str], made: Timing, *, eager: bool = False, keep_on: bool = True
) -> tuple[list[bool], list[str]]:
    """Follow a probe whose attempts end as given; return verdicts and failures that counted."""
    verdicts: list[bool] = []
    failures: list[str] = []
    left = list(results)

    async def try_once() -> str:
        if not left:
            raise asyncio.CancelledError
        return left.pop(0)

    def on_result(success: bool) -> bool:
        verdicts.append(success)
        return keep_on

    async def run() -> None:
        try:
            await follow(
                made, try_once, eager=eager, on_failure=failures.append, on_result=on_result
            )
        except asyncio.CancelledError:
            return

    asyncio.run(run())
    return verdicts, failures


def test_unset_timing_is_what_kubernetes_has() -> None:
    assert Timing.of({}) == Timing(
        initial_delay_s=0, period_s=10, timeout_s=1, successes=1, failures=3
    )


def test_a_threshold_needs_results_in_a_row() -> None:
    verdicts, failures = played(["a", "b", "", "c", "d", "e"], timing(failures=3))
    assert verdicts == [True, False]
    assert failures == ["a", "b", "c", "d", "e"]
    assert played(["", "", "x", "", "", ""], timing(successes=3))[0] == [True]


def test_following_ends_when_it_is_told_to() -> None:
    assert played(["", "a", ""], timing(), keep_on=False) == ([True], [])


def test_while_hurrying_failures_count_once_a_period() -> None:
    # 5 attempts, 20 ms apart, are over long before the first period is.
    verdicts, failures = played(["a"] * 5, timing(period_s=60, failures=1), eager=True)
    assert (verdicts, failures) == ([], [])
    # With a period as short as the pause, each one counts but the first, made at once.
    verdicts, failures = played(["a"] * 4, timing(period_s=0.015, failures=3), eager=True)
    assert (verdicts, failures) == ([False], ["a"] * 3)


def test_ports_are_numbers_or_names() -> None:
    assert port_of(CONTAINER, 50051) == 50051
    assert port_of(CONTAINER, "http") == 8080
    assert port_of(CONTAINER, "50051") == 50051
    with pytest.raises(ValueError, match=r"^couldn't find port: 'grpc'; the container has: http$"):
        port_of(CONTAINER, "grpc")


async def never(*_: object) -> Any:
    raise AssertionError("not to be asked")


class Healthy:
    """Stands for the prober."""

    async def check_health(self, target: str, service: str, timeout_s: float) -> str:
        return f"{target} {service} {timeout_s}"


def tried(probe: dict[str, Any], run: Any = never) -> str:
    return asyncio.run(
        attempt(probe, CONTAINER, "127.0.0.1", processes=Healthy(), run=run)  # type: ignore[arg-type]
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_tcp_asks_whether_somebody_listens() -> None:
    port = free_port()
    expected = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert tried({"tcpSocket": {"port": port}}) == expected
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert tried({"tcpSocket": {"port": server.getsockname()[1]}}) == ""


def test_grpc_is_asked_once_somebody_listens() -> None:
    port = free_port()
    assert tried({"grpc": {"port": port}}) == (
        f'timeout: failed to connect service "127.0.0.1:{port}" within 1s: '
        "context deadline exceeded"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        told = tried({"grpc": {"port": port, "service": "s"}, "timeoutSeconds": 2})
        assert told == f"127.0.0.1:{port} s 2"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ((0, "fine"), ""),
        ((1, "bad"), "bad"),
        ((2, ""), "exit code 2"),
        ((None, ""), "command ['check'] timed out after 1s"),
    ],
)
def test_a_command_says_with_its_exit_code(result: tuple[int | None, str], expected: str) -> None:
    async def run(command: list[str], timeout_s: float) -> tuple[int | None, str]:
        assert (command, timeout_s) == (["check"], 1)
        return result

    assert tried({"exec": {"command": ["check"]}}, run) == expected


def test_a_probe_of_an_unknown_port_fails_with_its_name() -> None:
    assert tried({"tcpSocket": {"port": "x"}}) == "couldn't find port: 'x'; the container has: http"


def got(
    what: dict[str, Any],
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> tuple[str, int]:
    conversations: list[asyncio.Task[None]] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.append(task)
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    async def run() -> tuple[str, int]:
        server = await asyncio.start_server(converse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            told = await http_get({"port": port, **what}, CONTAINER, "127.0.0.1", 0.2)
            await asyncio.wait(conversations)
            await asyncio.sleep(0)  # closing takes effect in the event loop's next turn
            return told, port

    return asyncio.run(run())


def answering(line: bytes, seen: list[bytes]) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(line + b"\r\nContent-Length: 0\r\n\r\n")
        writer.write_eof()
        await reader.read()

    return serve


def test_http_is_well_from_200_to_399() -> None:
    seen: list[bytes] = []
    headers = [{"name": "x-own", "value": "1"}]
    told, port = got({"path": "ready", "httpHeaders": headers}, answering(b"HTTP/1.1 204 No", seen))
    assert told == ""
    assert seen == [
        (
            f"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: kube-probe\r\n"
            "Accept: */*\r\nX-Own: 1\r\nConnection: close\r\n\r\n"
        ).encode()
    ]
    assert got({}, answering(b"HTTP/1.0 302 Found", []))[0] == ""
    told, _ = got({}, answering(b"HTTP/1.1 503 Sorry", []))
    assert told == "HTTP probe failed with statuscode: 503"


def test_what_is_no_http_is_no_answer() -> None:
    told, port = got({}, answering(b"hello", []))
    broken = "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
    assert told == f'Get "http://127.0.0.1:{port}/": {broken} "hello"'
    told, port = got({}, answering(b'\x00\x00\x06"', []))
    assert told == f'Get "http://127.0.0.1:{port}/": {broken} "\\x00\\x00\\x06\\""'


def test_who_hangs_up_has_said_nothing() -> None:
    async def rude(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    told, port = got({}, rude)
    assert told == f'Get "http://127.0.0.1:{port}/": EOF'


def test_time_spans_are_written_as_go_does() -> None:
    spans = {0.5: "500ms", 1: "1s", 60: "1m0s", 90: "1m30s", 3600: "1h0m0s"}
    assert {each: go_duration(each) for each in spans} == spans


def test_an_answer_that_does_not_come_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    told, port = got({"path": "/x"}, silent)
    assert told == (
        f'Get "http://127.0.0.1:{port}/x": context deadline exceeded '
        "(Client.Timeout exceeded while awaiting headers)"
    )


def test_nobody_who_listens() -> None:
    port = free_port()
    told = asyncio.run(http_get({"port": port}, CONTAINER, "127.0.0.1", 1))
    assert told == (
        f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )
