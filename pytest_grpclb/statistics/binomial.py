"""Tails of the binomial distribution, exact to nine digits up to 100,000 trials."""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["critical_count", "lower_tail", "upper_tail"]

# A tail is summed until what is left cannot change a double any more.
NEGLIGIBLE = 1e-17


def upper_tail(count: int, trials: int, probability: float) -> float:
    """Return the probability of *count* or more successes in *trials*.

    :param probability: of a success, in 0 to 1
    :raises ValueError: if there is no such distribution
    :source: Johnson, Kemp, Kotz, Univariate Discrete Distributions (2005), section 3.1
    """
    _require_distribution(trials, probability)
    if count <= 0:
        return 1.0
    if count > trials:
        return 0.0
    if probability in (0.0, 1.0):
        return probability
    if count <= trials * probability:
        # The far side of the mode: the other tail is the one whose terms only fall.
        return 1.0 - _sum_down(count - 1, trials, probability)
    return _sum_down(trials - count, trials, 1.0 - probability)


def lower_tail(count: int, trials: int, probability: float) -> float:
    """Return the probability of *count* or fewer successes in *trials*.

    :param probability: of a success, in 0 to 1
    :raises ValueError: if there is no such distribution
    """
    _require_distribution(trials, probability)
    # As many failures or more: one summation serves both tails, and neither loses digits.
    return upper_tail(trials - count, trials, 1.0 - probability)


@lru_cache(maxsize=4096)
def critical_count(trials: int, probability: float, tail: float) -> int:
    """Return the smallest count whose upper tail is at most *tail*; ``trials + 1`` if none is.

    :param tail: probability that this count or a larger one may have
    """
    low, high = 0, trials + 1
    while low < high:
        middle = (low + high) // 2
        if upper_tail(middle, trials, probability) <= tail:
            high = middle
        else:
            low = middle + 1
    return low


def _require_distribution(trials: int, probability: float) -> None:
    if trials < 0:
        raise ValueError(f"trials: {trials!r} cannot be negative")
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability: {probability!r} is not in 0 to 1")


def _sum_down(count: int, trials: int, probability: float) -> float:
    """Sum the probabilities of *count* and fewer successes, from *count* down: largest first."""
    odds = (1.0 - probability) / probability
    term = total = 1.0
    successes = count
    while successes > 0 and term > total * NEGLIGIBLE:
        term *= successes / (trials - successes + 1) * odds
        total += term
        successes -= 1
    # Logarithms until the end: factorials of 1e5 and powers of 1e5 leave the range of a double.
    return math.exp(
        math.log(total)
        + math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(probability)
        + (trials - count) * math.log1p(-probability)
    )
