"""Long streams: who is open on which pod counts, and new pods get none unless streams end."""

from __future__ import annotations

import pytest

from pytest_grpclb import Grpclb, assert_even_streams, assert_no_failed_calls, assert_streams_stay
from pytest_grpclb.samples import SAMPLE_SERVER_STREAM


@pytest.mark.grpclb_skip("clusterip")
@pytest.mark.grpclb(max_connection_age_s=None, skew=2.5)
def test_streams_spread_evenly(grpclb: Grpclb) -> None:
    with grpclb.streams() as traffic:  # as many as the verdict's error rates ask for
        assert_even_streams(traffic)


@pytest.mark.grpclb(replicas=2, max_connection_age_grace_s=None)
def test_long_streams_do_not_move_when_pods_are_added(grpclb: Grpclb) -> None:
    """A max connection age makes clients look again, but waits for streams, by default for ever."""
    with grpclb.streams(12) as traffic:
        before = grpclb.backends()
        grpclb.scale(4)
        assert_streams_stay(traffic)
        with pytest.raises(AssertionError, match="12 streams stay where they were opened before"):
            assert_even_streams(traffic)
        counts = traffic.snapshot().open_streams()
    assert sum(counts[backend.uid] for backend in before) == 12
    assert_no_failed_calls(traffic.stop())


@pytest.mark.grpclb_skip("clusterip")
@pytest.mark.grpclb(replicas=2, max_connection_age_grace_s=None, skew=3)
def test_streams_that_end_and_are_opened_again_do(grpclb: Grpclb) -> None:
    with grpclb.streams(100, duration_s=0.5) as traffic:
        grpclb.scale(4)
        assert_even_streams(traffic)


@pytest.mark.grpclb_only("headless")
@pytest.mark.grpclb(replicas=2, max_connection_age_s=0.3, max_connection_age_grace_s=0.2)
def test_the_grace_of_a_connection_age_cuts_streams(grpclb: Grpclb) -> None:
    with (
        grpclb.streams(4, call=SAMPLE_SERVER_STREAM) as traffic,
        pytest.raises(AssertionError, match="UNAVAILABLE"),
    ):
        assert_streams_stay(traffic)


def test_the_streams_of_a_killed_pod_are_cut(grpclb: Grpclb) -> None:
    with grpclb.streams(12, channels=4) as traffic:
        counts = traffic.snapshot().open_streams()
        busiest = max(grpclb.backends(), key=lambda backend: counts[backend.uid])
        grpclb.kill(busiest.name)
        with pytest.raises(AssertionError, match=f"after kill {busiest.name}"):
            assert_streams_stay(traffic)
