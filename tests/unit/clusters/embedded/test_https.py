"""The API on a real socket, over TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from pytest_grpclb.clusters.embedded.api.https import BODY_LIMIT, Server, serve
from pytest_grpclb.clusters.embedded.store.status import NotFoundError

from .conftest import TOKEN, Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from pytest_grpclb.clusters.embedded.store.store import Store

Json = dict[str, Any]
CONFIGS = "/api/v1/namespaces/default/configmaps"
LOG = "/api/v1/namespaces/default/pods/a/log"
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Wire:
    """One connection, spoken to in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, method: str, path: str, body: bytes = b"", *headers: str) -> None:
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: test",
            f"Authorization: Bearer {TOKEN}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, value in headers.items()}

    async def answer(self) -> tuple[int, Any]:
        status, headers = await self.head()
        body = await self.reader.readexactly(int(headers["content-length"]))
        return status, json.loads(body)

    async def chunk(self) -> bytes:
        size = int((await self.reader.readline()).strip(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]


@dataclass
class World:
    """A server with what it serves from."""

    client: Client
    server: Server
    connect: Callable[[], Awaitable[Wire]]

    @property
    def store(self) -> Store:
        return self.client.store

    def watches(self) -> int:
        return len(self.store._histories["configmaps"]._watches)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


@asynccontextmanager
async def world(authority: trustme.CA) -> AsyncGenerator[World, None]:
    client = Client()
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(inside)
    outside = ssl.create_default_context()
    authority.configure_trust(outside)
    server = await serve(client.api, "127.0.0.1", 0, inside)
    open_wires: list[Wire] = []

    async def connect() -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", server.port, ssl=outside))
        open_wires.append(wire)
        return wire

    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield World(client, server, connect)
    finally:
        for wire in open_wires:
            wire.writer.close()
        await server.close()


def config(name: str) -> bytes:
    return json.dumps({"metadata": {"name": name}}).encode()


def run(test: Callable[[World], Awaitable[None]], authority: trustme.CA) -> None:
    async def main() -> None:
        async with world(authority) as here:
            await test(here)

    asyncio.run(main())


def test_requests_follow_one_another_on_one_connection(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("POST", CONFIGS, config("a"))
        assert (await wire.answer())[0] == 201
        wire.say("GET", f"{CONFIGS}/a?x=y")
        status, told = await wire.answer()
        assert (status, told["metadata"]["name"]) == (200, "a")
        # Two at once are answered in their order.
        wire.say("GET", f"{CONFIGS}/b")
        wire.say("GET", f"{CONFIGS}/a")
        assert [(await wire.answer())[0] for _ in range(2)] == [404, 200]

    run(test, authority)


def test_a_client_that_wants_to_close_is_closed(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("GET", CONFIGS, b"", "Connection: close")
        assert (await wire.answer())[0] == 200
        assert await wire.reader.read() == b""

    run(test, authority)


def test_nobody_gets_in_without_the_token(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.writer.write(f"GET {CONFIGS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, told = await wire.answer()
        assert (status, told["reason"]) == (401, "Unauthorized")

    run(test, authority)


def test_a_body_waits_to_be_invited(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        body = config("a")
        head = (
            f"POST {CONFIGS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        )
        wire.writer.write(head.encode())
        assert (await wire.head())[0] == 100
        wire.writer.write(body)
        assert (await wire.answer())[0] == 201

    run(test, authority)


def test_a_watch_tells_what_happens_when_it_happens(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("GET", f"{CONFIGS}?watch=1&resourceVersion=1")
        status, headers = await wire.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        for name in ("a", "b"):
            here.store.create("configmaps", {"metadata": {"name": name, "namespace": "default"}})
            event = json.loads(await wire.chunk())
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", name)

    run(test, authority)


def test_what_one_write_causes_arrives_together(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("GET", f"{CONFIGS}?watch=1&resourceVersion=1")
        await wire.head()
        for name in ("a", "b"):
            here.store.create("configmaps", {"metadata": {"name": name, "namespace": "default"}})
        assert len((await wire.chunk()).splitlines()) == 2

    run(test, authority)


def test_a_watch_that_times_out_leaves_the_connection_usable(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("GET", f"{CONFIGS}?watch=1&resourceVersion=1&timeoutSeconds=0")
        await wire.head()
        assert await wire.chunk() == b""
        assert here.watches() == 0
        wire.say("GET", CONFIGS)
        assert (await wire.answer())[0] == 200

    run(test, authority)


def test_a_client_that_leaves_ends_its_watch(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("GET", f"{CONFIGS}?watch=1&resourceVersion=1")
        await wire.head()
        assert here.watches() == 1
        wire.writer.transport.abort()
        await here.until(lambda: here.watches() == 0)

    run(test, authority)


def test_closing_the_server_ends_watches_in_order(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        watching, idle = await here.connect(), await here.connect()
        watching.say("GET", f"{CONFIGS}?watch=1&resourceVersion=1")
        await watching.head()
        await here.server.close()
        assert await watching.chunk() == b""
        assert await watching.reader.read() == b""
        assert await idle.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await here.connect()

    run(test, authority)


def test_a_log_arrives_piece_by_piece(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        make_pod(here.store)
        wire = await here.connect()
        wire.say("GET", LOG)
        status, headers = await wire.head()
        assert (status, headers["content-type"]) == (200, "text/plain")
        assert await wire.chunk() == b"one\n"
        assert await wire.chunk() == b"two\n"
        assert await wire.chunk() == b""
        wire.say("GET", CONFIGS)
        assert (await wire.answer())[0] == 200

    run(test, authority)


def test_a_client_that_leaves_ends_the_reading_of_a_log(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        ended = asyncio.Event()

        async def endless() -> AsyncGenerator[bytes, None]:
            try:
                yield b"one\n"
                await asyncio.Event().wait()
            finally:
                ended.set()

        here.client.api._log_reader = lambda _pod, _options: endless()
        make_pod(here.store)
        wire = await here.connect()
        wire.say("GET", f"{LOG}?follow=1")
        await wire.head()
        assert await wire.chunk() == b"one\n"
        wire.writer.transport.abort()
        await ended.wait()

    run(test, authority)


def test_a_log_that_breaks_off_breaks_the_connection(
    authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(here: World) -> None:
        async def broken() -> AsyncGenerator[bytes, None]:
            yield b"one\n"
            raise NotFoundError("the file is gone")

        here.client.api._log_reader = lambda _pod, _options: broken()
        make_pod(here.store)
        wire = await here.connect()
        wire.say("GET", LOG)
        await wire.head()
        # No last chunk: the client sees that the log is not whole.
        assert await wire.reader.read() == b"4\r\none\n\r\n"

    run(test, authority)
    assert "the file is gone" in caplog.text


def test_a_body_that_is_too_long_is_refused(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("POST", CONFIGS, b"x" * (BODY_LIMIT + 1))
        status, told = await wire.answer()
        assert (status, told["message"]) == (
            413,
            "the body of a request may have 3145728 bytes at most",
        )

    run(test, authority)


def test_what_is_no_http_is_refused(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.writer.write(b"hello\r\n\r\n")
        status, headers = await wire.head()
        assert (status, headers["connection"]) == (400, "close")
        assert (await wire.reader.read()).startswith(b"not HTTP/1.1: ")

    run(test, authority)


def test_a_fault_is_one_answer_and_not_the_end(
    authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(here: World) -> None:
        def fail(*_: object) -> Any:
            raise RuntimeError("boom")

        here.client.api._writer._admit = fail
        wire = await here.connect()
        wire.say("POST", CONFIGS, config("a"))
        status, told = await wire.answer()
        assert (status, told["message"]) == (
            500,
            f"POST {CONFIGS}: a fault of the embedded cluster itself; its log says more",
        )
        wire.say("GET", CONFIGS)
        assert (await wire.answer())[0] == 200

    run(test, authority)
    assert "boom" in caplog.text


def test_warnings_are_headers(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("POST", CONFIGS, json.dumps({"metadata": {"name": "a"}, 'd"ä\n': 1}).encode())
        status, headers = await wire.head()
        assert (status, headers["warning"]) == (201, r'299 - "unknown field \"d\"\\xe4\""')

    run(test, authority)


def test_a_reader_that_stops_reading_is_not_written_to_without_end(authority: trustme.CA) -> None:
    async def test(here: World) -> None:
        wire = await here.connect()
        wire.say("GET", f"{CONFIGS}?watch=1&resourceVersion=1")
        await wire.head()
        (connection,) = here.server._connections
        filler = "x" * 65536
        number = 0
        while connection._may_write.is_set():  # nobody reads: the buffers fill up
            obj = {
                "metadata": {"name": f"c{number}", "namespace": "default"},
                "data": {"a": filler},
            }
            here.store.create("configmaps", obj)
            number += 1
            await asyncio.sleep(0)
        here.store.create("configmaps", {"metadata": {"name": "last", "namespace": "default"}})
        seen: list[str] = []
        rest = b""
        while "last" not in seen:
            *lines, rest = (rest + await wire.chunk()).split(b"\n")
            seen += [json.loads(line)["object"]["metadata"]["name"] for line in lines]
        assert seen == [*(f"c{n}" for n in range(number)), "last"]

    run(test, authority)


def make_pod(store: Store) -> None:
    spec = {"containers": [{"name": "c", "image": "x"}]}
    status = {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}
    metadata = {"name": "a", "namespace": "default"}
    store.create("pods", {"metadata": metadata, "spec": spec, "status": status})
