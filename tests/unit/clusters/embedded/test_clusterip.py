"""ClusterIPs on real sockets: one backend a connection, refused where there is none."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.network.clusterip import ServiceProxies
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SLICES = "endpointslices.discovery.k8s.io"
# Blocks that no cluster takes by default: tests may run beside one.
ADDRESS = "127.252.128.1"
BACKENDS = ("127.252.1.1", "127.252.1.2")


class Fixture:
    """A Service with some endpoints, and backends that say who they are."""

    def __init__(self, port: int) -> None:
        self.store = Store()
        self.port = port
        self.proxies = ServiceProxies(self.store)
        spec = {
            "type": "ClusterIP",
            "clusterIP": ADDRESS,
            "selector": {"app": "x"},
            "ports": [{"name": "grpc", "port": port, "protocol": "TCP"}],
        }
        metadata: dict[str, Any] = {"name": "svc", "namespace": "test"}
        self.store.create("services", {"metadata": metadata, "spec": spec})
        labels = {"kubernetes.io/service-name": "svc"}
        metadata = {"name": "svc-1", "namespace": "test", "labels": labels}
        self.store.create(
            SLICES, {"metadata": metadata, "addressType": "IPv4", "endpoints": [], "ports": []}
        )

    async def lead_to(self, *endpoints: dict[str, Any]) -> None:
        found = self.store.get(SLICES, "svc-1", "test")
        ports = [{"name": "grpc", "port": self.port, "protocol": "TCP"}]
        self.store.update(SLICES, {**found, "endpoints": list(endpoints), "ports": ports})
        await asyncio.sleep(0)  # proxies follow in the event loop's next turn

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(ADDRESS, self.port)

    async def who(self) -> str:
        """Connect once and return the address of the backend that answers."""
        reader, writer = await self.connect()
        writer.write_eof()
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()


def endpoint(address: str, *, ready: bool = True, draining: bool = False) -> dict[str, Any]:
    conditions = {"ready": ready and not draining, "serving": ready, "terminating": draining}
    return {"addresses": [address], "conditions": conditions}


async def name_yourself(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read all, say who answers, hang up."""
    await reader.read()
    writer.write(writer.get_extra_info("sockname")[0].encode())
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def serving(
    converse: Callable[..., Awaitable[None]] = name_yourself,
) -> AsyncIterator[Fixture]:
    conversations: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        try:
            await converse(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    first = await asyncio.start_server(serve, BACKENDS[0], 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(serve, BACKENDS[1], port)
    fixture = Fixture(port)
    async with first, second:
        try:
            yield fixture
        finally:
            fixture.proxies.close()
            if conversations:
                await asyncio.wait(conversations)
            await asyncio.sleep(0)  # closing takes effect in the event loop's next turn


def test_small_answers_wait_for_no_acknowledgement() -> None:
    async def run() -> None:
        async with serving() as fixture:
            await fixture.lead_to(endpoint(BACKENDS[0]))
            reader, writer = await fixture.connect()
            joined = fixture.proxies._transports
            while len(joined) < 2:  # noqa: ASYNC110 - both sides; nothing tells when they stand
                await asyncio.sleep(0)
            sockets = [each.get_extra_info("socket") for each in joined]
            assert [
                each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets
            ] == [1, 1]
            writer.write_eof()
            assert await reader.read() == BACKENDS[0].encode()
            writer.close()

    asyncio.run(run())


def test_connections_are_refused_where_there_is_no_endpoint() -> None:
    async def run() -> None:
        async with serving() as fixture:
            with pytest.raises(ConnectionRefusedError):
                await fixture.who()
            await fixture.lead_to(endpoint(BACKENDS[0]))
            assert await fixture.who() == BACKENDS[0]
            await fixture.lead_to(endpoint(BACKENDS[0], ready=False))
            with pytest.raises(ConnectionRefusedError):
                await fixture.who()

    asyncio.run(run())


def test_every_ready_endpoint_gets_its_share_of_connections() -> None:
    async def run() -> None:
        async with serving() as fixture:
            await fixture.lead_to(*(endpoint(address) for address in BACKENDS))
            seen = {await fixture.who() for _ in range(60)}
            assert seen == set(BACKENDS)  # wrong in one of 2**59 runs

    asyncio.run(run())


def test_endpoints_that_drain_are_used_only_if_no_other_is_left() -> None:
    async def run() -> None:
        async with serving() as fixture:
            draining, ready = endpoint(BACKENDS[0], draining=True), endpoint(BACKENDS[1])
            await fixture.lead_to(draining, ready)
            assert {await fixture.who() for _ in range(30)} == {BACKENDS[1]}
            await fixture.lead_to(draining)
            assert await fixture.who() == BACKENDS[0]

    asyncio.run(run())


def test_a_connection_stays_with_its_backend_when_endpoints_change() -> None:
    async def run() -> None:
        async with serving() as fixture:
            await fixture.lead_to(endpoint(BACKENDS[0]))
            reader, writer = await fixture.connect()
            writer.write(b"x")
            await writer.drain()
            await fixture.lead_to(endpoint(BACKENDS[1]))
            assert await fixture.who() == BACKENDS[1]
            writer.write_eof()
            assert await reader.read() == BACKENDS[0].encode()
            writer.close()

    asyncio.run(run())


def test_a_backend_that_hangs_up_takes_its_client_along() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def run() -> None:
        async with serving(hang_up) as fixture:
            await fixture.lead_to(endpoint(BACKENDS[0]))
            reader, writer = await fixture.connect()
            assert await reader.read() == b""
            writer.close()

    asyncio.run(run())


def test_a_backend_may_speak_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        writer.close()

    async def run() -> None:
        async with serving(greet) as fixture:
            await fixture.lead_to(endpoint(BACKENDS[0]))
            reader, writer = await fixture.connect()
            assert await reader.readexactly(5) == b"hello"
            writer.close()

    asyncio.run(run())


def test_a_backend_that_went_a_moment_ago_resets_the_connection() -> None:
    async def run() -> None:
        async with serving() as fixture:
            await fixture.lead_to(endpoint("127.252.1.77"))
            with pytest.raises(ConnectionResetError):
                await fixture.who()

    asyncio.run(run())


def test_much_data_goes_through_both_ways_unchanged() -> None:
    sent = bytes(range(256)) * 20_000  # 5 MB: more than any buffer on the way

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        async with serving(echo) as fixture:
            await fixture.lead_to(endpoint(BACKENDS[0]))
            reader, writer = await fixture.connect()
            receiving = asyncio.create_task(reader.read(-1))
            writer.write(sent)
            await writer.drain()
            writer.write_eof()
            assert await receiving == sent
            writer.close()

    asyncio.run(run())


def test_a_deleted_service_is_no_longer_listened_for() -> None:
    async def run() -> None:
        async with serving() as fixture:
            await fixture.lead_to(endpoint(BACKENDS[0]))
            fixture.store.delete("services", "svc", "test")
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await fixture.who()

    asyncio.run(run())


def test_a_port_that_is_taken_is_told_as_an_event() -> None:
    async def run() -> None:
        async with serving() as fixture:
            blocker = await asyncio.start_server(name_yourself, ADDRESS, fixture.port)
            async with blocker:
                await fixture.lead_to(endpoint(BACKENDS[0]))
            [event] = fixture.store.list("events", "test")
            assert event["reason"] == "FailedToListen"
            assert event["message"] == (
                f"cannot listen on {ADDRESS}:{fixture.port}: Address already in use; find who does "
                f"with `ss -ltnp 'sport = :{fixture.port}'`"
            )

    asyncio.run(run())
