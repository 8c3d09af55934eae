"""The arithmetic of rolling updates, against sums done by hand."""

from __future__ import annotations

import pytest

from pytest_grpclb.clusters.embedded.controllers.rollout import (
    Limits,
    ReplicaCount,
    next_sizes,
    resolve_limits,
)


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        (None, None, 3, (1, 0)),  # 25 % of 3 is 0.75: up to 1, down to 0
        (None, None, 4, (1, 1)),
        (None, None, 10, (3, 2)),
        ("100%", "0%", 5, (5, 0)),
        (2, 1, 100, (2, 1)),
        (0, 0, 7, (0, 1)),  # or nothing could ever begin
        ("0%", "10%", 5, (0, 1)),  # 10 % of 5 is 0.5, down to 0: as above
    ],
)
def test_surge_is_rounded_up_and_unavailable_down(
    surge: int | str | None, unavailable: int | str | None, replicas: int, expected: tuple[int, int]
) -> None:
    limits = resolve_limits(surge, unavailable, replicas)
    assert (limits.surge, limits.unavailable) == expected


def count(wanted: int, available: int) -> ReplicaCount:
    return ReplicaCount(wanted=wanted, available=available)


def test_new_pods_come_first_up_to_the_surge() -> None:
    # 3 wanted, 1 more allowed: 4 in all, 3 of them are old
    assert next_sizes(3, Limits(surge=1, unavailable=0), count(0, 0), [count(3, 3)]) == (1, (3,))


def test_old_pods_stay_until_new_ones_are_available() -> None:
    assert next_sizes(3, Limits(surge=1, unavailable=0), count(1, 0), [count(3, 3)]) == (1, (3,))


def test_an_available_new_pod_lets_an_old_one_go() -> None:
    # 4 available, 3 needed: one to spare
    assert next_sizes(3, Limits(surge=1, unavailable=0), count(1, 1), [count(3, 3)]) == (1, (2,))


def test_old_pods_that_serve_nobody_go_first() -> None:
    # 2 of 4 old ones are broken. Removable: 5 - 3 - (1 - 1) = 2, and both broken ones go;
    # then 3 are available and 3 are needed, so nothing else may.
    limits = Limits(surge=1, unavailable=1)
    assert next_sizes(4, limits, count(1, 1), [count(4, 2)]) == (1, (2,))


def test_the_oldest_version_shrinks_first() -> None:
    # available 5, needed 3: 2 to spare, both from the oldest
    limits = Limits(surge=2, unavailable=0)
    assert next_sizes(3, limits, count(2, 2), [count(2, 2), count(1, 1)]) == (2, (0, 1))


def test_too_many_new_pods_are_cut_at_once() -> None:
    assert next_sizes(2, Limits(surge=1, unavailable=0), count(5, 5), []) == (2, ())
