"""A lookaside balancer ("grpclb"): a program watches the pods and pushes their list to clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import Mechanism, Service, Target, Timers

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_grpclb.settings import Settings

__all__ = ["Lookaside"]

# Round robin is what grpclb does by itself; written down for whoever reads it.
_GRPCLB = '{"loadBalancingConfig":[{"grpclb":{"childPolicy":[{"round_robin":{}}]}}]}'

# From a pod's change in the API to the list on its way to every client. The balancer itself takes
# less than 50 ms of it; the rest is the API's way from the pod's status to its EndpointSlice.
_PUSH_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookaside:
    """Round robin in the client, over the list of servers that a balancer gives it.

    A client that loses its balancer goes on with its last list, and turns to another one at once,
    or after a second where its first attempt still met the dying connection. gRPC's C core asks DNS
    for balancers only when a stream to one ends: if all those die that it knows of before it has
    reached one, it stays with that list until a call to a balancer times out, which
    ``grpc.grpclb_call_timeout_ms`` bounds, or a pod is lost.

    :source: gRPC, "Load Balancing in gRPC", lookaside; gRFC A5
    """

    name: str = "lookaside"
    aliases: tuple[str, ...] = ("grpclb",)
    summary: str = "balancers that push the list of pods to clients (grpclb)"
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
        """Return the name under which SRV records of the port ``grpclb`` lead to the balancers.

        It takes both: without SRV queries the client finds no balancer, and without grpclb in its
        service config it does not use those that it finds.

        The dot at its end keeps the resolver from trying search domains first.

        :source: grpc/impl/channel_arg_names.h; gRFC A26; resolv.conf(5)
        """
        host = service.host(f"{release}-lookaside")
        return Target(
            address=f"dns:///{host}.:{service.port}",
            service_config=_GRPCLB,
            arguments=(
                ("grpc.default_authority", f"{host}:{service.port}"),
                ("grpc.dns_enable_srv_queries", 1),
                *settings.client_arguments(),
            ),
        )

    def timers(self, settings: Settings, *, dns_ttl_s: float) -> Timers:  # noqa: ARG002
        """Return the timer: a push. Neither DNS nor the age of connections has a part in it."""
        return Timers(connection_age_s=settings.max_connection_age_s, push_s=_PUSH_S)

    def warm_up_backends(self, backends: int) -> int:
        """Return *backends*: each channel has a connection to every one."""
        return backends
