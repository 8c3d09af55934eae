"""Listeners that lead each TCP connection to one of some places, and pass on what is said."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

__all__ = ["Place", "Relay"]

_BACKLOG = 1024
Place = tuple[str, int]
"""Address and port."""


class Relay:
    """One address and port. It is listened on only while it leads somewhere.

    :param transports: holds all connections that stand
    """

    def __init__(self, place: Place, transports: set[asyncio.Transport]) -> None:
        self._place, self._transports = place, transports
        self._socket: socket.socket | None = None
        self._endpoints: list[Place] = []
        self._connecting: set[asyncio.Task[None]] = set()

    def lead_to(self, endpoints: list[Place]) -> None:
        """Send new connections to one of *endpoints* each.

        :raises OSError: if the address and port cannot be listened on
        """
        self._endpoints = endpoints
        if not endpoints:
            self.close()
        elif self._socket is None:
            # asyncio sets TCP_NODELAY where it sees that it is TCP; without it a small answer may
            # wait 40 ms for the acknowledgement of the one before.
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.setblocking(False)
                listening.bind(self._place)
                listening.listen(_BACKLOG)
            except OSError:
                listening.close()
                raise
            self._socket = listening
            asyncio.get_running_loop().add_reader(listening, self._accept)

    def close(self) -> None:
        """Refuse new connections."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            accepted, _ = self._socket.accept()
        except OSError:
            return  # the client has gone again, or no descriptor is left: others may be luckier
        task = asyncio.get_running_loop().create_task(self._join(accepted))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _join(self, accepted: socket.socket) -> None:
        """Connect an accepted client with a backend."""
        loop = asyncio.get_running_loop()
        # A share of the load, not a secret.
        host, port = random.choice(self._endpoints or [("", 0)])  # noqa: S311
        front, behind = _join_sides(self._transports)
        try:
            await loop.create_connection(lambda: behind, host, port)
        except OSError:
            # What a client of kube-proxy meets as well, when the pod has gone a moment before.
            _reset(accepted)
            return
        await loop.connect_accepted_socket(lambda: front, accepted)
        behind.listen()


def _reset(accepted: socket.socket) -> None:
    linger = (1).to_bytes(4, "little") + bytes(4)  # on, for 0 s: closing sends RST
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    accepted.close()


class _Side(asyncio.Protocol):
    """One of the two connections that are joined: what it receives, the other sends."""

    peer: _Side
    transport: asyncio.Transport

    def __init__(self, transports: set[asyncio.Transport], *, listening: bool) -> None:
        self._transports, self._listening = transports, listening
        self._ended = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._transports.add(transport)
        if not self._listening:
            transport.pause_reading()

    def listen(self) -> None:
        """Pass on what has come and what will."""
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self.peer._ended:
            self.peer.transport.close()
            return False
        self.peer.transport.write_eof()
        return True  # half-closed: the other direction goes on

    def pause_writing(self) -> None:
        self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self.peer.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._transports.discard(self.transport)
        if error is None:
            self.peer.transport.close()
        else:
            self.peer.transport.abort()


def _join_sides(transports: set[asyncio.Transport]) -> tuple[_Side, _Side]:
    """Return the client's side and the backend's.

    A backend may speak first: it is not listened to before there is a client to pass that on to.
    """
    front, behind = _Side(transports, listening=True), _Side(transports, listening=False)
    front.peer, behind.peer = behind, front
    return front, behind
