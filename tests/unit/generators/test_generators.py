"""Topologies, scale plans, faults and loads; what all generators have in common."""

from __future__ import annotations

import doctest
import importlib
import itertools
import sys
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from pytest_grpclb import generators
from pytest_grpclb.errors import GrpclbError, HypothesisMissingError
from pytest_grpclb.generators import (
    ClosedLoop,
    Fault,
    Hang,
    Kill,
    MakeUnready,
    OpenLoop,
    Restart,
    Slow,
    Topology,
    TrafficShape,
    even_counts,
    faults,
    scale_plans,
    skewed_counts,
    topologies,
    traffic_shapes,
    traffics,
)
from pytest_grpclb.model import Mechanism
from pytest_grpclb.settings import Settings

from .finding import find

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

FUNCTIONS = (
    even_counts,
    faults,
    scale_plans,
    skewed_counts,
    topologies,
    traffic_shapes,
    traffics,
)


def simplest(generator: SearchStrategy[Any]) -> object:
    return find(generator, lambda _: True)


# --- topologies


@given(topologies())
def test_a_topology_fits_the_embedded_cluster_by_default(topology: Topology) -> None:
    assert 1 <= topology.replicas <= 6
    assert 1 <= topology.channels <= 4
    assert 1 <= topology.concurrency <= 16
    assert topology.max_connection_age_s in {None, 0.5, 1.0, 2.0}


@given(
    topologies(
        min_replicas=2,
        max_replicas=3,
        min_channels=4,
        max_channels=4,
        min_concurrency=5,
        max_concurrency=9,
        connection_ages_s=[30],
    )
)
def test_a_topology_keeps_to_the_bounds_given(topology: Topology) -> None:
    assert topology.replicas in {2, 3}
    assert topology.channels == 4
    assert 5 <= topology.concurrency <= 9
    assert topology.max_connection_age_s == 30


def test_a_topology_shrinks_to_one_replica_one_channel_and_no_connection_age() -> None:
    assert simplest(topologies()) == Topology(
        replicas=1, channels=1, concurrency=1, max_connection_age_s=None
    )


def test_a_topology_shrinks_to_the_least_that_still_fails() -> None:
    failing = find(topologies(), lambda each: each.replicas * each.channels >= 6)
    assert failing.replicas * failing.channels == 6  # 2 x 3, 3 x 2 or 6 x 1
    assert failing.max_connection_age_s is None


def test_a_topology_replaces_its_part_of_the_settings_and_nothing_else() -> None:
    topology = Topology(replicas=5, channels=2, concurrency=7, max_connection_age_s=None)
    assert topology.settings() == Settings(
        replicas=5, channels=2, concurrency=7, max_connection_age_s=None
    )
    assert topology.settings(Settings(alpha=0.01, ready_timeout_s=9.0, replicas=2)) == Settings(
        alpha=0.01,
        ready_timeout_s=9.0,
        replicas=5,
        channels=2,
        concurrency=7,
        max_connection_age_s=None,
    )


# --- scale plans


@given(st.data(), st.integers(0, 4), st.integers(1, 5), st.booleans())
def test_each_step_of_a_plan_differs_from_the_last_and_is_bounded(
    data: st.DataObject, low: int, spread: int, knows_start: bool
) -> None:
    start = data.draw(st.integers(low, low + spread)) if knows_start else None
    plan = data.draw(
        scale_plans(
            start=start, min_replicas=low, max_replicas=low + spread, min_steps=2, max_steps=5
        )
    )
    assert 2 <= len(plan) <= 5
    assert all(low <= replicas <= low + spread for replicas in plan)
    steps = plan if start is None else (start, *plan)
    assert all(before != after for before, after in itertools.pairwise(steps))


@pytest.mark.parametrize(("start", "last"), list(itertools.permutations([1, 2, 3, 4], 2)))
def test_a_plan_can_go_from_any_number_to_any_other(start: int, last: int) -> None:
    plans = scale_plans(start=start, max_replicas=4, max_steps=1)
    assert find(plans, lambda plan: plan == (last,)) == (last,)


def test_a_plan_may_repeat_one_number_where_it_is_the_first_and_only_one() -> None:
    assert simplest(scale_plans(min_replicas=4, max_replicas=4, max_steps=1)) == (4,)


def test_a_plan_shrinks_to_one_step_to_the_fewest_replicas() -> None:
    assert simplest(scale_plans()) == (1,)
    assert simplest(scale_plans(start=1)) == (2,)
    assert simplest(scale_plans(min_steps=3, max_steps=6)) == (1, 2, 1)
    assert find(scale_plans(start=2), lambda plan: 5 in plan) == (5,)


# --- faults


@given(st.data(), st.integers(1, 6))
def test_a_fault_hits_a_backend_that_there_is_for_a_bounded_time(
    data: st.DataObject, backends: int
) -> None:
    fault = data.draw(faults(backends))
    if isinstance(fault, Kill | MakeUnready | Hang | Slow):
        assert 0 <= fault.backend < backends
    if isinstance(fault, MakeUnready | Hang | Slow):
        assert 0.1 <= fault.duration_s <= 2.0
    if isinstance(fault, Slow):
        assert 0.01 <= fault.latency_s <= 0.5


@pytest.mark.parametrize(
    ("kind", "mildest"),
    [
        (Kill, Kill(backend=0)),
        (Restart, Restart()),
        (MakeUnready, MakeUnready(backend=0, duration_s=0.1)),
        (Hang, Hang(backend=0, duration_s=0.1)),
        (Slow, Slow(backend=0, duration_s=0.1, latency_s=0.01)),
    ],
)
def test_every_kind_of_fault_occurs_and_shrinks_to_its_mildest(
    kind: type[Fault], mildest: Fault
) -> None:
    assert find(faults(3), lambda fault: isinstance(fault, kind)) == mildest
    assert simplest(faults(3, kinds=[kind], allow_none=False)) == mildest


