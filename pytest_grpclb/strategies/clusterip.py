"""A ClusterIP Service: one pod for each connection, the baseline that the others improve on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import Mechanism, Service, Target, Timers

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_grpclb.settings import Settings

__all__ = ["ClusterIp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterIp:
    """One random pod for each connection; a client keeps its one connection, hence its pod.

    :source: Kubernetes documentation, "Virtual IPs and Service Proxies"
    """

    name: str = "clusterip"
    aliases: tuple[str, ...] = ()
    summary: str = "ClusterIP Service, one pod for each connection"
    mechanism: Mechanism = Mechanism.CONNECTION
    promises_rebalancing: bool = False
    needs_connection_age: bool = True
    chart: Path | None = None

    def values(self, service: Service, settings: Settings) -> dict[str, Any]:  # noqa: ARG002
        """Return values of ``charts/strategy``."""
        return {
            "strategy": self.name,
            "backend": {"selector": dict(service.selector), "port": service.port},
        }

    def target(self, service: Service, settings: Settings, *, release: str) -> Target:
        """Return the Service's name, which stands for one address; gRPC's defaults do the rest.

        The dot at its end keeps the resolver from trying search domains first.

        :source: Kubernetes documentation, "DNS for Services and Pods"; resolv.conf(5)
        """
        host = service.host(f"{release}-clusterip")
        return Target(
            address=f"dns:///{host}.:{service.port}",
            arguments=(
                ("grpc.default_authority", f"{host}:{service.port}"),
                *settings.client_arguments(),
            ),
        )

    def timers(self, settings: Settings, *, dns_ttl_s: float) -> Timers:  # noqa: ARG002
        """Return the timer: the next connection may go to any pod; the address stays the same."""
        return Timers(connection_age_s=settings.max_connection_age_s)

    def warm_up_backends(self, backends: int) -> int:  # noqa: ARG002
        """Return 1: a channel knows only the pod of its connection."""
        return 1
