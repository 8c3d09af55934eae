"""What nginx is to do: the values between Ingress objects and the text of ``nginx.conf``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "CATCH_ALL",
    "FAKE_KEYPAIR",
    "NO_PORT",
    "Configuration",
    "Location",
    "Passthrough",
    "Place",
    "Server",
    "ServicePort",
    "Upstream",
]

CATCH_ALL = "_"
"""Host of the server that answers where no other one does."""

FAKE_KEYPAIR = "fake-certificate"
"""Name of the certificate and key of hosts that have none that could be used."""

Place = tuple[str, int]
"""Address and port."""


NO_PORT = 0
"""Port of what stands for an upstream that has no endpoints: nobody can listen there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port of a Service, as an Ingress names them; neither need be there."""

    namespace: str
    service: str
    port: str
    """Its name or its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What calls are passed on to."""

    name: str
    leads_to: ServicePort | Place
    """The endpoints of a Service, whichever it has at the moment, or one fixed place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """What becomes of the calls of some paths."""

    path: str
    exact: bool
    """Only this path; else all below it as well."""
    upstream: str
    """Name of an upstream; empty: the backend is no Service, which is a 503."""
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
    """Name of its certificate and key; FAKE_KEYPAIR where TLS is asked for and there is none that
    could be used; empty where it is not asked for, so that plaintext is as good."""
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
