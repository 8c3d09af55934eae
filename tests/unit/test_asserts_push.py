"""Rebalancing where clients are told of changes: the deadline, and what its miss says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_grpclb import assert_rebalanced

from .made_traffic import TIMERS
from .test_asserts_rebalance import scaled_out

# Whether connections age is no matter: nobody has to ask.
PUSHED = replace(TIMERS, connection_age_s=None, push_s=0.5)


def test_a_push_is_waited_for_whatever_the_age_of_connections() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.3 else "abcdef", timers=PUSHED)
    assert assert_rebalanced(live).deadline_s == pytest.approx(0.5 + 1.0 + 1.0)


def test_a_push_that_does_not_come_is_told_as_such() -> None:
    live = scaled_out(lambda _: "abc", timers=PUSHED)
    told = (
        "headless: SKEWED: 3 of 6 pods got no call within 2.5 s of becoming ready;\n"
        "  deadline: push 0.5 s + connect 1 s + slack 1 s\n"
        "likely cause: nobody told the client of the 3 new pods\n"
        "what to do: see in the logs of the balancers whether they watch the EndpointSlices, and "
        "whether the client still has its stream to one\n"
    )
    with pytest.raises(AssertionError) as caught:
        assert_rebalanced(live)
    assert str(caught.value).startswith(told)
