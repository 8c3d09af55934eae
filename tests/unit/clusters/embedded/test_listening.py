"""Who listens where, of processes that share this machine's ports."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.embedded.node import listening
from pytest_grpclb.clusters.embedded.node.listening import listeners_of, pause_s, until_listening

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTENS = """
import os, socket, sys

if sys.argv[2] == "child" and os.fork():
    os.wait()
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listening = socket.socket(family)
listening.bind((sys.argv[1], 0))
listening.listen()
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for each in processes:
        each.communicate()  # the end of its input is its end


def listen(
    started: list[subprocess.Popen[str]], address: str, who: str = "itself"
) -> tuple[int, int]:
    """Start a process that listens; return its number, which is its session's, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENS, address, who],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started.append(process)
    assert process.stdout is not None
    return process.pid, int(process.stdout.readline())


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("127.9.8.7", "127.9.8.7"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "[::]"),
        ("::1", "[::1]"),
        ("::ffff:127.9.8.7", "127.9.8.7"),
    ],
)
def test_a_process_is_known_by_where_it_listens(
    started: list[subprocess.Popen[str]], address: str, shown: str
) -> None:
    pid, port = listen(started, address)
    assert listeners_of(pid) == {f"{shown}:{port}"}


def test_what_a_process_has_started_listens_for_it(started: list[subprocess.Popen[str]]) -> None:
    pid, port = listen(started, "127.9.8.7", who="child")
    assert listeners_of(pid) == {f"127.9.8.7:{port}"}


def test_others_do_not(started: list[subprocess.Popen[str]]) -> None:
    _, taken = listen(started, "0.0.0.0")
    pid, port = listen(started, "127.9.8.7")
    assert port != taken
    assert listeners_of(pid) == {f"127.9.8.7:{port}"}


def test_listening_on_the_address_itself_is_as_it_should_be(
    started: list[subprocess.Popen[str]],
) -> None:
    pid, port = listen(started, "127.9.8.7")
    assert asyncio.run(until_listening(pid, ("127.9.8.7", port))) == ""


@pytest.mark.parametrize(("address", "shown"), [("0.0.0.0", "0.0.0.0"), ("::", "[::]")])
def test_listening_on_all_addresses_is_told(
    started: list[subprocess.Popen[str]], address: str, shown: str
) -> None:
    pid, port = listen(started, address)
    assert asyncio.run(until_listening(pid, ("127.9.8.7", port))) == (
        f"nothing listens on 127.9.8.7:{port}, only on {shown}:{port}: on all addresses, which "
        "the pods of the embedded cluster share"
    )


def test_another_port_is_waited_beyond(started: list[subprocess.Popen[str]]) -> None:
    pid, port = listen(started, "127.9.8.7")

    async def look() -> str:
        async with asyncio.timeout(0.2):
            return await until_listening(pid, ("127.9.8.7", port + 1))

    with pytest.raises(TimeoutError):
        asyncio.run(look())


def test_whose_a_socket_is_is_not_asked_where_nobody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That takes a look at every process of the machine, for each container without a probe."""

    def looked(_session: int) -> frozenset[str]:
        raise AssertionError("nobody listens on that port")

    monkeypatch.setattr(listening, "listeners_of", looked)
    with socket.socket() as bound:  # so that nobody else does
        bound.bind(("127.9.8.7", 0))

        async def look() -> str:
            async with asyncio.timeout(0.1):
                return await until_listening(1, bound.getsockname())

        with pytest.raises(TimeoutError):
            asyncio.run(look())


def test_what_does_not_come_is_looked_for_more_and_more_seldom() -> None:
    assert [pause_s(waited_s) for waited_s in (0.0, 0.1, 1.0, 5.0, 60.0)] == [
        0.02,
        0.02,
        0.1,
        0.5,
        1.0,
    ]
