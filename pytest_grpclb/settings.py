"""What a test asks for. Apart from the other values, since every run of pytest reads it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_grpclb.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

__all__ = [
    "PROGRAMS",
    "STATUS_NAMES",
    "IngressSettings",
    "Keep",
    "OwnPods",
    "PullSecret",
    "Settings",
    "TypeSource",
    "status_codes",
]

STATUS_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""gRPC status codes by number. Source: gRPC documentation, "Status codes"."""


def status_codes(name: str, values: Iterable[object]) -> tuple[int, ...]:
    """Return the numbers of gRPC status codes other than OK, by their names.

    :param values: names, or members of ``grpc.StatusCode``
    :raises OptionError: if one is none; the message calls it *name*
    """
    codes = []
    for value in values:
        text = str(getattr(value, "name", value)).strip().upper()
        if text not in STATUS_NAMES[1:]:
            raise OptionError(name, value, expected=f"one of {', '.join(STATUS_NAMES[1:])}")
        codes.append(STATUS_NAMES.index(text))
    return tuple(dict.fromkeys(codes))


class Keep(enum.Enum):
    """What is left in place after tests, where it can outlive the run."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeSource:
    """Where the types of calls come from; if from no file, the service is asked (reflection)."""

    protos: tuple[Path, ...] = ()
    proto_path: tuple[Path, ...] = ()
    """Where imports, and the files themselves, are looked for."""
    descriptor_set: Path | None = None

    @property
    def empty(self) -> bool:
        """Whether no file is named."""
        return not self.protos and self.descriptor_set is None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressSettings:
    """How calls from outside enter the cluster, where the strategy is an ingress.

    :raises ValueError: if a choice is none of those that there are
    """

    host: str = ""
    """What clients call. With ``*`` as its first label, which the namespace takes the place of: an
    ingress is one for all tests, and the oldest Ingress of a host has it. Empty: what
    ``--grpclb-ingress-host`` says, else ``*.dev.mydomain.com``."""
    tls: str = "terminate"
    """"terminate": TLS ends at the ingress; "end-to-end": the pods speak TLS as well."""
    certificate: str = "valid"
    """What the Secret of the Ingress is to hold: "valid" is a certificate for all names beside
    ``host``, as in ``*.dev.mydomain.com``; else what is wrong with it: "expired", "wrong-host",
    "wrong-type" (a generic Secret, whose files have other names), "other-namespace", "missing"."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Further annotations of the Ingress, which win over the chart's own."""
    class_name: str = ""
    """Of the IngressClass; empty: what ``--grpclb-ingress-class`` says, else "nginx"."""
    secret_name: str = "grpclb-ingress-tls"  # noqa: S105 - a name
    """Of the Secret with the Ingress's certificate, which the run makes."""

    def __post_init__(self) -> None:
        for name, known in _INGRESS_CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}: {value!r} cannot be used; expected {', '.join(known)}")

    def beside(self, name: str) -> IngressSettings:
        """Return the same for a namespace that is somebody else's: under names of the run's own."""
        return replace(self, host=self.host_in(name), secret_name=f"{name}-ingress-tls")

    def host_in(self, namespace: str) -> str:
        """Return what clients call where the backends are in *namespace*."""
        host = self.host or _HOST
        return f"{namespace}{host[1:]}" if host.startswith("*.") else host

    @property
    def ingress_class(self) -> str:
        """The name of the IngressClass, also where none was said."""
        return self.class_name or _CLASS

    def over(self, options: IngressSettings) -> IngressSettings:
        """Return the same, with what the options say where this leaves it to them."""
        return replace(
            self,
            host=self.host or options.host,
            class_name=self.class_name or options.class_name,
        )


