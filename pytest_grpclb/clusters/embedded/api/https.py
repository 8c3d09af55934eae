"""Brings requests to the API over TLS: HTTP/1.1 by h11 on asyncio.

:source: RFC 9112 (HTTP/1.1)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import h11

from pytest_grpclb.clusters.embedded.api.api import Answer, Api, Request, Response
from pytest_grpclb.clusters.embedded.api.forwarding import ForwardResponse, Tunnel
from pytest_grpclb.clusters.embedded.api.media import encode
from pytest_grpclb.clusters.embedded.api.streams import LogResponse, WatchResponse
from pytest_grpclb.clusters.embedded.store.status import StatusError, TooLargeError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ["Server", "serve"]

_LOG = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024
"""As Kubernetes' own limit for a request: 3 MiB."""
_HANDSHAKE_S = 10.0
_WARN_CODE = 299
_Headers = list[tuple[str, str]]


class Server:
    """The listener and its connections."""

    def __init__(self, listener: asyncio.Server, connections: set[_Connection]) -> None:
        self._listener, self._connections = listener, connections
        self.port: int = listener.sockets[0].getsockname()[1]
        """The port that it listens on."""

    async def close(self, grace_s: float = 1.0) -> None:
        """Take no new connections, end what is under way, and return when all is closed.

        :param grace_s: how long clients may take to read what was already said to them
        """
        self._listener.close()
        for connection in tuple(self._connections):
            connection.shut()
        waiting = [connection.closed for connection in self._connections]
        if waiting:
            await asyncio.wait(waiting, timeout=grace_s)
        for connection in tuple(self._connections):
            connection.abort()
        await self._listener.wait_closed()


async def serve(api: Api, host: str, port: int, context: ssl.SSLContext) -> Server:
    """Listen, and answer from *api*.

    :param port: 0: any free one
    :raises OSError: if the address cannot be had
    """
    context.set_alpn_protocols(["http/1.1"])
    connections: set[_Connection] = set()
    listener = await asyncio.get_running_loop().create_server(
        lambda: _Connection(api.handle, connections),
        host,
        port,
        ssl=context,
        ssl_handshake_timeout=_HANDSHAKE_S,
    )
    return Server(listener, connections)


class _Connection(asyncio.Protocol):
    """One client's connection; requests on it are answered one after the other."""

    def __init__(self, handle: Callable[[Request], Answer], connections: set[_Connection]) -> None:
        self._handle, self._connections = handle, connections
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._watch: WatchResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._log_task: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._connections.discard(self)
        self._end_watch()
        if self._log_task is not None:
            self._log_task.cancel()
        if self._tunnel is not None:
            self._tunnel.close()
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()
        self._send_watched()

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.receive(data)
            return
        self._http.receive_data(data)
        self._read()

    # --- what the server calls

    def shut(self) -> None:
        """End what is being answered, and close once it is sent."""
        self._finish_watch()
        if self._log_task is not None:
            self._log_task.cancel()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # --- requests

    def _read(self) -> None:
        try:
            while not self._transport.is_closing():
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        self._write(h11.InformationalResponse(status_code=100, headers=[]))
                    return
                if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._request, self._body, self._size = event, [], 0
        elif isinstance(event, h11.Data):
            self._size += len(event.data)
            if self._size > BODY_LIMIT:
                status = TooLargeError(f"the body of a request may have {BODY_LIMIT} bytes at most")
                self._reply(Response(status=status.code, body=encode(status.status())), last=True)
            else:
                self._body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and self._request is not None:
            request = _request(self._request, b"".join(self._body))
            self._send(request, self._answer(request))

    def _answer(self, request: Request) -> Answer:
        try:
            return self._handle(request)
        except Exception:  # noqa: BLE001 - a fault in one answer may not end the cluster
            _LOG.exception("%s %s", request.method, request.path)
            fault = StatusError(
                f"{request.method} {request.path}: a fault of the embedded cluster itself; "
                "its log says more"
            )
            return Response(status=fault.code, body=encode(fault.status()))

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            text = f"not HTTP/1.1: {error}\n".encode()
            answer = Response(status=error.error_status_hint, body=text, content_type="text/plain")
            self._reply(answer, last=True)
        else:
            self._transport.close()

    # --- answers

    def _send(self, request: Request, answer: Answer) -> None:
        _LOG.debug("%s %s -> %s", request.method, request.path, answer.status)
        if isinstance(answer, Response):
            self._reply(answer)
            return
        if isinstance(answer, ForwardResponse):
            self._write(h11.InformationalResponse(status_code=101, headers=answer.headers))
            self._tunnel = Tunnel(answer, self._transport, self._may_write)
            self._tunnel.receive(self._http.trailing_data[0])
            return
        headers = [
            ("Content-Type", answer.content_type),
            ("Cache-Control", "no-cache, private"),
            ("Transfer-Encoding", "chunked"),
        ]
        self._write(h11.Response(status_code=answer.status, headers=headers))
        if isinstance(answer, WatchResponse):
            self._watch = answer
            answer.on_ready(self._soon)
            self._send_watched()
        else:
            self._log_task = asyncio.get_running_loop().create_task(self._send_log(answer))

    def _reply(self, answer: Response, *, last: bool = False) -> None:
        headers: _Headers = [
            ("Content-Type", answer.content_type),
            ("Cache-Control", "no-cache, private"),
            ("Content-Length", str(len(answer.body))),
            *(("Warning", f'{_WARN_CODE} - "{_quoted(text)}"') for text in answer.warnings),
        ]
        if last:
            headers.append(("Connection", "close"))
        self._write(
            h11.Response(status_code=answer.status, headers=headers),
            h11.Data(data=answer.body),
            h11.EndOfMessage(),
        )
        self._next_request()

    def _next_request(self) -> None:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._transport.close()

    def _write(self, *events: h11.Event) -> None:
        pieces = [self._http.send(event) or b"" for event in events]
        self._transport.write(b"".join(pieces))

    # --- watches

    def _soon(self) -> None:
        # Not at once: what one write causes goes out together, and not amid that write.
        asyncio.get_running_loop().call_soon(self._send_watched)

    def _send_watched(self) -> None:
        watch = self._watch
        if watch is None or not self._may_write.is_set() or self._transport.is_closing():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines = watch.take()
        if lines:
            self._write(h11.Data(data=lines))
        if watch.ended:
            self._finish_watch()
            return
        due_s = watch.wake_in_s()
        if due_s is not None:
            self._timer = asyncio.get_running_loop().call_later(due_s, self._send_watched)

    def _finish_watch(self) -> None:
        if self._watch is None or self._transport.is_closing():
            return
        self._end_watch()
        self._write(h11.EndOfMessage())
        self._next_request()
        self._read()

    def _end_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    # --- logs

    async def _send_log(self, answer: LogResponse) -> None:
        try:
            async with contextlib.aclosing(answer.pieces) as pieces:
                async for piece in pieces:
                    await self._may_write.wait()
                    if piece:
                        self._write(h11.Data(data=piece))
            self._write(h11.EndOfMessage())
            self._log_task = None
            self._next_request()
            self._read()
        except (OSError, StatusError):
            _LOG.exception("reading a log")
            self._transport.close()


def _request(head: h11.Request, body: bytes) -> Request:
    path, _, query = head.target.decode("ascii").partition("?")
    return Request(
        method=head.method.decode("ascii"),
        path=path,
        query=query,
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )


def _quoted(text: str) -> str:
    """Return a text as it may stand between the quotes of a header.

    :source: RFC 9110, section 5.6.4 (quoted-string)
    """
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(character for character in escaped if character.isprintable())
