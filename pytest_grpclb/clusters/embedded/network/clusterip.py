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
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.controllers.endpointslices import SERVICE_LABEL, SLICES
from pytest_grpclb.clusters.embedded.network.relay import Place, Relay
from pytest_grpclb.clusters.embedded.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["ServiceProxies"]


class ServiceProxies:
    """Opens and closes the listeners of all Services as their endpoints come and go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recorder = Recorder(store, "service-proxy")
        self._listeners: dict[tuple[str, str], dict[Place, Relay]] = {}
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
            listener = known.setdefault(place, Relay(place, self._transports))
            try:
                listener.lead_to(endpoints)
            except OSError as error:
                self._recorder.warning(service or {}, "FailedToListen", _advice(place, error))
        if not known:
            del self._listeners[namespace, name]

    def _wanted(self, service: Object) -> Iterator[tuple[Place, list[Place]]]:
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


def _endpoints(slices: list[Object], port_name: str) -> list[Place]:
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


def _advice(place: Place, error: OSError) -> str:
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
