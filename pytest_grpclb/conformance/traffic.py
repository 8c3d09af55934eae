"""What a cluster's network must do, seen by real clients: calls sent by the driver.

It is in a pod, or for calls that enter by an ingress on this machine.

:source: Kubernetes DNS-Based Service Discovery, version 1.1.0; Kubernetes documentation, "Virtual
    IPs and Service Proxies", "Ingress"
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.errors import ClusterUnavailableError
from pytest_grpclb.installation import install
from pytest_grpclb.outside import OutsideDriver
from pytest_grpclb.samples import SAMPLE_CALL
from pytest_grpclb.sources.protocol import Backends
from pytest_grpclb.strategies import STRATEGIES
from pytest_grpclb.workloads import service_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.conformance.subject import Subject
    from pytest_grpclb.handle import Grpclb
    from pytest_grpclb.model import Traffic

__all__ = [
    "check_cluster_ip_pins_a_connection",
    "check_headless_name_resolves_to_every_ready_pod",
    "check_ingress_shows_its_certificate_and_follows_pods",
    "check_service_records_lead_to_named_ports",
]

_CALLS = 200
"""That one of up to ten backends gets none of so many random picks: less than one in 10**8."""


def check_headless_name_resolves_to_every_ready_pod(subject: Subject) -> None:
    """A headless Service's name has one address for each ready pod, also after a change."""
    with _installed(subject, "headless") as grpclb:
        assert _who_answers(grpclb) == _ready(grpclb)
        grpclb.scale(subject.replicas + 1)
        # A new run has new channels, but the cluster's DNS may go on giving what it gave before.
        if subject.cluster.dns_cache_s:
            with grpclb.traffic(rate=50) as traffic:
                deadline_s = traffic.now_s() + subject.cluster.dns_cache_s + subject.timeout_s
                while traffic.now_s() < deadline_s:
                    if _answered(traffic.snapshot()) >= _ready(grpclb):
                        break
                    traffic.wait(1.0)
        assert _who_answers(grpclb) == _ready(grpclb)


def check_cluster_ip_pins_a_connection(subject: Subject) -> None:
    """All calls of one connection to a ClusterIP reach one and the same pod."""
    with _installed(subject, "clusterip") as grpclb:
        assert len(_who_answers(grpclb)) == 1


def check_service_records_lead_to_named_ports(subject: Subject) -> None:
    """SRV records of a headless Service's named port lead to its pods: balancers are found so.

    Without an answer the client falls back to the addresses that the Service's name has. These are
    the balancers' own, where nobody answers calls.

    :raises DriverError: if no call is answered
    """
    with _installed(subject, "lookaside") as grpclb:
        assert _who_answers(grpclb) == _ready(grpclb)


def check_ingress_shows_its_certificate_and_follows_pods(subject: Subject) -> None:
    """An Ingress of class nginx ends TLS with its Secret's certificate, for whichever pods are."""
    try:
        subject.cluster.ingress_address(https=True)
    except ClusterUnavailableError as error:
        pytest.skip(str(error))
    with _installed(subject, "ingress-nginx") as grpclb:
        presented = grpclb.ingress.handshake()
        assert (presented.leaf_der, presented.error) == (grpclb.ingress.certificate_der, "")
        assert _who_answers(grpclb) == _ready(grpclb)
        grpclb.scale(subject.replicas + 1)
        assert _who_answers(grpclb) == _ready(grpclb)
        grpclb.scale(1)
        assert _who_answers(grpclb) == _ready(grpclb)


@contextmanager
def _installed(subject: Subject, strategy: str) -> Iterator[Grpclb]:
    settings = replace(subject.settings, max_connection_age_s=None)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        outside = OutsideDriver(scratch / "driver.log")  # started where calls are from outside
        stack.callback(outside.close)
        yield install(
            stack,
            cluster=subject.cluster,
            api=subject.api,
            strategy=STRATEGIES[strategy],
            settings=settings,
            backends=Backends(
                service=service_of(
                    subject.manifests, namespace=subject.namespace, source="the sample"
                ),
                manifests=tuple(subject.manifests),
                replicas=settings.replicas,
            ),
            namespace=subject.namespace,
            call=SAMPLE_CALL,
            outside=outside,
            run=subject.run,
        )


def _who_answers(grpclb: Grpclb) -> set[str]:
    traffic = grpclb.drive(calls=_CALLS, channels=1)
    assert not traffic.failures, traffic.failures
    return _answered(traffic)


def _answered(traffic: Traffic) -> set[str]:
    return {uid for uid, calls in traffic.counts().items() if calls}


def _ready(grpclb: Grpclb) -> set[str]:
    return {backend.uid for backend in grpclb.backends()}
