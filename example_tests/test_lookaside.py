"""Behind a lookaside balancer clients are told of every change, and lose no call over it."""

from __future__ import annotations

import pytest

from pytest_grpclb import Grpclb, assert_no_failed_calls, assert_rebalanced


@pytest.mark.grpclb_only("lookaside")
@pytest.mark.grpclb(max_connection_age_s=None)
def test_new_pods_get_their_share_though_no_connection_ends(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=400) as traffic:
        grpclb.scale(6)
        assert_rebalanced(traffic)


@pytest.mark.grpclb_only("lookaside")
@pytest.mark.grpclb(max_connection_age_s=1)
def test_a_rolling_restart_loses_no_call(grpclb: Grpclb) -> None:
    restart_without_a_failed_call(grpclb)


@pytest.mark.grpclb_only("lookaside")
@pytest.mark.grpclb(max_connection_age_s=None)
def test_a_rolling_restart_loses_no_call_though_connections_stay(grpclb: Grpclb) -> None:
    """Clients have left a pod before it stops: they were told while it slept (preStop)."""
    restart_without_a_failed_call(grpclb)


def restart_without_a_failed_call(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=200) as traffic:
        grpclb.restart(until_ended=True)
        assert_rebalanced(traffic)
    assert_no_failed_calls(traffic.stop())


@pytest.mark.grpclb_only("lookaside")
def test_a_client_whose_balancer_dies_goes_on_with_another(grpclb: Grpclb) -> None:
    balancers = grpclb.component("balancer")
    with grpclb.traffic(rate=400) as traffic:
        for replicas in (5, 4):
            [used] = [pod for pod in balancers.serving() if "came" in balancers.logs(pod.name)]
            balancers.kill(used.name)
            grpclb.scale(replicas)
            assert_rebalanced(traffic)
    assert_no_failed_calls(traffic.stop())
