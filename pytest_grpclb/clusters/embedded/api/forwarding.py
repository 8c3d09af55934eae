"""Port-forwards: TCP connections to a pod's ports, carried by a websocket that a client opened.

A node connects from within the pod, to its localhost. Pods of the embedded cluster have none of
their own, for 127.0.0.1 is this machine's and whoever has a port there is no pod: so it connects to
the pod's address. A service that listens on its pod's address alone is reached here, and not there.

:source: RFC 6455; apimachinery, ``pkg/util/remotecommand`` (v4.channel.k8s.io); kubelet,
    ``pkg/kubelet/portforward/websocket.go``
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.store.status import BadRequestError, StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["ForwardResponse", "Frames", "Tunnel", "forward", "frame"]

PROTOCOL = "v4.channel.k8s.io"
_KEY_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Proves that the server speaks websocket: RFC 6455, section 1.3."""
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL = 0x80
_MASKED = 0x80
_GOING_AWAY = 1001
_PROTOCOL_ERROR = 1002
_PIECE = 1 << 16
_MESSAGE_LIMIT = 1 << 24
"""Far above what clients send at once; below what a broken length would make this process keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardResponse:
    """An answer that turns the connection into a websocket to a pod's ports."""

    pod: str
    address: str
    ports: tuple[int, ...]
    accept: str
    """What the client's key proves, for ``Sec-WebSocket-Accept``."""
    status: int = 101

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What the answer says besides its status."""
        return [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", self.accept),
            ("Sec-WebSocket-Protocol", PROTOCOL),
        ]


def forward(pod: Object, ports: str, headers: Mapping[str, str]) -> ForwardResponse:
    """Check a request to forward ports of *pod*, and accept it.

    :param ports: numbers with commas between, as in the query
    :param headers: by lower-case name
    :raises BadRequestError: if it is no such websocket, or the ports are none
    :raises StatusError: if the pod does not run
    """
    offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
    key = headers.get("sec-websocket-key", "")
    if headers.get("upgrade", "").lower() != "websocket" or PROTOCOL not in offered or not key:
        raise BadRequestError(
            "unable to upgrade: the embedded cluster forwards ports by a websocket with the "
            f"subprotocol {PROTOCOL} only; got Upgrade {headers.get('upgrade', '')!r}, "
            f"subprotocols {headers.get('sec-websocket-protocol', '')!r}"
        )
    try:
        numbers = tuple(int(port) for port in ports.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < 1 << 16 for number in numbers):
        raise BadRequestError(f"ports={ports!r} in the query must be numbers from 1 to 65535")
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") != "Running":
        raise StatusError(
            "unable to forward port because pod is not running. "
            f"Current status={status.get('phase')}"
        )
    digest = hashlib.sha1(key.encode() + _KEY_SALT, usedforsecurity=False).digest()
    return ForwardResponse(
        pod=name,
        address=status["podIP"],
        ports=numbers,
        accept=base64.b64encode(digest).decode(),
    )


def frame(kind: int, payload: bytes) -> bytes:
    """Return one unmasked frame, as servers send them (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes((_FINAL | kind, length))
    elif length < 1 << 16:
        head = bytes((_FINAL | kind, 126)) + length.to_bytes(2)
    else:
        head = bytes((_FINAL | kind, 127)) + length.to_bytes(8)
    return head + payload


class Frames:
    """Puts together the messages of a client, whose frames are masked."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun: tuple[int, bytearray] | None = None

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the messages that *data* completes: kind and payload.

        :raises ValueError: if it is not the websocket protocol
        """
        self._buffer += data
        while (found := self._next_frame()) is not None:
            final, kind, payload = found
            if kind >= _CLOSE:  # control frames stand between the pieces of a message
                yield kind, payload
                continue
            if kind != _CONTINUED:
                self._begun = (kind, bytearray())
            if self._begun is None:
                raise ValueError("a frame continues a message that was not begun")
            kind, message = self._begun
            message += payload
            if len(message) > _MESSAGE_LIMIT:
                raise ValueError(f"a message has more than {_MESSAGE_LIMIT} bytes")
            if final:
                self._begun = None
                yield kind, bytes(message)

    def _next_frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if not buffer[1] & _MASKED:
            raise ValueError("a frame of a client is not masked")
        length, at = buffer[1] & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(buffer) < at + size:
                return None
            length, at = int.from_bytes(buffer[at : at + size]), at + size
        if length > _MESSAGE_LIMIT:
            raise ValueError(f"a frame has more than {_MESSAGE_LIMIT} bytes: {length}")
        end = at + 4 + length
        if len(buffer) < end:
            return None
        mask, payload = buffer[at : at + 4], buffer[at + 4 : end]
        final, kind = bool(buffer[0] & _FINAL), buffer[0] & 0x0F
        del buffer[:end]
        repeated = (bytes(mask) * (length // 4 + 1))[:length]
        plain = int.from_bytes(payload) ^ int.from_bytes(repeated)
        return final, kind, plain.to_bytes(length)


class Tunnel:
    """The connections of one websocket: one for each port, a channel for data, one for errors."""

    def __init__(
        self,
        answer: ForwardResponse,
        transport: asyncio.Transport,
        may_write: asyncio.Event,
    ) -> None:
        self._answer, self._transport, self._may_write = answer, transport, may_write
        self._frames = Frames()
        self._inward: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in answer.ports]
        self._task = asyncio.get_running_loop().create_task(self._run())

    def receive(self, data: bytes) -> None:
        """Take what the client has sent."""
        try:
            for kind, message in self._frames.feed(data):
                self._take(kind, message)
        except ValueError as error:
            self._end(_PROTOCOL_ERROR, str(error))

    def close(self) -> None:
        """Let go of the pod's ports."""
        self._task.cancel()

    def _take(self, kind: int, message: bytes) -> None:
        if kind == _PING:
            self._send(frame(_PONG, message))
        elif kind == _CLOSE:
            self._send(frame(_CLOSE, message))
            self._task.cancel()
            self._transport.close()
        elif kind == _BINARY:
            # Channels come in pairs; the second of each is the server's alone.
            pair, errors = divmod(message[0] if message else len(self._inward) * 2, 2)
            if errors or pair >= len(self._inward):
                raise ValueError(f"no such channel in a message of {len(message)} bytes")
            self._inward[pair].put_nowait(message[1:])
        elif kind == _TEXT:
            raise ValueError(f"a text message on {PROTOCOL}, which is binary")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for pair, port in enumerate(self._answer.ports):
                number = port.to_bytes(2, "little")
                for channel in (2 * pair, 2 * pair + 1):
                    self._send(frame(_BINARY, bytes((channel,)) + number))
                group.create_task(self._carry(pair, port))
        self._end(_GOING_AWAY, "")

    async def _carry(self, pair: int, port: int) -> None:
        try:
            reader, writer = await asyncio.open_connection(self._answer.address, port)
        except OSError as error:
            told = f"error forwarding port {port} to pod {self._answer.pod}: {error}"
            self._send(frame(_BINARY, bytes((2 * pair + 1,)) + told.encode()))
            return
        inward = asyncio.create_task(_pump(self._inward[pair], writer))
        try:
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(_PIECE):
                    await self._may_write.wait()
                    self._send(frame(_BINARY, bytes((2 * pair,)) + piece))
        finally:
            inward.cancel()
            writer.close()

    def _end(self, code: int, reason: str) -> None:
        self._task.cancel()
        self._send(frame(_CLOSE, code.to_bytes(2) + reason.encode()[:123]))
        self._transport.close()

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def _pump(pieces: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(await pieces.get())
            await writer.drain()