def test_a_fault_shrinks_to_none_then_to_the_kind_given_first() -> None:
    assert simplest(faults(3)) is None
    assert simplest(faults(3, allow_none=False)) == Kill(backend=0)
    assert simplest(faults(3, allow_none=False, kinds=[Hang, Restart])) == Hang(
        backend=0, duration_s=0.1
    )
    assert find(faults(4), lambda fault: isinstance(fault, Kill) and fault.backend > 1) == Kill(
        backend=2
    )


@given(faults(2, kinds=(Kill, Restart), allow_none=False))
def test_only_the_kinds_given_occur(fault: Fault) -> None:
    assert isinstance(fault, Kill | Restart)


@given(faults(1, kinds=[Slow], min_duration_s=1.001, max_duration_s=1.001, max_latency_s=0.0109))
def test_durations_are_whole_milliseconds_within_their_bounds(fault: Fault | None) -> None:
    assert fault in {None, Slow(backend=0, duration_s=1.001, latency_s=0.01)}


# --- loads


@given(traffic_shapes())
def test_a_load_fits_the_embedded_cluster_by_default(shape: TrafficShape) -> None:
    assert 1 <= shape.calls <= 1000
    if isinstance(shape, ClosedLoop):
        assert 1 <= shape.concurrency <= 16
    else:
        assert shape.rate_per_s <= 1000
        assert shape.calls / shape.rate_per_s <= 2.0


@given(
    traffic_shapes(
        kinds=[OpenLoop], min_calls=50, max_calls=50, max_rate_per_s=20, max_duration_s=2.5
    )
)
def test_an_open_loop_sends_its_calls_in_time(shape: TrafficShape) -> None:
    assert shape == OpenLoop(calls=50, rate_per_s=20.0)  # 50 / 2.5 is the limit itself


def test_a_load_shrinks_to_a_closed_loop_with_one_call() -> None:
    assert simplest(traffic_shapes()) == ClosedLoop(calls=1, concurrency=1)
    assert simplest(traffic_shapes(kinds=[OpenLoop, ClosedLoop])) == OpenLoop(
        calls=1, rate_per_s=1.0
    )
    assert find(
        traffic_shapes(), lambda shape: isinstance(shape, OpenLoop) and shape.rate_per_s > 300
    ) == OpenLoop(calls=1, rate_per_s=301.0)


def test_a_closed_loop_is_not_bound_by_the_rate() -> None:
    shapes = traffic_shapes(kinds=[ClosedLoop], max_calls=10**6, max_duration_s=0.001)
    assert simplest(shapes) == ClosedLoop(calls=1, concurrency=1)


# --- what all have in common


@pytest.mark.parametrize(
    "value",
    [
        Topology(replicas=1, channels=1, concurrency=1, max_connection_age_s=None),
        Kill(backend=0),
        Restart(),
        MakeUnready(backend=0, duration_s=1.0),
        Hang(backend=0, duration_s=1.0),
        Slow(backend=0, duration_s=1.0, latency_s=1.0),
        ClosedLoop(calls=1, concurrency=1),
        OpenLoop(calls=1, rate_per_s=1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen_and_hashable(value: Any) -> None:
    with pytest.raises((FrozenInstanceError, TypeError)):
        value.backend = 1
    assert len({value, value}) == 1


@pytest.mark.parametrize(
    "generator",
    [
        topologies(),
        scale_plans(),
        faults(3),
        traffic_shapes(),
        even_counts(5, 1272, pickers=3),
        even_counts(5, 1272, mechanism=Mechanism.RANDOM),
        skewed_counts(5, 1272),
        traffics(even_counts(3, 90), channels=2, max_failures=3),
    ],
    ids=repr,
)
def test_the_same_seed_gives_the_same_examples(generator: SearchStrategy[Any]) -> None:
    def examples() -> list[object]:
        seen: list[object] = []

        @seed(20_240_229)
        @settings(max_examples=25, database=None, deadline=None)
        @given(generator)
        def run(value: object) -> None:
            seen.append(value)

        run()
        return seen

    first = examples()
    assert len({repr(each) for each in first}) > 5
    assert examples() == first


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_has_examples_and_they_hold(function: Callable[..., Any]) -> None:
    module = sys.modules[function.__module__]
    [documented] = doctest.DocTestFinder(recurse=False).find(
        function, function.__name__, module=module, globs=dict(vars(module))
    )
    assert len(documented.examples) >= 2
    told: list[str] = []
    doctest.DocTestRunner().run(documented, out=told.append)
    assert "".join(told) == ""


@pytest.mark.parametrize("name", ["", ".topologies"])
def test_all_other_examples_hold(name: str) -> None:
    results = doctest.testmod(importlib.import_module(generators.__name__ + name))
    assert results.attempted >= 2
    assert results.failed == 0


def test_every_generator_is_public() -> None:
    assert {function.__name__ for function in FUNCTIONS} < set(generators.__all__)
    assert all(hasattr(generators, name) for name in generators.__all__)


def test_without_hypothesis_the_import_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [each for each in sys.modules if each.startswith(generators.__name__)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module("pytest_grpclb.generators")
    assert str(caught.value) == (
        "pytest_grpclb.generators needs Hypothesis, which is not here. "
        'Install it with: pip install "pytest-grpclb[hypothesis]"'
    )
    assert isinstance(caught.value, HypothesisMissingError)
    assert isinstance(caught.value, GrpclbError)
    assert caught.value.name == "hypothesis"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
