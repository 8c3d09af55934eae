"""A name server on its sockets: UDP and TCP.

:source: RFC 1035, section 4.2; RFC 7766 (several queries on one TCP connection)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.network.dns import Names, answer

if TYPE_CHECKING:
    import socket

__all__ = ["NameServer"]

_IDLE_S = 10.0
"""A TCP client that asks nothing for so long is let go (RFC 7766, section 6.2.3: some seconds)."""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: Names) -> None:
        self._zone = zone

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        reply = answer(data, self._zone)
        if reply is not None:
            self._transport.sendto(reply, addr)


class NameServer:
    """Answers queries for one zone."""

    def __init__(self, zone: Names) -> None:
        self._zone = zone

    async def serve(self, stream: socket.socket, datagrams: socket.socket) -> None:
        """Answer on two bound sockets, until the event loop ends."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: _Datagrams(self._zone), sock=datagrams)
        await asyncio.start_server(self._converse, sock=stream)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    length = int.from_bytes(await reader.readexactly(2))
                    query = await reader.readexactly(length)
                reply = answer(query, self._zone, over_tcp=True)
                if reply is None:
                    return
                writer.write(len(reply).to_bytes(2) + reply)
                await writer.drain()
        except (OSError, EOFError, TimeoutError):
            return
        finally:
            writer.close()
