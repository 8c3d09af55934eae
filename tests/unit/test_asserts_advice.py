"""What assertions say to do where it is not the pods that are at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.asserts import (
    assert_even_spread,
    assert_even_streams,
    assert_no_failed_calls,
    assert_rebalanced,
)
from pytest_grpclb.model import Event, EventKind

from .made_traffic import TIMERS, Rows, made_traffic
from .test_asserts_spread import exactly

if TYPE_CHECKING:
    from collections.abc import Callable


def test_calls_that_fail_where_connections_end_too_early_are_laid_to_the_age() -> None:
    """At an age of 1 s, 3 * (1 + 0.01 / 1) connections of 3 pods end; thrice as many may."""
    rows = Rows()
    rows.fail(14, "GOAWAY received; Debug Text: max_age", at_s=0.01)
    closed = Event(at_s=0.005, kind=EventKind.CONNECTION_CLOSED)
    traffic = made_traffic(rows, timers=TIMERS, events=[closed] * 10)
    told = (
        "headless: 1 of 1 calls failed\n"
        "UNAVAILABLE x 1, +0.011 s\n"
        "  the first one said: GOAWAY received; Debug Text: max_age\n"
        "likely cause: 10 connections ended in 0.01 s, though the service was told a max "
        "connection age of 1 s\n"
        "what to do: see in which unit it reads what it is told (grpclb_connection_age_env=NAME "
        "tells seconds, NAME={ms} milliseconds)"
    )
    with pytest.raises(AssertionError, match=exactly(told)):
        assert_no_failed_calls(traffic)


@pytest.mark.parametrize(
    "check", [assert_even_spread, assert_no_failed_calls, assert_rebalanced, assert_even_streams]
)
def test_what_is_no_traffic_is_refused_with_what_is(check: Callable[[Any], object]) -> None:
    class Grpclb:
        """As if the fixture itself were given."""

    told = (
        "traffic: expected what grpclb.drive(), traffic(), streams() or recorded(channel) give, "
        "got a Grpclb"
    )
    with pytest.raises(TypeError, match=exactly(told)):
        check(Grpclb())
