"""What nginx is to do: the values between Ingress objects and the text of ``nginx.conf``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CATCH_ALL", "Configuration", "Location", "Passthrough", "Place", "Server", "Upstream"]

CATCH_ALL = "_"
"""Host of the server that answers where no other one does."""

Place = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The endpoints of a Service's port."""

    name: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """What becomes of the calls of some paths."""

    path: str
    exact: bool
    """Only this path; else all below it as well."""
    upstream: str
    """Name of an upstream; empty: there are no endpoints, which is a 503."""
    protocol: str
    """GRPC, GRPCS, HTTP or HTTPS."""
    redirects: bool
    """Whether plaintext is sent to https."""
    connect_timeout_s: int
    send_timeout_s: int
    read_timeout_s: int
    body_size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One host name."""

    host: str
    """A name, a wildcard such as ``*.example.com``, or CATCH_ALL."""
    keypair: str
    """Name of its certificate and key; empty: the fake certificate."""
    locations: tuple[Location, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passthrough:
    """A host whose TLS connections are not ended here, but led to a Service's address."""

    host: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All that nginx is to do."""

    servers: tuple[Server, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    passthroughs: tuple[Passthrough, ...] = ()
    keypairs: dict[str, bytes] = field(default_factory=dict, repr=False)
    """Certificate chain and key of each name, PEM."""
