"""An Envoy in the client's pod: it finds the pods by DNS and does round robin, call by call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import UPSTREAM_HEADER, Mechanism, Service, Target, Timers

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_grpclb.settings import Settings

__all__ = ["EnvoySidecar"]

_PORT = 10000

# From Envoy's asking DNS to calls that go by the answer; every worker takes it up by itself.
_TAKEN_UP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySidecar:
    """Round robin in a proxy beside the client, which knows one address only: its own.

    :source: Envoy documentation, "Service discovery", strict DNS; "Supported load balancers",
        weighted round robin
    """

    name: str = "envoy-sidecar"
    aliases: tuple[str, ...] = ()
    summary: str = "Envoy in the client's pod, round robin over a headless Service"
    mechanism: Mechanism = Mechanism.ROUND_ROBIN
    promises_rebalancing: bool = True
    needs_connection_age: bool = False
    chart: Path | None = None

    def values(self, service: Service, settings: Settings) -> dict[str, Any]:
        """Return values of ``charts/strategy``."""
        return {
            "strategy": self.name,
            "backend": {"selector": dict(service.selector), "port": service.port},
            "envoy": {
                "port": _PORT,
                "workers": settings.envoy_workers,
                "dnsRefreshSeconds": settings.min_resolution_interval_s,
                "upstreamHeader": UPSTREAM_HEADER,
            },
        }

    def target(self, service: Service, settings: Settings, *, release: str) -> Target:
        """Return the pod's own Envoy; the default policy does, for there is one address."""
        host = service.host(f"{release}-envoy")
        return Target(
            address=f"dns:///localhost:{_PORT}",
            arguments=(
                ("grpc.default_authority", f"{host}:{service.port}"),
                *settings.client_arguments(),
            ),
            upstream_header=UPSTREAM_HEADER,
        )

    def timers(self, settings: Settings, *, dns_ttl_s: float) -> Timers:
        """Return the timer: Envoy asks DNS all the time, whether or not connections end."""
        return Timers(
            connection_age_s=settings.max_connection_age_s,
            push_s=settings.min_resolution_interval_s + dns_ttl_s + _TAKEN_UP_S,
        )

    def warm_up_backends(self, backends: int) -> int:
        """Return *backends*: Envoy sends the calls of any channel to every one."""
        return backends
