"""An Ingress of class nginx: calls come from outside the cluster, by TLS and a host name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import UPSTREAM_HEADER, Mechanism, Service, Target, Timers

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_grpclb.settings import Settings

__all__ = ["BACKEND_SECRET", "IngressNginx"]

BACKEND_SECRET = "grpclb-backend-tls"  # noqa: S105 - a name
"""Made in the backends' namespace where TLS goes end to end; for their pods to mount."""

# From a change of the endpoints to calls that go by it: nginx looks once a second. How soon the
# controller tells it of them is the cluster's to say.
_PUSH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressNginx:
    """Round robin in the proxy, call by call, whatever the connections of its clients.

    :source: ingress-nginx v1.15.1, user guide, "gRPC"
    """

    name: str = "ingress-nginx"
    aliases: tuple[str, ...] = ()
    summary: str = "Ingress of class nginx, round robin in the proxy, TLS by host name"
    mechanism: Mechanism = Mechanism.ROUND_ROBIN
    promises_rebalancing: bool = True
    # Worse than useless: a server's GOAWAY that comes while nginx waits for the end of an answer
    # makes it lose about one call in a thousand at an age of 1 s ("upstream prematurely closed").
    needs_connection_age: bool = False
    chart: Path | None = None

    def values(self, service: Service, settings: Settings) -> dict[str, Any]:
        """Return values of ``charts/strategy``."""
        ingress = settings.ingress
        return {
            "strategy": self.name,
            "backend": {"selector": dict(service.selector), "port": service.port},
            "ingress": {
                "className": ingress.ingress_class,
                "host": ingress.host_in(service.namespace),
                "tls": {"mode": ingress.tls, "secretName": ingress.secret_name},
                "annotations": dict(ingress.annotations),
            },
        }

    def target(self, service: Service, settings: Settings, *, release: str) -> Target:  # noqa: ARG002
        """Return the host name, as clients in life dial it."""
        host = settings.ingress.host_in(service.namespace)
        return Target(
            address=f"dns:///{host}:443",
            arguments=(("grpc.default_authority", host), *settings.client_arguments()),
            through_ingress=True,
            upstream_header=UPSTREAM_HEADER,
        )

    def timers(self, settings: Settings, *, dns_ttl_s: float) -> Timers:  # noqa: ARG002
        """Return the timer: the controller watches the endpoints. Clients need not notice."""
        return Timers(connection_age_s=settings.max_connection_age_s, push_s=_PUSH_S)

    def warm_up_backends(self, backends: int) -> int:
        """Return *backends*: the proxy sends the calls of any channel to every one."""
        return backends
