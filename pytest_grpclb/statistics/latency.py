"""How long each backend took to answer, and which one is slow beyond chance."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_grpclb.statistics.binomial import upper_tail
from pytest_grpclb.statistics.columns import answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_grpclb.model import Calls

__all__ = ["SlowBackend", "latencies", "percentile", "slow_backends"]

_FACTOR = 2.0
"""What is called slow takes twice as long: less may be one busy core of the cluster's nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowBackend:
    """A backend that takes much longer than the others."""

    backend: str
    median_s: float
    others_s: float
    """Median of the calls of all other backends."""


def latencies(calls: Calls) -> dict[str, list[float]]:
    """Return the seconds that answered calls took, by backend, the shortest first."""
    taken: dict[str, list[float]] = {}
    for answer in answers(calls):
        taken.setdefault(answer.backend, []).append(answer.done_s - answer.sent_s)
    return {backend: sorted(each) for backend, each in taken.items()}


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least *fraction* of all values do not exceed.

    :param ordered: values, the smallest first; at least one
    :source: NIST/SEMATECH e-Handbook, section 7.2.6.2 (nearest rank)
    """
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def slow_backends(taken: Mapping[str, Sequence[float]], *, alpha: float) -> list[SlowBackend]:
    """Return the backends whose calls take longer than those of the others, beyond chance.

    A backend is slow if its median is at least twice the median of all other backends' calls, and
    so many of its calls take longer than that one as chance gives with at most alpha/K: half of
    them would, were it as quick as the others (sign test). What calls that wait together have in
    common the test does not know; therefore the factor.

    :param taken: seconds by backend, the shortest first
    :param alpha: probability that any is called slow where all are equally quick
    :return: the slowest first
    :source: NIST/SEMATECH e-Handbook, section 7.3 (sign test)
    """
    slow = []
    for backend, own in taken.items():
        others = sorted(each for name, more in taken.items() if name != backend for each in more)
        if not own or not others:
            continue
        median_s, others_s = percentile(own, 0.5), percentile(others, 0.5)
        longer = len(own) - bisect_right(own, others_s)
        certain = upper_tail(longer, len(own), 0.5) <= alpha / len(taken)
        if median_s >= _FACTOR * others_s and certain:
            slow.append(SlowBackend(backend=backend, median_s=median_s, others_s=others_s))
    return sorted(slow, key=lambda each: -each.median_s)
