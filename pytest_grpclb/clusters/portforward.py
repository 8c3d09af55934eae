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
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.kube import PODS
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.kube import KubeApi

__all__ = ["forwarded"]

_LOG = logging.getLogger(__name__)

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERRORS = 0, 1
"""Channels of the only port: its bytes, and what the node says when it cannot be reached."""
_PORT_BYTES = 2
"""Each channel begins with a message that repeats the port, which is no data."""
_BINARY_MESSAGE = 2
"""RFC 6455, section 5.2."""
_PIECE = 1 << 16
_CONNECT_S = 15.0
_GOODBYE_S = 1.0
"""How long the API may take to confirm that a websocket is closed."""


@contextlib.contextmanager
def forwarded(api: KubeApi, namespace: str, pod: str, port: int) -> Iterator[str]:
    """Give a "host:port" on loopback that leads to *port* of a pod for as long as the block runs.

    A connection that cannot be carried on is closed; why is logged.

    :raises ApiError: if the API refuses to forward that port
    """
    url = PODS.path(namespace, pod, "portforward") + f"?ports={port}"
    # One try in the foreground: what is refused is reported by name, not by connections that end.
    _close(api.websocket(url, _PROTOCOL, timeout_s=_CONNECT_S))
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
            connection, _ = self._listener.accept()
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
                tunnel = self._api.websocket(self._url, _PROTOCOL, timeout_s=_CONNECT_S)
                try:
                    self._exchange(connection, tunnel)
                finally:
                    _close(tunnel)
            except (ApiError, OSError, WebSocketException) as error:
                _LOG.warning("port-forward %s broke off: %s", self._url, error)

    def _exchange(self, connection: socket.socket, tunnel: Any) -> None:
        """Carry bytes both ways until either side ends, in this one thread: TLS wants no second."""
        begun: set[int] = set()
        while True:
            if not _pending(tunnel.sock):
                ready, _, _ = select.select([connection, tunnel.sock, self._asleep], [], [])
                if self._asleep in ready:
                    return
                if connection in ready:
                    piece = connection.recv(_PIECE)
                    if not piece:
                        return
                    tunnel.send_binary(bytes((_DATA,)) + piece)
                if tunnel.sock not in ready:
                    continue
            kind, message = tunnel.recv_data()
            if kind != _BINARY_MESSAGE:
                return  # the API closes it: the pod has closed the connection, or has gone
            channel, data = message[0], message[1:]
            if channel not in begun:
                begun.add(channel)
                data = data[_PORT_BYTES:]
            if channel == _ERRORS and data:
                _LOG.warning("port-forward %s: %s", self._url, data.decode(errors="replace"))
                return
            connection.sendall(data)


def _close(tunnel: Any) -> None:
    tunnel.close(timeout=_GOODBYE_S)
    tunnel.shutdown()  # it leaves the socket open where the other side was first to say goodbye


def _pending(sock: socket.socket) -> bool:
    """Tell whether TLS has read ahead what select can no longer see."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
