"""Generators of calls counted by backend: such as an even spread gives, and such as it does not."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from pytest_grpclb.generators.bounds import (
    require_kinds,
    require_number,
    require_probability,
    require_whole,
)
from pytest_grpclb.model import Mechanism
from pytest_grpclb.statistics import count_interval, round_robin_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["SkewKind", "even_counts", "skewed_counts"]


class SkewKind(enum.Enum):
    """What is wrong with skewed counts; all other backends share the rest evenly."""

    HOT = "one hot"
    """One backend got at least ``skew`` times its fair share."""
    COLD = "one cold"
    """One backend got at most its fair share divided by ``skew``, yet not nothing."""
    DEAD = "one dead"
    """One backend got nothing."""
    ALL_ON_ONE = "all on one"


def even_counts(
    backends: int,
    calls: int,
    *,
    mechanism: Mechanism = Mechanism.ROUND_ROBIN,
    pickers: int = 1,
    alpha: float = 1e-6,
) -> SearchStrategy[dict[str, int]]:
    """Generate counts, by UID, that no verdict at *alpha* may call SKEWED.

    For round robin: all that *pickers* can give, wherever each of them starts and stops. For random
    picks: all whose every count lies within its exact binomial bounds. The simplest is the most
    even split.

    >>> from hypothesis import find
    >>> find(even_counts(3, 100), lambda counts: True)
    {'uid-1': 34, 'uid-2': 33, 'uid-3': 33}
    >>> find(even_counts(2, 100, pickers=4), lambda counts: counts["uid-1"] > 51)
    {'uid-1': 52, 'uid-2': 48}

    :param pickers: for ``ROUND_ROBIN``: channels, or workers of a proxy, that pick independently
    :param alpha: for ``RANDOM``: false-alarm rate of the verdict that the counts are meant for
    :raises ValueError: if there are fewer than two backends, a number is none, or the mechanism
        picks no backend for each call
    """
    require_whole("backends", backends, least=2)
    require_whole("calls", calls, least=0)
    require_whole("pickers", pickers, least=1)
    require_probability("alpha", alpha)
    if mechanism is Mechanism.ROUND_ROBIN:
        return _round_robin_counts(backends, calls, round_robin_limit(pickers))
    if mechanism is Mechanism.RANDOM:
        # Bonferroni: alpha is shared by the two tails of every backend, as in a verdict.
        tail = alpha / (2 * backends)
        return _bounded_counts(backends, calls, *count_interval(calls, 1.0 / backends, tail=tail))
    raise ValueError(
        f"mechanism: {mechanism!r} does not pick for each call; give Mechanism.ROUND_ROBIN or "
        "Mechanism.RANDOM (whose counts may be connections)"
    )


def skewed_counts(
    backends: int,
    calls: int,
    skew: float = 1.5,
    *,
    kinds: Sequence[SkewKind] = tuple(SkewKind),
) -> SearchStrategy[dict[str, int]]:
    """Generate counts, by UID, with one backend out of line.

    A verdict can only tell where calls are enough: `calls_needed` says how many for a hot one.

    >>> from hypothesis import find
    >>> find(skewed_counts(3, 600), lambda counts: True)
    {'uid-1': 300, 'uid-2': 150, 'uid-3': 150}
    >>> find(skewed_counts(3, 600, kinds=[SkewKind.DEAD]), lambda counts: counts["uid-1"] > 0)
    {'uid-1': 300, 'uid-2': 0, 'uid-3': 300}

    :param skew: least multiple of its fair share that a hot backend gets, and least divisor of that
        of a cold one
    :param kinds: what may be wrong, the simplest first
    :raises ValueError: if there are fewer than two backends, no call, no kind or no skew, or one
        backend cannot be that hot or that cold
    """
    require_whole("backends", backends, least=2)
    require_whole("calls", calls, least=1)
    require_number("skew", skew, above=1.0)
    require_kinds(kinds, SkewKind)
    if SkewKind.HOT in kinds and skew > backends:
        raise ValueError(
            f"skew: {skew!r} is more than any of {backends} backends can take; "
            f"the limit is {backends}"
        )
    coldest_calls = math.ceil(skew * backends)
    if SkewKind.COLD in kinds and calls < coldest_calls:
        raise ValueError(
            f"calls: {calls!r} are too few for a backend that is cold but not dead; with "
            f"{backends} backends and a skew of {skew:g} at least {coldest_calls} are needed"
        )
    return _one_beside(backends, calls, skew, tuple(kinds))


# Hypothesis takes what needs fewer draws for simpler. So each generator draws equally often,
# whatever comes of it, and clamps where a draw leads too far.


@st.composite
def _round_robin_counts(draw: DrawFn, backends: int, calls: int, limit: int) -> dict[str, int]:
    """Draw how far each backend leads the idlest, at most *limit*; whole rounds are the rest."""
    leads: list[int] = []
    for _ in range(backends):
        leads.append(min(draw(st.integers(0, limit)), calls - sum(leads)))
    over = (calls - sum(leads)) % backends
    below = [index for index, lead in enumerate(leads) if lead < limit]
    if len(below) >= over:
        for index in below[:over]:
            leads[index] += 1
    else:
        # More backends are at the limit than calls are missing to another round: give those back.
        at_limit = [index for index, lead in enumerate(leads) if lead == limit]
        for index in at_limit[: backends - over]:
            leads[index] -= 1
    rounds = (calls - sum(leads)) // backends
    return _by_uid([rounds + lead for lead in leads])


@st.composite
def _bounded_counts(
    draw: DrawFn, backends: int, calls: int, lowest: int, highest: int
) -> dict[str, int]:
    """Draw counts in turn, each so that those after it can still be within their bounds."""
    span = highest - lowest
    counts: list[int] = []
    left = calls
    for others in range(backends - 1, 0, -1):
        least = max(lowest, left - others * highest)
        most = min(highest, left - others * lowest)
        # Integers shrink towards 0: drawn as the distance from an even share of what is left.
        even = math.ceil(left / (others + 1))
        counts.append(min(max(even + draw(st.integers(-span, span)), least), most))
        left -= counts[-1]
    return _by_uid([*counts, left])


@st.composite
def _one_beside(
    draw: DrawFn, backends: int, calls: int, skew: float, kinds: tuple[SkewKind, ...]
) -> dict[str, int]:
    """Draw the count of one backend; the rest share the other calls as evenly as can be."""
    kind = draw(st.sampled_from(kinds))
    beyond = draw(st.integers(0, calls))
    odd = draw(st.integers(0, backends - 1))
    if kind is SkewKind.HOT:
        mildest = math.ceil(skew * calls / backends)
        count = mildest + beyond % (calls - mildest + 1)
    elif kind is SkewKind.COLD:
        mildest = math.floor(calls / (skew * backends))
        count = mildest - beyond % mildest
    else:
        count = 0 if kind is SkewKind.DEAD else calls
    each, over = divmod(calls - count, backends - 1)
    counts = [each + 1] * over + [each] * (backends - 1 - over)
    counts.insert(odd, count)
    return _by_uid(counts)


def _by_uid(counts: Sequence[int]) -> dict[str, int]:
    return {f"uid-{number}": count for number, count in enumerate(counts, start=1)}
