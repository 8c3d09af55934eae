"""Do requests spread evenly? The first test a service repo writes."""

from __future__ import annotations

import pytest

from pytest_grpclb import Grpclb, assert_even_spread, assert_no_failed_calls, assert_pinned


@pytest.mark.grpclb_skip("clusterip")
def test_requests_spread_evenly(grpclb: Grpclb) -> None:
    traffic = grpclb.drive()  # as many calls as the verdict's error rates ask for
    assert_no_failed_calls(traffic)
    assert_even_spread(traffic)


@pytest.mark.grpclb_skip("clusterip")
def test_requests_of_several_channels_spread_evenly(grpclb: Grpclb) -> None:
    assert_even_spread(grpclb.drive(channels=4))


@pytest.mark.grpclb_only("clusterip")
@pytest.mark.grpclb(max_connection_age_s=None)
def test_a_cluster_ip_pins_a_client_to_one_pod(grpclb: Grpclb) -> None:
    """The baseline: what a plain Service does to gRPC, and why the rest of this exists."""
    traffic = grpclb.drive()
    assert_pinned(traffic)
    with pytest.raises(AssertionError, match="a ClusterIP balances connections, not calls"):
        assert_even_spread(traffic)
