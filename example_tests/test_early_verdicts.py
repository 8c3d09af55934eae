"""A skew is certain long before evenness is: such a run ends as soon as it can."""

from __future__ import annotations

import pytest

from pytest_grpclb import Grpclb, Outcome, assert_even_spread, assert_pinned


@pytest.mark.grpclb_only("clusterip")
@pytest.mark.grpclb(max_connection_age_s=None)
def test_a_pinned_client_is_caught_within_twenty_calls(grpclb: Grpclb) -> None:
    traffic = grpclb.drive()
    assert_pinned(traffic)
    with pytest.raises(AssertionError, match="that they are not even was certain after 19\n"):
        assert_even_spread(traffic)


@pytest.mark.grpclb_skip("clusterip")
def test_an_even_run_has_just_the_calls_that_its_verdict_needs(grpclb: Grpclb) -> None:
    traffic = grpclb.drive()
    verdict = assert_even_spread(traffic)
    assert verdict.outcome is Outcome.EVEN
    # Half of alpha is spent on the looks on the way, and half of it is kept for a second run.
    assert verdict.calls == 618


def test_a_number_of_calls_that_is_given_is_sent_to_the_last(grpclb: Grpclb) -> None:
    assert len(grpclb.drive(calls=100).calls) == 100