_HOST, _CLASS = "*.dev.mydomain.com", "nginx"
_INGRESS_CHOICES = {
    "tls": ("terminate", "end-to-end"),
    "certificate": (
        *("valid", "expired", "wrong-host"),
        *("wrong-type", "other-namespace", "missing"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a test asked for, after options, ini settings and markers were merged."""

    replicas: int = 3
    max_connection_age_s: float | None = 1.0
    """Server side; None: connections live for ever."""
    max_connection_age_grace_s: float | None = 5.0
    """How long calls of an aged connection may still take; None: for ever, as gRPC has it."""
    min_resolution_interval_s: float = 0.25
    """Client side, ``grpc.dns_min_time_between_resolutions_ms``; gRPC's own default is 30 s."""
    channels: int = 1
    concurrency: int = 8
    alpha: float = 1e-6
    power: float = 0.999
    skew: float = 1.5
    ready_timeout_s: float = 60.0
    readiness_gate: bool = False
    """Whether tests can make pods unready: each is ready only while the test process says so too.
    """
    ingress: IngressSettings = field(default_factory=IngressSettings)
    envoy_workers: int = 1
    """Of an Envoy sidecar; each does a round robin of its own."""
    method: str = ""
    """What is called, package.Service/Method; empty: what the fixture ``grpclb_call`` says."""
    request: Any = None
    """As JSON; None: an empty one."""
    timeout_s: float = 10.0
    """Deadline of each call."""
    metadata: tuple[tuple[str, str], ...] = ()
    allowed_status: tuple[int, ...] = ()
    """gRPC status codes beside OK that are answers of the service, and no failures."""
    backend_key: str = ""
    """Response header by which the service names the pod that answered, if nothing else does."""
    backend_field: str = ""
    """The same by a field of the reply, such as "pod.uid"."""

    def client_arguments(self) -> tuple[tuple[str, int | str], ...]:
        """Return the gRPC channel arguments by which a client notices changes in time.

        :source: grpc/impl/channel_arg_names.h
        """
        return (
            (
                "grpc.dns_min_time_between_resolutions_ms",
                round(self.min_resolution_interval_s * 1000),
            ),
            # gRPC waits 1 s after a refused connection, then up to 120 s: too long for a restart.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # Bounds one attempt, which gRPC allows 20 s: a pod that is gone may not even refuse.
            ("grpc.min_reconnect_backoff_ms", 2000),
        )


PROGRAMS = ("driver", "envoy", "balancer", "sample")
"""What runs in the containers that this package makes; the last is the sample service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSecret:
    """A Secret by which nodes may pull images."""

    name: str
    namespace: str = ""
    """Where it is to be copied from; empty: it is where the pods are."""
    prefix: str = "grpclb-pull"
    """Of a copy's name: it must not take the place of what is there."""

    @property
    def copied_name(self) -> str:
        """What pods call it."""
        return f"{self.prefix}-{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPods:
    """How the pods that this package makes are on a cluster; by default as its charts have them."""

    envoy_image: str = ""
    """REPOSITORY:TAG or REPOSITORY@DIGEST; empty: the chart's."""
    pull_secrets: tuple[PullSecret, ...] = ()
    cluster_domain: str = "cluster.local"
    """Below which the cluster's DNS has its names."""
    security: Mapping[str, int | None] = field(default_factory=dict)
    """What pods' security contexts have instead; None: nothing under that key."""
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What containers have instead, by program; None: nothing under that key."""

    def beside(self, name: str) -> OwnPods:
        """Return the same for a namespace that is somebody else's: copies go by the run's name."""
        secrets = tuple(replace(each, prefix=f"{name}-pull") for each in self.pull_secrets)
        return replace(self, pull_secrets=secrets)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """What pods refer to for pulling their images."""
        return tuple(each.copied_name for each in self.pull_secrets)

    def strategy_values(self) -> dict[str, Any]:
        """Return what the values of ``charts/strategy`` have instead, or besides."""
        values = self._values()
        for program in ("driver", "envoy", "balancer"):
            if program in self.resources:
                values[program] = {"resources": dict(self.resources[program])}
        if self.envoy_image:
            repository, _, tag = self.envoy_image.rpartition(":")
            values.setdefault("envoy", {})["image"] = {"repository": repository, "tag": tag}
        if self.cluster_domain != _CLUSTER_DOMAIN:
            values["clusterDomain"] = self.cluster_domain
        return values

    def sample_values(self) -> dict[str, Any]:
        """Return what the values of the sample service's chart have instead, or besides."""
        values = self._values()
        if "sample" in self.resources:
            values["resources"] = dict(self.resources["sample"])
        return values

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if self.pull_secrets:
            values["imagePullSecrets"] = [{"name": name} for name in self.secret_names]
        if self.security:
            values["podSecurityContext"] = dict(self.security)
        return values


_CLUSTER_DOMAIN = OwnPods().cluster_domain
