"""Which servers a balancer gives to its clients: EndpointSlices in, addresses out. Pure.

:source: Kubernetes documentation, "EndpointSlices"
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SERVICE_LABEL = "kubernetes.io/service-name"
"""The label by which an EndpointSlice belongs to a Service."""

_TOKEN_LENGTH = 50
"""Clients of the first years of the protocol keep no longer token; a pod's UID has 36."""


class Server(NamedTuple):
    """One server, as clients shall use it."""

    token: str
    """Tells servers apart in clients' reports and calls: the pod's UID where it is known."""
    address: bytes
    """4 or 16 bytes in network byte order."""
    port: int

    def __str__(self) -> str:
        ip = ipaddress.ip_address(self.address)
        return f"[{ip}]:{self.port}" if ip.version == 6 else f"{ip}:{self.port}"


class Endpoints:
    """What the EndpointSlices of one Service say, as they come and go.

    :param port_name: the Service port whose endpoints are wanted
    """

    def __init__(self, port_name: str) -> None:
        self._port_name = port_name
        self._slices: dict[str, Any] = {}

    def replace(self, slices: Iterable[Any]) -> None:
        """Forget everything, and take these: a list was read."""
        self._slices = {each["metadata"]["name"]: each for each in slices}

    def take(self, change: str, endpoint_slice: Any) -> None:
        """Take one event of a watch.

        :param change: ADDED, MODIFIED or DELETED
        """
        name = endpoint_slice["metadata"]["name"]
        if change == "DELETED":
            self._slices.pop(name, None)
        else:
            self._slices[name] = endpoint_slice

    def servers(self) -> tuple[Server, ...]:
        """Return the servers for new calls, each pod once, in an order that does not change.

        A pod may be in several slices: while it moves from one to another, and in one for each IP
        family. It would get twice its share.
        """
        by_token: dict[str, Server] = {}
        for server in sorted(self._all(), key=lambda each: (len(each.address), each)):
            by_token.setdefault(server.token, server)
        return tuple(sorted(by_token.values()))

    def _all(self) -> Iterator[Server]:
        for each in self._slices.values():
            if each.get("addressType") not in {"IPv4", "IPv6"}:
                continue
            ports = [
                port["port"]
                for port in each.get("ports") or ()
                if (port.get("name") or "") == self._port_name and port.get("port")
            ]
            for port in ports:
                for endpoint in each.get("endpoints") or ():
                    if _takes_calls(endpoint.get("conditions") or {}):
                        yield _server(endpoint, port)


def _takes_calls(conditions: dict[str, bool | None]) -> bool:
    """Tell whether new calls may go to an endpoint: it is ready, and not about to end.

    :source: Kubernetes API, ``EndpointConditions``: a ready that is not told means ready; one that
        is told may be true to its end, where a Service publishes addresses that are not ready
    """
    return conditions.get("ready") is not False and not conditions.get("terminating")


def _server(endpoint: dict[str, Any], port: int) -> Server:
    # An endpoint has one address: that more are allowed is a relic, and they would be the same pod.
    address = endpoint["addresses"][0]
    token = (endpoint.get("targetRef") or {}).get("uid") or f"{address}:{port}"
    return Server(
        token=token[:_TOKEN_LENGTH], address=ipaddress.ip_address(address).packed, port=port
    )
