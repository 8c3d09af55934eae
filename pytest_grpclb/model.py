"""The values that go from stage to stage: frozen, plain, and free of gRPC, pytest and Kubernetes.

Times are seconds. A moment (``..._at_s``, ``sent_s``, ``done_s``) is told on the monotonic clock of
the test process, whichever pod it was taken in.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_grpclb.templates import DEFAULT_BACKEND_KEY, CallKind, CallTemplate, NamedCall
from pytest_grpclb.verdicts import Alarm, Outcome, Rebalance, Verdict

__all__ = [
    "CHANGES",
    "DEFAULT_BACKEND_KEY",
    "Alarm",
    "Backend",
    "CallKind",
    "CallTemplate",
    "Calls",
    "Connection",
    "Event",
    "EventKind",
    "Failure",
    "Handshake",
    "IngressAnswer",
    "Mechanism",
    "NamedCall",
    "Outcome",
    "Rebalance",
    "Redirect",
    "Service",
    "Stream",
    "Target",
    "Timers",
    "Traffic",
    "Verdict",
]

Manifest = Mapping[str, Any]
"""A Kubernetes object as the API takes it: JSON values only."""

UNKNOWN_BACKEND = -1
"""In the backend column: the call failed, or nothing named who answered it."""


class Mechanism(enum.Enum):
    """How a strategy picks a backend, hence which test its spread is judged by."""

    ROUND_ROBIN = "round robin"
    RANDOM = "random"
    CONNECTION = "connection"
    """One backend for the life of a connection: the connection is the unit, not the call."""


UPSTREAM_HEADER = "grpclb-upstream"
"""Response header by which proxies name the pod that answered, ADDRESS:PORT. Each is told so: Envoy
and the embedded ingress in their configuration, ingress-nginx in a ConfigMap of its controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The backends under test, as the strategy chart needs to know them."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    port: int
    """Where its pods listen."""
    deployment: str
    """The name of the workload that the pods belong to; empty: none that can be changed."""
    kind: str = "Deployment"
    """Of that workload: Deployment or StatefulSet."""
    domain: str = "cluster.local"
    """Below which the cluster's DNS has its names."""

    def host(self, name: str) -> str:
        """Return the DNS name of the Kubernetes Service *name* in the namespace of the backends.

        :source: Kubernetes DNS-Based Service Discovery, version 1.1.0, section 2.3
        """
        return f"{name}.{self.namespace}.svc.{self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the client dials, and how its channel is set up."""

    address: str
    service_config: str = ""
    arguments: tuple[tuple[str, int | str], ...] = ()
    through_ingress: bool = False
    """Dialled from outside: the name stands for the cluster's ingress, wherever that listens."""
    upstream_header: str = ""
    """Response header by which a proxy on the way names the pod that answered; empty: none does."""
    authority_pem: bytes | None = field(default=None, repr=False)
    """Certificates of who vouches for the server, PEM; None: plaintext, empty: the system's."""
    certificate_pem: bytes = field(default=b"", repr=False)
    """The client's own certificate, with those that lead to who vouches for it; empty: none."""
    key_pem: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """What bounds the time until a strategy's clients use a changed set of pods."""

    connection_age_s: float | None
    """None: the server never closes a standing connection, so nothing makes clients look again."""
    min_resolution_interval_s: float = 0.0
    dns_ttl_s: float = 0.0
    connect_s: float = 1.0
    """Upper bound of TCP and HTTP/2 set-up to a pod that is ready."""
    push_s: float | None = None
    """Upper bound until clients are told of a change; None: nobody tells them, they have to ask."""
    kill_s: float = 0.0
    """Upper bound until a pod that is killed has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A pod that answers calls."""

    uid: str
    name: str
    address: str = ""
    ready_at_s: float | None = None
    removed_at_s: float | None = None
    """When its endpoint stopped being ready; None: it still is."""
    other_addresses: tuple[str, ...] = ()
    """Of its other IP family, on a dual-stack cluster."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that it is called by."""
        return ((self.address,) if self.address else ()) + self.other_addresses


class EventKind(enum.Enum):
    """What can happen to a deployment while traffic runs."""

    SCALE = "scale"
    KILL = "kill"
    RESTART = "restart"
    MAKE_UNREADY = "make unready"
    MAKE_READY = "make ready"
    ENDPOINT_READY = "endpoint ready"
    ENDPOINT_REMOVED = "endpoint removed"
    RESOLVED = "resolved"
    CONNECTION_OPENED = "connection opened"
    CONNECTION_CLOSED = "connection closed"


