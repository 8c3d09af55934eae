"""A headless Service: DNS gives the addresses of all pods, and the client does round robin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import Mechanism, Service, Target, Timers

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_grpclb.settings import Settings

__all__ = ["Headless"]

# Without it the client takes the first address that answers, pick_first, and stays there.
_ROUND_ROBIN = '{"loadBalancingConfig":[{"round_robin":{}}]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Headless:
    """Client-side round robin over the addresses of a headless Service."""

    name: str = "headless"
    aliases: tuple[str, ...] = ()
    summary: str = "headless Service, round robin in the client"
    mechanism: Mechanism = Mechanism.ROUND_ROBIN
    promises_rebalancing: bool = True
    needs_connection_age: bool = True
    chart: Path | None = None

    def values(self, service: Service, settings: Settings) -> dict[str, Any]:  # noqa: ARG002
        """Return values of ``charts/strategy``."""
        return {
            "strategy": self.name,
            "backend": {"selector": dict(service.selector), "port": service.port},
        }

    def target(self, service: Service, settings: Settings, *, release: str) -> Target:
        """Return the Service's name, to be resolved by the client.

        The dot at its end keeps the resolver from trying search domains first: the name has fewer
        dots than the ``ndots:5`` of pods, and a DNS server that refuses one of those domains ends
        the search.

        :source: Kubernetes documentation, "DNS for Services and Pods"; resolv.conf(5)
        """
        host = service.host(f"{release}-headless")
        return Target(
            address=f"dns:///{host}.:{service.port}",
            service_config=_ROUND_ROBIN,
            # What servers and proxies are told is the name as people write it.
            arguments=(
                ("grpc.default_authority", f"{host}:{service.port}"),
                *settings.client_arguments(),
            ),
        )

    def timers(self, settings: Settings, *, dns_ttl_s: float) -> Timers:
        """Return the timers: an aged connection ends, and its client asks DNS again."""
        return Timers(
            connection_age_s=settings.max_connection_age_s,
            min_resolution_interval_s=settings.min_resolution_interval_s,
            dns_ttl_s=dns_ttl_s,
        )

    def warm_up_backends(self, backends: int) -> int:
        """Return *backends*: each channel has a connection to every one."""
        return backends
