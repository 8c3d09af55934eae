"""The sample service where a test brings none: the one place that knows the greeter."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_grpclb.chart import charts_directory
from pytest_grpclb.model import CallKind, CallTemplate, NamedCall
from pytest_grpclb.settings import OwnPods
from pytest_grpclb.sources.rendered import ServiceSource
from pytest_grpclb.strategies.ingress_nginx import BACKEND_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.settings import Settings

__all__ = [
    "SAMPLE_CALL",
    "SAMPLE_SERVER_STREAM",
    "SAMPLE_STREAM",
    "call_of",
    "greeter_values",
    "sample_source",
]

SAMPLE_CALL = CallTemplate(method="/helloworld.Greeter/SayHello")
"""An empty request is a valid HelloRequest."""

SAMPLE_STREAM = CallTemplate(
    method="/helloworld.Greeter/SayHelloBidiStream",
    kind=CallKind.BIDIRECTIONAL_STREAMING,
    message_interval_s=1.0,
)
SAMPLE_SERVER_STREAM = CallTemplate(
    method="/helloworld.Greeter/SayHelloStreamReply", kind=CallKind.SERVER_STREAMING
)
_AS_CHARTED = OwnPods()
_PRE_STOP_S = 5
"""What it takes until endpoints are known everywhere but to DNS."""
_ENDING_S = 25
"""For the calls that are left when a pod is told to end: twice its drain time, and some."""


def sample_source(
    settings: Settings,
    *,
    image: str,
    through_ingress: bool = False,
    dns_cache_s: float = 0.0,
    own_pods: OwnPods = _AS_CHARTED,
) -> ServiceSource:
    """Return the sample service for *settings*; parameters as those of `greeter_values`.

    :param own_pods: how its pods are on the cluster
    """
    return ServiceSource(
        chart=charts_directory() / "greeter",
        release="greeter",
        values=greeter_values(
            settings, image=image, through_ingress=through_ingress, dns_cache_s=dns_cache_s
        )
        | own_pods.sample_values(),
        sets_replicas=False,
    )


def call_of(
    settings: Settings, *, factory: Callable[[int], Any] | None = None
) -> CallTemplate | NamedCall:
    """Return the call that *settings* name; where they name none, the sample's.

    :param factory: makes each call's own request
    """
    if not settings.method:
        return replace(
            SAMPLE_CALL,
            timeout_s=settings.timeout_s,
            metadata=settings.metadata,
            allowed_status=settings.allowed_status,
            backend_key=settings.backend_key or SAMPLE_CALL.backend_key,
        )
    return NamedCall(
        method=settings.method,
        request=settings.request if factory is None else factory,
        timeout_s=settings.timeout_s,
        metadata=settings.metadata,
        allowed_status=settings.allowed_status,
        backend_key=settings.backend_key,
        backend_field=settings.backend_field,
    )


def greeter_values(
    settings: Settings, *, image: str, through_ingress: bool = False, dns_cache_s: float = 0.0
) -> dict[str, Any]:
    """Return values of ``charts/greeter`` for *settings*.

    :param image: the image of this package's own programs, REPOSITORY:TAG
    :param dns_cache_s: for so long clients may be told of a pod that has left; it serves them on
    :param through_ingress: whether the settings of the ingress hold: pods speak TLS where they say
    """
    repository, _, tag = image.rpartition(":")
    sleep_s = _PRE_STOP_S + math.ceil(dns_cache_s)
    return {
        "replicaCount": settings.replicas,
        "preStopSleepSeconds": sleep_s,
        "terminationGracePeriodSeconds": sleep_s + _ENDING_S,
        "image": {"repository": repository, "tag": tag},
        "maxConnectionAge": {
            "seconds": settings.max_connection_age_s,
            "graceSeconds": settings.max_connection_age_grace_s,
        },
        "tls": {
            "secretName": BACKEND_SECRET
            if through_ingress and settings.ingress.tls == "end-to-end"
            else ""
        },
    }
