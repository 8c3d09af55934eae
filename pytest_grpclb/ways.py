"""The way that a test's calls take: from the driver's pod, or from outside; and who picks the pods.

Of a test in the cluster: a port leads to its driver, beside which a sidecar may stand. Of one
outside: a driver of this machine sends calls to the cluster's ingress.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.pods.fate import has_ended, why_lost
from pytest_grpclb.pickers import ClientPicks, IngressPicks, SidecarPicks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.deployment import Deployment
    from pytest_grpclb.entrance import Entrance
    from pytest_grpclb.ingress import Ingress
    from pytest_grpclb.model import Manifest, Service, Target
    from pytest_grpclb.pickers import Picker

__all__ = ["Way", "way_inside", "way_outside"]

__tracebackhide__ = True  # what an error says is for people; these frames are not


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How calls are sent."""

    target: Target
    driver_address: str
    """ "host:port" of the driver's control port, for this process."""
    picker: Picker
    ingress: Ingress | None = None
    """None: they do not come from outside."""
    explain: Callable[[], str] = str
    """Returns why the connection to the driver broke off, as far as that is known."""
    has_ended: Callable[[], bool] = bool
    """Returns whether the driver is known to have ended."""


def way_inside(
    stack: ExitStack,
    *,
    cluster: Cluster,
    client: Deployment,
    rendered: Sequence[Manifest],
    service: Service,
    target: Target,
) -> Way:
    """Return the way from the driver's pod.

    :param stack: takes what must be closed afterwards
    :param client: the driver's Deployment; its pod is ready
    :param rendered: the strategy's objects
    :raises ApiError: if the API refuses to lead to the pod
    """
    from pytest_grpclb.sidecar import open_sidecar

    [pod] = client.serving()
    reached = cluster.reach(service.namespace, pod.name, pod.address, client.service.port)
    sidecar = open_sidecar(stack, cluster, rendered, namespace=service.namespace, pod=pod)
    return Way(
        target=target,
        driver_address=stack.enter_context(reached),
        picker=ClientPicks()
        if sidecar is None
        else SidecarPicks(sidecar, port=service.port, dns_cache_s=cluster.dns_cache_s),
        explain=functools.partial(why_lost, client.watch, pod),
        has_ended=functools.partial(has_ended, client.watch, pod),
    )


def way_outside(entrance: Entrance, *, identify: Callable[[str], str]) -> Way:
    """Return the way through an ingress.

    :param identify: returns the UID of a pod by what names it in an answer
    """
    return Way(
        target=entrance.target,
        driver_address=entrance.driver_address,
        picker=IngressPicks(entrance.ingress, identify=identify),
        ingress=entrance.ingress,
    )
