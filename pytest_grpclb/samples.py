"""The sample service where a test brings none: the one place that knows the greeter."""

from __future__ import annotations

from typing import Any

from pytest_grpclb.model import CallTemplate, Settings

__all__ = ["GREETER_CALL", "greeter_values"]

GREETER_CALL = CallTemplate(method="/helloworld.Greeter/SayHello")
"""An empty request is a valid HelloRequest."""


def greeter_values(settings: Settings, *, image: str) -> dict[str, Any]:
    """Return values of ``charts/greeter`` for *settings*.

    :param image: the image of this package's own programs, REPOSITORY:TAG
    """
    repository, _, tag = image.rpartition(":")
    return {
        "replicaCount": settings.replicas,
        "image": {"repository": repository, "tag": tag},
        "maxConnectionAge": {
            "seconds": settings.max_connection_age_s,
            "graceSeconds": settings.max_connection_age_grace_s,
        },
    }
