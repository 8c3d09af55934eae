"""The sample service where a test brings none: the one place that knows the greeter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import CallTemplate, NamedCall
from pytest_grpclb.strategies.ingress_nginx import BACKEND_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.settings import Settings

__all__ = ["GREETER_CALL", "call_of", "greeter_values"]

GREETER_CALL = CallTemplate(method="/helloworld.Greeter/SayHello")
"""An empty request is a valid HelloRequest."""


def call_of(
    settings: Settings, *, factory: Callable[[int], Any] | None = None
) -> CallTemplate | NamedCall:
    """Return the call that *settings* name; where they name none, the greeter's.

    :param factory: makes each call's own request
    """
    if not settings.method:
        return replace(
            GREETER_CALL,
            timeout_s=settings.timeout_s,
            metadata=settings.metadata,
            allowed_status=settings.allowed_status,
            backend_key=settings.backend_key or GREETER_CALL.backend_key,
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
    settings: Settings, *, image: str, through_ingress: bool = False
) -> dict[str, Any]:
    """Return values of ``charts/greeter`` for *settings*.

    :param image: the image of this package's own programs, REPOSITORY:TAG
    :param through_ingress: whether the settings of the ingress hold: pods speak TLS where they say
    """
    repository, _, tag = image.rpartition(":")
    return {
        "replicaCount": settings.replicas,
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
