"""Generators of topologies, scale plans, faults, loads, counts and traffic, for property tests.

A *generator* is what Hypothesis calls a strategy; here that word means a load-balancing strategy.
Each function checks its arguments when it is called. What it generates is frozen, shrinks towards
the simplest case (few replicas, one channel, no fault, even counts) and comes again from the same
seed. The bounds are keyword arguments whose defaults suit the embedded cluster.

>>> from hypothesis import given
>>> from pytest_grpclb.generators import even_counts
>>> @given(even_counts(3, 584))
... def test_no_pod_is_far_from_its_share(counts):
...     assert all(194 <= count <= 195 for count in counts.values())
>>> test_no_pod_is_far_from_its_share()
"""

from __future__ import annotations

from pytest_grpclb.errors import HypothesisMissingError

try:
    import hypothesis as _hypothesis  # noqa: F401 - only to say in one place what is missing
except ModuleNotFoundError as error:
    raise HypothesisMissingError(__name__) from error

from pytest_grpclb.generators.counts import SkewKind, even_counts, skewed_counts
from pytest_grpclb.generators.faults import (
    Fault,
    Hang,
    Kill,
    MakeUnready,
    Restart,
    Slow,
    faults,
)
from pytest_grpclb.generators.loads import ClosedLoop, OpenLoop, TrafficShape, traffic_shapes
from pytest_grpclb.generators.topologies import Topology, scale_plans, topologies
from pytest_grpclb.generators.traffics import traffics

__all__ = [
    "ClosedLoop",
    "Fault",
    "Hang",
    "Kill",
    "MakeUnready",
    "OpenLoop",
    "Restart",
    "SkewKind",
    "Slow",
    "Topology",
    "TrafficShape",
    "even_counts",
    "faults",
    "scale_plans",
    "skewed_counts",
    "topologies",
    "traffic_shapes",
    "traffics",
]