CHANGES = frozenset(
    {
        EventKind.SCALE,
        EventKind.KILL,
        EventKind.RESTART,
        EventKind.MAKE_UNREADY,
        EventKind.MAKE_READY,
    }
)
"""What is done to the pods; all else follows from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to the deployment or its clients while traffic ran."""

    at_s: float
    kind: EventKind
    backend: str = ""
    """UID of the pod concerned; empty: the deployment as a whole, or an address of no pod."""
    detail: str = ""
    channel: int | None = None
    """The client's channel concerned; None: it is no event of a client."""
    address: str = ""
    """The other end of a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One subchannel of one of the client's channels, from the client's own accounts (channelz)."""

    channel: int
    address: str
    state: str
    calls_started: int
    connections: int
    subchannel: int = 0
    """gRPC's own number of it: another one is another subchannel, if of the same address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that did not end with OK."""

    sequence: int
    status: int
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a server presented when a client made a TLS connection."""

    leaf_der: bytes = field(repr=False)
    subject: str
    alpn: str
    """The protocol agreed upon; empty: none."""
    error: str = ""
    """Why a client that looks at the certificate refuses it; empty: it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """What was answered to a request in plaintext."""

    status: int
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressAnswer:
    """What came of one call from outside."""

    status: str
    """Name of its gRPC status code."""
    details: str = ""
    backend: str = ""
    """What the pod that answered called itself."""
    transport: str = ""
    """How that pod says it was reached, "tls" or "plaintext"; empty: it does not say."""
    services: tuple[str, ...] = ()
    """What reflection lists."""
    allowed: bool = False
    """Whether the status, if other than OK, is one that the test allows."""

    @property
    def answered(self) -> bool:
        """Whether it was the service that answered."""
        return self.status == "OK" or self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Calls in columns, in the order in which they ended; row i of each column is one call."""

    sequence: Sequence[int] = ()
    """Order of sending, from 0."""
    channel: Sequence[int] = ()
    sent_s: Sequence[float] = ()
    done_s: Sequence[float] = ()
    backend: Sequence[int] = ()
    """Index into ``identities``, or UNKNOWN_BACKEND."""
    status: Sequence[int] = ()
    """gRPC status code; 0 is OK."""
    identities: Sequence[str] = ()
    """What backends called themselves (pod UIDs), in order of first answer."""
    allowed: frozenset[int] = frozenset()
    """Status codes beside OK that are answers."""

    def __len__(self) -> int:
        return len(self.sequence)

    def failed(self) -> int:
        """Return how many calls failed."""
        return sum(status != 0 and status not in self.allowed for status in self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One call of many messages, from its opening to its end, if it has ended."""

    sequence: int
    """Order of opening, from 0; of the same stream among the calls, once it has ended."""
    channel: int
    sent_s: float
    opened_s: float | None
    """When the first answer came; None: none came before it ended."""
    backend: str = ""
    """What the backend called itself (pod UID); empty: nothing named it."""
    ended_s: float | None = None
    """None: it is open."""
    status: int | None = None
    """gRPC status code; 0 is OK, also of one that the client ended as planned."""
    messages_sent: int | None = None
    messages_received: int | None = None
    """Known when it has ended."""

    def is_open(self, at_s: float) -> bool:
        """Return whether it had been answered, and had not ended, at a moment."""
        if self.opened_s is None or self.opened_s > at_s:
            return False
        return self.ended_s is None or self.ended_s > at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The calls of one run of the driver, and all that is needed to judge them."""

    strategy: str
    mechanism: Mechanism
    calls: Calls
    backends: tuple[Backend, ...]
    """Pods that were ready at some moment of the run, in order of readiness."""
    started_at_s: float = 0.0
    ended_at_s: float | None = None
    """None: still running when this value was taken."""
    channels: int = 1
    picker_rebuilds: int | None = None
    """Changes of the client's set of ready connections while calls were counted; None: unknown.
    Where a proxy picks: changes of its set of backends."""
    proxied: bool = False
    """Whether a proxy between client and pods picks backends, not the client's channels."""
    pickers: int | None = None
    """How many workers of the proxy pick, each by itself; None: unknown, or there is no proxy."""
    connections: tuple[Connection, ...] = ()
    resolved: tuple[str, ...] = ()
    """Addresses that the client's channels knew at the end."""
    failures: tuple[Failure, ...] = ()
    """Details of failed calls; at most 1000 of each status."""
    events: tuple[Event, ...] = ()
    timers: Timers | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings in force, for people: what to read beside a failure."""
    attribution: str = ""
    """How it is known who answered; empty: it is not."""
    attribution_tried: tuple[str, ...] = ()
    """Ways that named nobody, and why, as long as no other one did."""
    warm_up_seen: tuple[int, ...] = ()
    """Distinct backends that each channel had seen when counting began."""
    alpha: float = 1e-6
    power: float = 0.999
    skew: float = 1.5
    alarm: Alarm | None = None
    """None: nothing could end the run early, so that its number of calls is nobody's choice."""
    streams: tuple[Stream, ...] = ()
    """In the order of their opening. Those that have ended are among the calls as well."""
    streams_kept_open: int | None = None
    """How many streams the client keeps open at a time; None: that is not what it does."""
    stream_duration_s: float | None = None
    """After which the client ends a stream; None: it does not."""
    streams_until_s: float | None = None
    """When the client began to end its streams, to stop; None: it has not."""
    observer: Callable[[Verdict], None] | None = field(default=None, compare=False, repr=False)
    """Told of every verdict on this traffic, so that reports can show it."""

    def counts(self) -> dict[str, int]:
        """Return the answered calls of each backend, by UID; 0 where it answered none.

        Strangers, identities of no known backend, are there under what they called themselves.
        """
        counts = {backend.uid: 0 for backend in self.backends}
        calls = self.calls
        tally = [0] * len(calls.identities)
        for backend, status in zip(calls.backend, calls.status, strict=True):
            if backend != UNKNOWN_BACKEND and (status == 0 or status in calls.allowed):
                tally[backend] += 1
        for identity, answered in zip(calls.identities, tally, strict=True):
            if answered:
                counts[identity] = counts.get(identity, 0) + answered
        return counts

    def open_streams(self, at_s: float | None = None) -> dict[str, int]:
        """Return how many streams each backend has open, by UID; 0 where there is none.

        Strangers, identities of no known backend, are there under what they called themselves.

        :param at_s: at this moment; at the last one before the client stopped, if not given
        """
        if at_s is None:
            at_s = math.inf if self.streams_until_s is None else self.streams_until_s
        counts = {backend.uid: 0 for backend in self.backends}
        for stream in self.streams:
            if stream.is_open(at_s):
                counts[stream.backend] = counts.get(stream.backend, 0) + 1
        return counts
