"""ClusterIPs: for each TCP port of a Service a listener that leads to one of its pods.

As kube-proxy does: a backend is drawn at random for each connection and never changed; pods that
are ready come first, those that end but still serve only if no other is left; where there is none,
connections are refused. What this does not do: UDP, session affinity, node ports.

:source: Kubernetes documentation, "Virtual IPs and Service Proxies"; KEP-1669 (endpoints that
    terminate)
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.controllers.endpointslices import SERVICE_LABEL, SLICES
from pytest_grpclb.clusters.embedded.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["ServiceProxies"]

_BACKLOG = 1024
_Place = tuple[str, int]
"""Address and port."""


class ServiceProxies:
    """Opens and closes the listeners of all Services as their endpoints come and go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recorder = Recorder(store, "service-proxy")
        self._listeners: dict[tuple[str, str], dict[_Place, _Listener]] = {}
        self._due: set[tuple[str, str]] = set()
        self._transports: set[asyncio.Transport] = set()
        store.subscribe(("services", SLICES), self._observe)

    def close(self) -> None:
        """Stop listening, and cut the connections that stand."""
        for places in self._listeners.values():
            for listener in places.values():
                listener.close()
        for transport in self._transports:
            transport.abort()

    def _observe(self, event: Event) -> None:
        metadata = event.object["metadata"]
        name = metadata["name"]
        if event.object["kind"] == "EndpointSlice":
            name = (metadata.get("labels") or {}).get(SERVICE_LABEL, "")
        if not self._due:
            asyncio.get_running_loop().call_soon(self._settle)
        self._due.add((metadata["namespace"], name))

    def _settle(self) -> None:
        due, self._due = self._due, set()
        for namespace, name in due:
            self._sync(namespace, name)

    def _sync(self, namespace: str, name: str) -> None:
        service = self._store.find("services", name, namespace)
        known = self._listeners.setdefault((namespace, name), {})
        wanted = dict(self._wanted(service)) if service is not None else {}
        for place in known.keys() - wanted.keys():
            known.pop(place).close()
        for place, endpoints in wanted.items():
            listener = known.setdefault(place, _Listener(place, self._transports))
            try:
                listener.lead_to(endpoints)
            except OSError as error:
                self._recorder.warning(service or {}, "FailedToListen", _advice(place, error))
        if not known:
            del self._listeners[namespace, name]

    def _wanted(self, service: Object) -> Iterator[tuple[_Place, list[_Place]]]:
        spec = service["spec"]
        address = spec.get("clusterIP") or "None"
        if address == "None" or not spec.get("selector"):
            return
        slices = [
            each
            for each in self._store.list(SLICES, service["metadata"]["namespace"])
            if (each["metadata"].get("labels") or {}).get(SERVICE_LABEL)
            == service["metadata"]["name"]
        ]
        for port in spec.get("ports") or ():
            if port.get("protocol", "TCP") == "TCP":
                yield (address, port["port"]), _endpoints(slices, port.get("name", ""))


def _endpoints(slices: list[Object], port_name: str) -> list[_Place]:
    """Return where new connections may go."""
    ready, draining = [], []
    for piece in slices:
        for port in piece.get("ports") or ():
            if port.get("name", "") != port_name:
                continue
            for endpoint in piece.get("endpoints") or ():
                conditions = endpoint.get("conditions", {})
                place = (endpoint["addresses"][0], port["port"])
                if conditions.get("ready"):
                    ready.append(place)
                elif conditions.get("serving") and conditions.get("terminating"):
                    draining.append(place)
    return ready or draining


def _advice(place: _Place, error: OSError) -> str:
    address, port = place
    if error.errno == errno.EACCES:
        return (
            f"cannot listen on {address}:{port}: ports below 1024 need a privilege on this "
            "machine; give the Service a higher port, or lower the sysctl "
            "net.ipv4.ip_unprivileged_port_start"
        )
    return (
        f"cannot listen on {address}:{port}: {error.strerror}; "
        f"find who does with `ss -ltnp 'sport = :{port}'`"
    )


class _Listener:
    """One port of one ClusterIP. It listens only while it leads somewhere.

    :param transports: holds all connections that stand
    """

    def __init__(self, place: _Place, transports: set[asyncio.Transport]) -> None:
        self._place, self._transports = place, transports
        self._socket: socket.socket | None = None
        self._endpoints: list[_Place] = []
        self._connecting: set[asyncio.Task[None]] = set()

    def lead_to(self, endpoints: list[_Place]) -> None:
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
