"""A Kubernetes API that answers as a test has written down, over TLS."""

from __future__ import annotations

import http.server
import json
import queue
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEADLINE_S = 20.0
"""A condition that takes so long does not come true."""

TOKEN = "of-the-account"


class ScriptedApi:
    """Takes each request by the next step of its script, and waits for steps to be added."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.requests: queue.Queue[dict[str, str]] = queue.Queue()
        """Path, token and query of each request, in order."""
        self.steps: queue.Queue[Any] = queue.Queue()
        authority = trustme.CA()
        (directory / "ca.crt").write_bytes(authority.cert_pem.bytes())
        (directory / "token").write_text(f"{TOKEN}\n")
        (directory / "namespace").write_text("team")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        script = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                token = self.headers["Authorization"]
                script.requests.put(
                    {"path": parts.path, "token": token, **dict(parse_qsl(parts.query))}
                )
                step = script.steps.get(timeout=DEADLINE_S)
                step(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that go, and steps that close the connection

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def request(self) -> dict[str, str]:
        """Return the next request, once it has come."""
        return self.requests.get(timeout=DEADLINE_S)


def answers(status: int, body: dict[str, Any]) -> Callable[[Any], None]:
    """Return the step that answers with a whole object."""

    def step(handler: http.server.BaseHTTPRequestHandler) -> None:
        content = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return step


def hang_up(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answer nothing, and close the connection."""
    handler.close_connection = True


def refuses(status: int, message: str) -> Callable[[Any], None]:
    """Return the step that answers with a Status."""
    return answers(status, {"kind": "Status", "message": message, "code": status})


def lists(revision: int, *slices: dict[str, Any]) -> Callable[[Any], None]:
    """Return the step that answers with a list."""
    return answers(200, {"metadata": {"resourceVersion": str(revision)}, "items": list(slices)})


class Watched:
    """The step that answers with a watch, whose events a test sends one by one."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._broken = False

    def __call__(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while (line := self._lines.get(timeout=DEADLINE_S)) is not None:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            handler.wfile.flush()
        if not self._broken:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    def send(self, kind: str, obj: dict[str, Any], revision: int = 0) -> None:
        if revision:
            metadata = {**obj.get("metadata", {}), "resourceVersion": str(revision)}
            obj = {**obj, "metadata": metadata}
        self._lines.put(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def send_raw(self, content: bytes) -> None:
        self._lines.put(content)

    def end(self) -> None:
        self._lines.put(None)

    def break_off(self) -> None:
        self._broken = True
        self._lines.put(None)
