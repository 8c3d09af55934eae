"""Do clients follow when pods come and go?"""

from __future__ import annotations

import pytest

from pytest_grpclb import Grpclb, assert_no_failed_calls, assert_rebalanced


@pytest.mark.grpclb_skip("clusterip")
@pytest.mark.grpclb(replicas=3)
def test_scaled_from_three_to_six_and_back_to_two(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=1000) as traffic:  # calls a second, in the background
        grpclb.scale(6)
        assert_rebalanced(traffic)  # the deadline follows from the strategy's own timers
        grpclb.scale(2)
        assert_rebalanced(traffic)


@pytest.mark.grpclb_skip("clusterip")
@pytest.mark.grpclb(replicas=3)
def test_a_killed_pod_is_replaced(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=1000) as traffic:
        grpclb.kill()
        assert_rebalanced(traffic)


@pytest.mark.grpclb_skip("clusterip")
@pytest.mark.grpclb(replicas=3, readiness_gate=True)
def test_a_pod_that_is_not_ready_is_left_alone_until_it_is(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=1000) as traffic:
        pod = grpclb.make_unready()
        assert_rebalanced(traffic)
        grpclb.make_ready(pod.name)
        assert_rebalanced(traffic)


@pytest.mark.grpclb_only("headless", "clusterip")
@pytest.mark.grpclb(replicas=3)
def test_a_rolling_restart_loses_no_call(grpclb: Grpclb) -> None:
    """Pods serve on until DNS has forgotten them, then say GOAWAY and end what they have begun."""
    with grpclb.traffic(rate=200) as traffic:
        grpclb.restart(until_ended=True)
    assert_no_failed_calls(traffic.stop())
