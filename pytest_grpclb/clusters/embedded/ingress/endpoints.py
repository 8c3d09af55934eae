"""The endpoints of nginx's upstreams, under names that nginx asks for again every second.

So it learns of pods that come and go as ingress-nginx's own balancer does: after a second at most,
and without a reload. An answer has a time to live of 0, and nginx asks again 1 s after it has got
one. After a failure or an empty answer it would ask only 11 s later; therefore an upstream without
endpoints is told a place where nobody can listen.

:source: nginx documentation, ngx_http_upstream_module: ``server``, ``resolve`` and ``service``;
    nginx 1.31, src/http/modules/ngx_http_upstream_zone_module.c (when it asks again);
    ingress-nginx v1.15.1, rootfs/etc/nginx/lua/balancer.lua (``BACKENDS_SYNC_INTERVAL``: 1 s)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.controllers.endpointslices import SERVICE_LABEL, SLICES
from pytest_grpclb.clusters.embedded.ingress.configuration import NO_PORT, ServicePort
from pytest_grpclb.clusters.embedded.network.dns import (
    Found,
    Name,
    Record,
    address_record,
    authority_record,
    service_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.clusters.embedded.ingress.configuration import Place
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["DOMAIN", "SERVICE", "EndpointNames", "endpoints", "name_of", "port_of"]

DOMAIN = "ingress"
SERVICE = "endpoints"
"""What nginx calls the service that it asks for: it makes ``_endpoints._tcp.NAME`` of it."""


def name_of(port: ServicePort) -> str:
    """Return the name that nginx asks for to learn of the endpoints of *port*."""
    return f"{port.port}.{port.service}.{port.namespace}.{DOMAIN}"


class EndpointNames:
    """The zone that nginx's resolver asks: the ports of each upstream, the pods on each port.

    :param nowhere: address of what stands for an upstream that has no endpoints
    :param told: called when nginx is told other endpoints of an upstream than before
    """

    domain: Name = (DOMAIN,)
    ttl_s = 0

    def __init__(
        self, store: Store, nowhere: str, told: Callable[[ServicePort, int], None]
    ) -> None:
        self._store, self._nowhere, self._tell = store, (nowhere, NO_PORT), told
        self._told: dict[ServicePort, tuple[Place, ...]] = {}

    def soa(self) -> Record:
        """Return the zone's SOA."""
        return authority_record(self.domain, serial=self._store.revision, ttl_s=self.ttl_s)

    def find(self, name: Name) -> Found | None:
        """Return an upstream's ports, or the pods on one of them; None: there is no such name."""
        match name[: -len(self.domain)]:
            case (service, "_tcp", port, *owner) if service == f"_{SERVICE}" and len(owner) == 2:
                return self._ports(
                    name, ServicePort(port=port, service=owner[0], namespace=owner[1])
                )
            case (number, port, service, namespace) if number.isdecimal():
                upstream = ServicePort(port=port, service=service, namespace=namespace)
                return self._pods(name, upstream, int(number))
            case _:
                return None

    def _ports(self, name: Name, upstream: ServicePort) -> Found:
        places = endpoints(self._store, upstream) or (self._nowhere,)
        before = self._told.get(upstream)
        self._told[upstream] = places
        if before not in {None, places}:
            self._tell(upstream, len(places) if places != (self._nowhere,) else 0)
        numbers = sorted({port for _, port in places})
        # The weight of each is the same, whatever the number of pods behind it: nginx gives it to
        # every one of them.
        return Found(
            tuple(
                service_record(name, (str(number), *name[2:]), number, share=1)
                for number in numbers
            )
        )

    def _pods(self, name: Name, upstream: ServicePort, number: int) -> Found | None:
        # Of the places that the ports have just been told of: what nginx does is what was told.
        records = tuple(
            address_record(name, address)
            for address, port in self._told.get(upstream, ())
            if port == number
        )
        return Found(records) if records else None


def port_of(service: Object, asked: str) -> dict[str, Any] | None:
    """Return the port of a Service that has *asked* for its name, number or targetPort.

    :source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go, serviceEndpoints
    """
    for port in service["spec"].get("ports") or ():
        target = str(port.get("targetPort", ""))
        if asked and asked in {port.get("name", ""), str(port["port"]), target}:
            found: dict[str, Any] = port
            return found
    return None


def endpoints(store: Store, upstream: ServicePort) -> tuple[Place, ...]:
    """Return the endpoints that are ready; ingress-nginx knows no others.

    :source: ingress-nginx v1.15.1, internal/ingress/controller/endpointslices.go
    """
    service = store.find("services", upstream.service, upstream.namespace)
    port = None if service is None else port_of(service, upstream.port)
    return () if port is None else tuple(sorted(set(_ready(store, upstream, port.get("name", "")))))


def _ready(store: Store, upstream: ServicePort, port_name: str) -> Iterator[Place]:
    for piece in store.list(SLICES, upstream.namespace):
        if (piece["metadata"].get("labels") or {}).get(SERVICE_LABEL) != upstream.service:
            continue
        for port in piece.get("ports") or ():
            if port.get("name", "") != port_name:
                continue
            for endpoint in piece.get("endpoints") or ():
                # A condition that is not told is to be taken for true.
                if endpoint.get("conditions", {}).get("ready") is not False:
                    yield endpoint["addresses"][0], port["port"]
