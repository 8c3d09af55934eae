"""A TLS proxy before the API that does what networks and overloaded servers do."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Fault", "FaultyApi"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request instead of, or after, being answered."""

    status: int = 0
    """Answered with this status; 0: it is not, see the others."""
    headers: tuple[tuple[str, str], ...] = ()
    reset: bool = False
    """The connection is reset before there is an answer."""
    lose_answer: bool = False
    """The API does what it is asked, then the connection is reset."""
    reset_after_lines: int | None = None
    """The connection is reset after so many lines of the body."""
    cut_after_bytes: int | None = None
    """Of what a pod's streams bring: the websocket is reset after so many, below TLS."""
    line: bytes = b""
    """What the body consists of, in place of the API's."""


@dataclass
class FaultyApi:
    """Passes requests on to the API that *kubeconfig* leads to; ask `plan` before each."""

    kubeconfig: Path
    folder: Path
    plan: Callable[[str, str], Fault | None] = field(default=lambda _verb, _path: None)
    """From verb and path (with query) to what shall go wrong."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    carried: list[socket.socket] = field(default_factory=list)
    """The clients' ends of the websockets that stand."""

    def __enter__(self) -> Self:
        config = json.loads(self.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        upstream = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        trust = ssl.create_default_context(cadata=authority)
        certificates = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificates.issue_cert("127.0.0.1").configure_cert(context)

        def connect() -> http.client.HTTPSConnection:
            assert upstream.hostname is not None
            return http.client.HTTPSConnection(
                upstream.hostname, upstream.port, context=trust, timeout=60
            )

        self._server = _Server(("127.0.0.1", 0), self, connect)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        cluster["server"] = f"https://127.0.0.1:{self._server.server_port}"
        encoded = base64.b64encode(certificates.cert_pem.bytes()).decode()
        cluster["certificate-authority-data"] = encoded
        self.leads_here.write_text(json.dumps(config))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def cut(self) -> int:
        """Break off every websocket that stands, and return how many did."""
        carried, self.carried[:] = list(self.carried), []
        for each in carried:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(carried)

    @property
    def leads_here(self) -> Path:
        """The kubeconfig that leads through the proxy."""
        return self.folder / "faulty-kubeconfig"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        api: FaultyApi,
        connect: Callable[[], http.client.HTTPSConnection],
    ) -> None:
        super().__init__(address, _Handler)
        self.api, self.connect = api, connect

    def handle_error(self, *_: Any) -> None:
        """Clients go away; that is none of the test's business."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.api.seen.append((self.command, self.path))
        fault = self.server.api.plan(self.command, self.path) or Fault()
        if fault.reset:
            self._reset()
        elif fault.status:
            self._answer(fault)
        elif self.headers.get("Upgrade"):
            self._splice(fault.cut_after_bytes)
        else:
            self._forward(body, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - names of the base

    def _answer(self, fault: Fault) -> None:
        told = {"kind": "Status", "code": fault.status, "reason": "Injected", "message": "injected"}
        text = json.dumps(told).encode()
        self.send_response(fault.status)
        for name, value in (*fault.headers, ("Content-Length", str(len(text)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _forward(self, body: bytes, fault: Fault) -> None:
        connection = self.server.connect()
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = connection.getresponse()
            if fault.lose_answer:
                answer.read()
                self._reset()
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "content-length", "connection"}:
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number, line in enumerate([fault.line] if fault.line else answer):
                if number == fault.reset_after_lines:
                    self._reset()
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        finally:
            connection.close()

    def _splice(self, limit: int | None) -> None:
        """Pass bytes both ways from here on: it is no HTTP any more."""
        self.close_connection = True
        carried = self.server.api.carried
        carried.append(self.connection)
        connection = self.server.connect()
        connection.connect()
        upstream = connection.sock
        head = [f"{self.command} {self.path} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        upstream.sendall("\r\n".join([*head, "", ""]).encode())

        def pump(source: socket.socket, sink: socket.socket, limit: int | None = None) -> None:
            left = limit
            with contextlib.suppress(OSError):
                while left != 0 and (piece := source.recv(65536)):
                    sink.sendall(piece[:left])
                    left = None if left is None else max(0, left - len(piece))
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        # A timeout keeps TLS from holding its lock while it waits for bytes.
        self.connection.settimeout(60)
        back = threading.Thread(target=pump, args=(upstream, self.connection, limit), daemon=True)
        back.start()
        pump(self.connection, upstream)
        back.join()
        connection.close()
        if self.connection in carried:
            carried.remove(self.connection)

    def _reset(self) -> None:
        """Close so that the peer sees ECONNRESET, not an orderly end."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        with socket.socket(fileno=self.connection.detach()):
            pass
