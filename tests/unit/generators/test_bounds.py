"""Arguments that cannot be used: each is refused at the call, before anything is generated."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.generators import (
    Kill,
    OpenLoop,
    faults,
    scale_plans,
    topologies,
    traffic_shapes,
)
from pytest_grpclb.generators.bounds import (
    require_number,
    require_probability,
    require_seconds,
    require_seconds_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: topologies(min_replicas=0),
            "min_replicas: 0 is not a whole number of at least 1",
        ),
        (
            lambda: topologies(max_replicas=True),
            "max_replicas: True is not a whole number of at least 1",
        ),
        (
            lambda: topologies(max_channels=2.0),  # type: ignore[arg-type]
            "max_channels: 2.0 is not a whole number of at least 1",
        ),
        (
            lambda: topologies(min_replicas=4, max_replicas=3),
            "max_replicas: 3 is less than min_replicas, 4; raise the one or lower the other",
        ),
        (
            lambda: topologies(min_channels=5),
            "max_channels: 4 is less than min_channels, 5; raise the one or lower the other",
        ),
        (
            lambda: topologies(max_concurrency=0),
            "max_concurrency: 0 is not a whole number of at least 1",
        ),
        (
            lambda: topologies(connection_ages_s=[]),
            "connection_ages_s: [] is empty; at least 1 is needed",
        ),
        (
            lambda: topologies(connection_ages_s={1.0}),  # type: ignore[arg-type]
            "connection_ages_s: {1.0} has no order; give a tuple or list, simplest first",
        ),
        (
            lambda: topologies(connection_ages_s=(None, 0.0)),
            "connection_ages_s[1]: 0.0 is not a number of seconds of at least 0.001",
        ),
        (
            lambda: topologies(connection_ages_s=(math.inf,)),
            "connection_ages_s[0]: inf is not a number of seconds of at least 0.001",
        ),
        (
            lambda: scale_plans(min_replicas=-1),
            "min_replicas: -1 is not a whole number of at least 0",
        ),
        (lambda: scale_plans(max_steps=0), "max_steps: 0 is not a whole number of at least 1"),
        (
            lambda: scale_plans(min_steps=5),
            "max_steps: 4 is less than min_steps, 5; raise the one or lower the other",
        ),
        (
            lambda: scale_plans(start=7),
            "start: 7 is not within min_replicas, 1, and max_replicas, 6; widen them",
        ),
        (
            lambda: scale_plans(start="3"),  # type: ignore[arg-type]
            "start: '3' is not a whole number of at least 0",
        ),
        (
            lambda: scale_plans(min_replicas=3, max_replicas=3),
            "max_replicas: 3 is min_replicas too, so that no step can differ from the last; "
            "raise the one or lower the other",
        ),
        (
            lambda: scale_plans(start=3, min_replicas=3, max_replicas=3, max_steps=1),
            "max_replicas: 3 is min_replicas too, so that no step can differ from the last; "
            "raise the one or lower the other",
        ),
        (lambda: faults(0), "backends: 0 is not a whole number of at least 1"),
        (lambda: faults(3, kinds=()), "kinds: () is empty; at least 1 is needed"),
        (
            lambda: faults(3, kinds="Kill"),  # type: ignore[arg-type]
            "kinds: 'Kill' has no order; give a tuple or list, simplest first",
        ),
        (
            lambda: faults(3, kinds=[Kill, OpenLoop]),  # type: ignore[list-item]
            "kinds: OpenLoop is no kind; choose from Kill, Restart, MakeUnready, Hang, Slow",
        ),
        (
            lambda: faults(3, kinds=[Kill(backend=0)]),  # type: ignore[list-item]
            "kinds: Kill(backend=0) is no kind; choose from Kill, Restart, MakeUnready, Hang, Slow",
        ),
        (
            lambda: faults(3, min_duration_s=0),
            "min_duration_s: 0 is not a number of seconds of at least 0.001",
        ),
        (
            lambda: faults(3, max_duration_s=math.nan),
            "max_duration_s: nan is not a number of seconds of at least 0.001",
        ),
        (
            lambda: faults(3, max_duration_s=0.05),
            "max_duration_s: 0.05 is less than min_duration_s, 0.1; "
            "raise the one or lower the other",
        ),
        (
            lambda: faults(3, min_latency_s=0.0011, max_latency_s=0.0019),
            "max_latency_s: 0.0019 and min_latency_s, 0.0011, have no whole millisecond between "
            "them; widen the range",
        ),
        (
            lambda: traffic_shapes(kinds=[Kill]),  # type: ignore[list-item]
            "kinds: Kill is no kind; choose from ClosedLoop, OpenLoop",
        ),
        (
            lambda: traffic_shapes(min_calls=0),
            "min_calls: 0 is not a whole number of at least 1",
        ),
        (
            lambda: traffic_shapes(max_calls=None),  # type: ignore[arg-type]
            "max_calls: None is not a whole number of at least 1",
        ),
        (
            lambda: traffic_shapes(max_concurrency=0),
            "max_concurrency: 0 is not a whole number of at least 1",
        ),
        (
            lambda: traffic_shapes(max_rate_per_s=0.5),  # type: ignore[arg-type]
            "max_rate_per_s: 0.5 is not a whole number of at least 1",
        ),
        (
            lambda: traffic_shapes(max_duration_s="2"),  # type: ignore[arg-type]
            "max_duration_s: '2' is not a number of seconds of at least 0.001",
        ),
        (
            lambda: traffic_shapes(max_duration_s=0.5),
            "max_calls: 1000 in max_duration_s, 0.5, take 2000 a second, more than "
            "max_rate_per_s, 1000; send fewer or raise a limit",
        ),
    ],
)
def test_a_bad_argument_is_refused_with_its_value_and_limit(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize("value", [1e-9, 0.5, 0.6, 0.999999])
def test_a_probability_lies_between_0_and_1(value: float) -> None:
    require_probability("alpha", value)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.5, -0.1, math.nan, True, "0.5"])
def test_what_is_no_probability_is_refused(value: object) -> None:
    told = f"^alpha: {re.escape(repr(value))} is not between 0 and 1$"
    with pytest.raises(ValueError, match=told):
        require_probability("alpha", value)


def test_true_is_no_number_of_anything() -> None:
    with pytest.raises(ValueError, match=r"^skew: True is not a number above 0$"):
        require_number("skew", True, above=0.0)
    with pytest.raises(ValueError, match=r"^duration_s: True is not a number of seconds of at "):
        require_seconds("duration_s", True)


def test_a_range_may_hold_one_whole_millisecond() -> None:
    require_seconds_range("duration", 0.001, 0.001)
    require_seconds_range("duration", 0.0015, 0.0025)
    with pytest.raises(ValueError, match=r"have no whole millisecond between them"):
        require_seconds_range("duration", 0.0011, 0.0019)
