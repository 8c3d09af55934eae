from __future__ import annotations

import pytest

from pytest_grpclb.statistics import latencies, percentile, slow_backends

from .made_traffic import Rows

ALPHA = 1e-6


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        ([1.0], 0.5, 1.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0], 0.0, 1.0),
        ([1.0, 2.0, 3.0], 1.0, 3.0),
    ],
)
def test_the_nearest_rank(values: list[float], fraction: float, expected: float) -> None:
    assert percentile(values, fraction) == expected


def test_the_99th_percentile_of_a_hundred_is_the_99th() -> None:
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert percentile([float(n) for n in range(1, 102)], 0.99) == 100.0


def test_latencies_are_those_of_answered_calls_in_order() -> None:
    rows = Rows()
    rows.answer("a", at_s=1.0, latency_s=0.25)
    rows.answer("a", latency_s=0.5)
    rows.answer("a", at_s=2.0, latency_s=0.125)
    rows.fail(14)
    rows.unnamed()
    assert latencies(rows.calls()) == {"a": [0.125, 0.25, 0.5]}


def test_twice_the_median_of_the_others_is_slow_if_it_is_no_chance() -> None:
    # Of 22 calls all take longer: 2**-22 = 2.4e-7, below alpha/K = 1e-6/3; 2**-21 is above it.
    quick = [0.001] * 50
    [slow] = slow_backends({"a": quick, "b": quick, "c": [0.002] * 22}, alpha=ALPHA)
    assert (slow.backend, slow.median_s, slow.others_s) == ("c", 0.002, 0.001)
    assert slow_backends({"a": quick, "b": quick, "c": [0.002] * 21}, alpha=ALPHA) == []
    assert slow_backends({"a": quick, "b": quick, "c": [0.0019] * 50}, alpha=ALPHA) == []


def test_the_slowest_comes_first_and_one_alone_is_not_slow() -> None:
    taken = {"a": [0.001] * 90, "b": [0.004] * 40, "c": [0.009] * 40}
    assert [each.backend for each in slow_backends(taken, alpha=ALPHA)] == ["c", "b"]
    assert slow_backends({"a": [0.001] * 90}, alpha=ALPHA) == []


@pytest.mark.parametrize(
    ("own", "is_slow"),
    [
        ([1.5] * 70 + [10.0] * 30, False),  # its median is none
        ([1.5] * 30 + [3.0] * 70, True),
        ([0.5] * 2 + [3.0] * 4, False),  # four of six are longer with more than a third
        ([0.5] * 200 + [3.0] * 201, False),
        ([], False),
    ],
)
def test_it_is_the_median_that_is_slow_and_most_calls_that_are_longer(
    own: list[float], is_slow: bool
) -> None:
    taken = {"b": own, "a": [0.4] * 40 + [1.0] * 60}
    assert [each.backend for each in slow_backends(taken, alpha=ALPHA)] == ["b"] * is_slow


def test_its_own_calls_are_none_of_those_that_it_is_compared_with() -> None:
    taken = {"a": [1.0] * 30, "b": [2.5] * 60}
    [slow] = slow_backends(taken, alpha=ALPHA)
    assert (slow.backend, slow.others_s) == ("b", 1.0)


def test_calls_of_several_others_are_put_in_order() -> None:
    # One after the other, the one in the middle would be a slow call of b.
    taken = {"a": [0.1] * 30, "b": [1.0] * 30, "d": [0.1] * 30, "c": [0.9] * 100}
    assert [each.backend for each in slow_backends(taken, alpha=ALPHA)] == ["c"]


def test_a_backend_that_answered_nothing_hides_no_slow_one() -> None:
    taken: dict[str, list[float]] = {"a": [], "b": [1.0] * 50, "c": [2.0] * 50}
    assert [each.backend for each in slow_backends(taken, alpha=ALPHA)] == ["c"]
