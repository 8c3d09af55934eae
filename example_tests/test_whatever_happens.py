"""Pods are scaled, killed, restarted and made unready in any order: does traffic always follow?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_grpclb import Grpclb


@pytest.mark.grpclb_skip("clusterip", "ingress-nginx")
@pytest.mark.grpclb(
    replicas=3,
    readiness_gate=True,
    max_connection_age_s=0.2,
    max_connection_age_grace_s=10,
    skew=2,
)
def test_traffic_follows_whatever_happens(grpclb: Grpclb) -> None:
    run_any_order(grpclb)


@pytest.mark.grpclb_only("ingress-nginx")
@pytest.mark.grpclb(replicas=3, readiness_gate=True, max_connection_age_s=None, skew=2)
def test_traffic_through_an_ingress_follows_whatever_happens(grpclb: Grpclb) -> None:
    """No connection ages: nginx loses a call whose pod says GOAWAY while it is answered."""
    run_any_order(grpclb)


def run_any_order(grpclb: Grpclb) -> None:
    pytest.importorskip("hypothesis", reason="needs pytest-grpclb[hypothesis]")
    from hypothesis import settings

    from pytest_grpclb.stateful import load_balancing_machine

    # For every commit; `run()` alone takes 25 examples of 15 steps, as a nightly job may.
    few = settings(max_examples=3, stateful_step_count=10)
    load_balancing_machine(grpclb).run(few)
