"""A local port that leads to a pod's port through the API: control traffic only, never measured.

Each connection to the local port is a websocket of its own to the pod's ``portforward``, so that
one that breaks takes no other with it.

:source: Kubernetes documentation, "Use Port Forwarding to Access Applications in a Cluster";
    apimachinery, ``pkg/util/remotecommand`` (v4.channel.k8s.io)
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import PODS
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.clusters.api.kube import KubeApi

__all__ = ["PING_S", "SILENCE_S", "forwarded"]

_LOG = logging.getLogger(__name__)

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERRORS = 0, 1
"""Channels of the only port: its bytes, and what the node says when it cannot be reached."""
_PORT_BYTES = 2
"""Each channel begins with a message that repeats the port, which is no data."""
_BINARY, _PING, _PONG = 0x2, 0x9, 0xA
"""RFC 6455, section 5.2."""
_PIECE = 1 << 16
_CONNECT_S = 15.0
_PASSING = frozenset({0, 429, 500, 502, 503, 504})
_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Between tries to open a websocket: 3 s of an absent API."""
PING_S = 20.0
"""Silence after which a ping is sent. What stands before an API ends connections that are silent,
the strictest after a minute, and a driver has nothing to say between two runs."""
SILENCE_S = 60.0
"""Silence after which whoever has answered pings before is taken for lost."""
_GOODBYE_S = 1.0
"""How long the API may take to confirm that a websocket is closed."""


@contextlib.contextmanager
def forwarded(api: KubeApi, namespace: str, pod: str, port: int) -> Iterator[str]:
    """Give a "host:port" on loopback that leads to *port* of a pod for as long as the block runs.

    A connection that cannot be carried on is closed; why is logged. The next one finds its way
    again, unless the pod has gone.

    :raises ApiError: if the API refuses to forward that port, or stays away
    """
    url = PODS.path(namespace, pod, "portforward") + f"?ports={port}"
    # One try in the foreground: what is refused is reported by name, not by connections that end.
    _close(_opened(api, url, time.sleep))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        forwarder = _Forwarder(api, url, listener)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            forwarder.close()


class _Forwarder:
    """Accepts connections and carries each in a thread."""

    def __init__(self, api: KubeApi, url: str, listener: socket.socket) -> None:
        self._api, self._url, self._listener = api, url, listener
        self._asleep, self._alarm = socket.socketpair()  # becomes readable when all is to end
        self._carriers: list[threading.Thread] = []
        self._acceptor = threading.Thread(
            target=self._accept, name="grpclb-port-forward", daemon=True
        )
        self._acceptor.start()

    def close(self) -> None:
        """End every connection and its thread."""
        self._alarm.close()
        for thread in (self._acceptor, *self._carriers):
            thread.join()
        self._asleep.close()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._asleep], [], [])
            if self._asleep in ready:
                return
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it was gone before it was taken
                continue
            self._carriers = [each for each in self._carriers if each.is_alive()]
            carrier = threading.Thread(
                target=self._carry, args=(connection,), name="grpclb-port-forward", daemon=True
            )
            self._carriers.append(carrier)
            carrier.start()

    def _carry(self, connection: socket.socket) -> None:
        from websocket import WebSocketException

        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                tunnel = _opened(self._api, self._url, self._pause)
                try:
                    self._exchange(connection, tunnel)
                finally:
                    _close(tunnel)
            except (ApiError, OSError, WebSocketException) as error:
                _LOG.warning("port-forward %s broke off: %s", self._url, error)

    def _pause(self, pause_s: float) -> None:
        """Wait, unless all is to end.

        :raises ConnectionAbortedError: if it is
        """
        if select.select([self._asleep], [], [], pause_s)[0]:
            raise ConnectionAbortedError("it is not wanted any more")

    def _exchange(self, connection: socket.socket, tunnel: Any) -> None:
        """Carry bytes both ways until either side ends, in this one thread: TLS wants no second.

        :raises OSError: if the way through the API breaks off
        """
        begun: set[int] = set()
        pulse = _Pulse(tunnel)
        tunnel.settimeout(SILENCE_S)  # for a message that stops in its midst
        while True:
            if not _pending(tunnel.sock):
                ready, _, _ = select.select([connection, tunnel.sock, self._asleep], [], [], PING_S)
                if self._asleep in ready:
                    return
                pulse.check(readable=tunnel.sock in ready)
                if connection in ready:
                    piece = connection.recv(_PIECE)
                    if not piece:
                        return
                    tunnel.send_binary(bytes((_DATA,)) + piece)
                if tunnel.sock not in ready:
                    continue
            # With those that only keep a connection alive: it would wait for others after them.
            kind, frame = tunnel.recv_data_frame(control_frame=True)
            pulse.hear(kind)
            if kind in {_PING, _PONG}:
                continue
            if kind != _BINARY:
                return  # the API closes it: the pod has closed the connection, or has gone
            channel, data = _content(frame.data, begun)
            if channel == _ERRORS and data:
                _LOG.warning("port-forward %s: %s", self._url, data.decode(errors="replace"))
                return
            connection.sendall(data)


class _Pulse:
    """Keeps a silent websocket alive, and notices that its other end is lost."""

    def __init__(self, tunnel: Any) -> None:
        self._tunnel = tunnel
        self._answers = False
        self._heard_s = self._pinged_s = time.monotonic()

    def hear(self, kind: int) -> None:
        """Take down that a message came."""
        self._heard_s = time.monotonic()
        self._answers = self._answers or kind == _PONG

    def check(self, *, readable: bool) -> None:
        """Send a ping if it is time for one.

        :param readable: something has come that is not read yet
        :raises ConnectionError: if who has answered pings before answers no more
        """
        now_s = time.monotonic()
        silence_s = now_s - self._heard_s
        if self._answers and not readable and silence_s > SILENCE_S:
            raise ConnectionError(f"the API has been silent for {silence_s:.0f} s")
        if now_s - max(self._heard_s, self._pinged_s) >= PING_S:
            self._tunnel.ping()
            self._pinged_s = now_s


def _opened(api: KubeApi, url: str, pause: Callable[[float], None]) -> Any:
    """Open a websocket; try again where the API is away or overloaded.

    :raises ApiError: if the API refuses it, or stays away
    """
    deadline_s = time.monotonic() + _CONNECT_S
    for pause_s in _PAUSES_S:
        try:
            return api.websocket(url, _PROTOCOL, timeout_s=_CONNECT_S)
        except ApiError as error:
            if error.status not in _PASSING or time.monotonic() > deadline_s:
                raise
        pause(pause_s)
    return api.websocket(url, _PROTOCOL, timeout_s=_CONNECT_S)


def _content(message: bytes, begun: set[int]) -> tuple[int, bytes]:
    """Return a message's channel and what it carries.

    :param begun: the channels that have; the message's own is added
    """
    if not message:
        return _DATA, b""
    channel, data = message[0], message[1:]
    if channel in begun:
        return channel, data
    begun.add(channel)
    return channel, data[_PORT_BYTES:]


def _close(tunnel: Any) -> None:
    tunnel.close(timeout=_GOODBYE_S)
    tunnel.shutdown()  # it leaves the socket open where the other side was first to say goodbye


def _pending(sock: socket.socket) -> bool:
    """Tell whether TLS has read ahead what select can no longer see."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
