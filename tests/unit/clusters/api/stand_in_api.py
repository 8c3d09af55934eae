"""An API that answers each websocket request as a test's script says, frame by frame."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pytest_grpclb.clusters.api.kube import KubeApi
from pytest_grpclb.clusters.embedded.api.forwarding import Frames, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "Line", "StandInApi"]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Line:
    """The server's end of one websocket."""

    def __init__(self, connection: socket.socket, head: str) -> None:
        self._connection, self.head = connection, head
        self._frames = Frames()
        self._waiting: list[tuple[int, bytes]] = []

    @property
    def path(self) -> str:
        """What was asked for, with its query."""
        return self.head.split(" ", 2)[1]

    def header(self, name: str) -> str:
        """Return what the request said under *name*."""
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return ""

    def say(self, kind: int, payload: bytes = b"") -> None:
        """Send one frame."""
        self._connection.sendall(frame(kind, payload))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.sendall(data)

    def hear(self) -> tuple[int, bytes]:
        """Return the next message of the client."""
        while not self._waiting:
            data = self._connection.recv(65536)
            if not data:
                raise EOFError
            self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)

    def reset(self) -> None:
        """Break off so that the client sees ECONNRESET, not an orderly end."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def hang_up(self) -> None:
        """End in order, as TCP sees it: without a word of the websocket protocol."""
        self._connection.shutdown(socket.SHUT_RDWR)


@dataclass
class StandInApi:
    """Listens on loopback; give `script` what each websocket shall do."""

    folder: Path
    script: Callable[[Line], None] = field(default=lambda _line: None)
    heads: list[str] = field(default_factory=list)
    """The requests, down to the empty line."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._acceptor, *self._threads):
            thread.join()

    @contextlib.contextmanager
    def connection(self) -> Iterator[KubeApi]:
        """Give a connection to it."""
        server = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path = self.folder / "stand-in-kubeconfig"
        path.write_text(json.dumps(config))
        api = KubeApi(path, "c", scratch=self.folder)
        yield api
        api.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            text = head.decode()
            self.heads.append(text)
            line = Line(connection, text)
            key = line.header("Sec-WebSocket-Key").encode() + _SALT
            accept = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest()).decode()
            answer = [
                "HTTP/1.1 101 Switching Protocols",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Accept: {accept}",
                f"Sec-WebSocket-Protocol: {line.header('Sec-WebSocket-Protocol')}",
            ]
            connection.sendall("\r\n".join([*answer, "", ""]).encode())
            self.script(line)
            while connection.recv(65536):  # the client may have more to say before it leaves
                pass
