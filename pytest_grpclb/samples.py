"""The sample service where a test brings none: the one place that knows the greeter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.chart import charts_directory
from pytest_grpclb.model import CallTemplate
from pytest_grpclb.sources.rendered import ServiceSource
from pytest_grpclb.strategies.ingress_nginx import BACKEND_SECRET

if TYPE_CHECKING:
    from pytest_grpclb.settings import Settings

__all__ = ["SAMPLE_CALL", "greeter_values", "sample_source"]

SAMPLE_CALL = CallTemplate(method="/helloworld.Greeter/SayHello")
"""An empty request is a valid HelloRequest."""


def sample_source(
    settings: Settings, *, image: str, through_ingress: bool = False
) -> ServiceSource:
    """Return the sample service for *settings*; parameters as those of `greeter_values`."""
    return ServiceSource(
        chart=charts_directory() / "greeter",
        release="greeter",
        values=greeter_values(settings, image=image, through_ingress=through_ingress),
        sets_replicas=False,
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
