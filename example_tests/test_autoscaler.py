"""The autoscaler's story: one busy pod becomes eleven. Does anybody call the ten new ones?"""

from __future__ import annotations

import pytest

from pytest_grpclb import Grpclb, assert_rebalanced


@pytest.mark.grpclb_only("clusterip")
@pytest.mark.grpclb(replicas=1, max_connection_age_s=None)
def test_behind_a_cluster_ip_new_pods_stay_idle(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=1000) as traffic:
        grpclb.scale(11)
        with pytest.raises(AssertionError, match="10 of 11 pods got no call"):
            assert_rebalanced(traffic)


@pytest.mark.grpclb_only("headless")
@pytest.mark.grpclb(replicas=1, max_connection_age_s=None)
def test_without_a_connection_age_new_pods_stay_idle(grpclb: Grpclb) -> None:
    """Clients ask DNS again only when a connection ends, and none does."""
    with grpclb.traffic(rate=1000) as traffic:
        grpclb.scale(11)
        with pytest.raises(AssertionError, match="max connection age"):
            assert_rebalanced(traffic)


@pytest.mark.grpclb_only("headless")
@pytest.mark.grpclb(replicas=1, max_connection_age_s=1)
def test_with_a_connection_age_new_pods_get_their_share(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=1000) as traffic:
        grpclb.scale(11)
        assert_rebalanced(traffic)
