"""What one run of the driver shall do, and how it is written down for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.model import CallKind

if TYPE_CHECKING:
    from pytest_grpclb.model import CallTemplate, Target

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one run of the driver shall do."""

    target: Target
    call: CallTemplate
    channels: int = 1
    own_subchannel_pools: bool = True
    concurrency: int = 8
    rate_per_s: float | None = None
    """None: closed loop with ``concurrency`` calls in flight; else that many calls a second."""
    calls: int = 0
    """Counted calls; 0: until stopped."""
    warm_up_backends: int = 1
    warm_up_timeout_s: float = 5.0
    pods: tuple[str, ...] = ()
    """Addresses of the backends: a connection that ends at one of them names it."""
    report_interval_s: float = 0.0
    """At most this long until a call is reported; 0: what the driver thinks fit."""

    def attributions(self) -> list[pb.Attribution]:
        """Return the ways to learn who answers, the most independent of the service first."""
        ways = []
        if self.target.upstream_header:
            ways.append(pb.Attribution(header=self.target.upstream_header))
        if self.pods:
            ways.append(pb.Attribution(peer=pb.Peer(addresses=self.pods)))
        if self.call.backend_field:
            name, numbers = self.call.backend_field_name, self.call.backend_field
            ways.append(pb.Attribution(field=pb.Field(name=name, numbers=numbers)))
        if self.call.backend_key:
            ways.append(pb.Attribution(header=self.call.backend_key))
        return ways

    def message(self) -> pb.RunRequest:
        """Write it down for the driver."""
        plan = pb.Plan(
            target=self.target.address,
            service_config=self.target.service_config,
            channels=self.channels,
            own_subchannel_pools=self.own_subchannel_pools,
            calls=self.calls,
            report_interval_s=self.report_interval_s,
            call=pb.Call(
                method=self.call.method,
                request=self.call.request,
                timeout_s=self.call.timeout_s,
                metadata=[pb.Metadata(key=key, value=text) for key, text in self.call.metadata],
                backend_key=self.call.backend_key,
                requests=self.call.requests,
                allowed_status=self.call.allowed_status,
                attributions=self.attributions(),
            ),
            warm_up=pb.WarmUp(backends=self.warm_up_backends, timeout_s=self.warm_up_timeout_s),
        )
        if self.call.kind is not CallKind.UNARY:
            stream = plan.call.stream
            stream.SetInParent()  # also where each of its fields is its default
            stream.bidirectional = self.call.kind is CallKind.BIDIRECTIONAL_STREAMING
            stream.interval_s = self.call.message_interval_s or 0.0
            stream.messages = self.call.messages or 0
            stream.duration_s = self.call.duration_s or 0.0
        for name, value in self.target.arguments:
            if isinstance(value, int):
                plan.arguments.add(name=name, int_value=value)
            else:
                plan.arguments.add(name=name, string_value=value)
        if self.target.authority_pem is not None:
            plan.credentials.SetInParent()
            plan.credentials.root_certificates = self.target.authority_pem
            plan.credentials.certificate_chain = self.target.certificate_pem
            plan.credentials.private_key = self.target.key_pem
        if self.rate_per_s is None:
            plan.closed.concurrency = self.concurrency
        else:
            plan.open.rate_per_s = self.rate_per_s
        return pb.RunRequest(plan=plan)
