"""How many calls a verdict needs, and what a given number of calls can find out.

The convention throughout: one backend is *hot* when it takes ``skew`` times its fair share, each
call independently; it cannot take more than all calls, so a larger skew is taken for that. N calls
suffice when the hot backend's own count alone gives it away with the wanted power, at N and at
every larger number. (Counts are whole, so power rises in saw teeth: a number below the answer may
suffice by luck, and no number above it fails.) So many calls find a backend that is as far below
its fair share as a hot one is above it with at least that power, and one that takes no call for
certain. One at 1/``skew`` of its share is nearer to it, and found less surely.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_grpclb.statistics.binomial import critical_count, upper_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "calls_needed",
    "calls_needed_round_robin",
    "calls_proving_absence",
    "detectable_skew",
    "detectable_skew_round_robin",
    "fair_shares",
    "round_robin_limit",
]

# Halvings of an interval of probabilities: 2**-40 is far below what a report prints.
HALVINGS = 40


def calls_needed(
    backends: int,
    *,
    alpha: float,
    power: float,
    skew: float,
    weights: Sequence[float] | None = None,
) -> int:
    """Return how many calls the binomial test needs to find one hot, cold or dead backend.

    :param backends: how many share the calls
    :param alpha: false-alarm rate of the whole test, over all backends and both tails
    :param power: probability that the hot backend is found
    :param skew: how many times its fair share the hot backend takes
    :param weights: each backend's share of the calls in proportion; without them all are equal
    :raises ValueError: if a rate is none, or the weights do not fit the backends
    :source: power of a binomial test, NIST/SEMATECH e-Handbook, section 7.2.4.2, with exact tails
    """
    _require_rates(alpha=alpha, power=power, skew=skew)
    shares = fair_shares(backends, weights)
    tail = alpha / (2 * backends)
    picked = sorted({share for share in shares if share > 0.0})
    # A share that the skew would lift above 1 cannot be that hot; what the others lack shows it.
    can_be_hot = [share for share in picked if share * skew <= 1.0] or picked[:1]
    hot = max(_calls_for_share(share, tail, power, skew) for share in can_be_hot)
    return max(hot, _calls_telling_of_death(picked[0], tail))


def calls_needed_round_robin(backends: int, *, pickers: int, power: float, skew: float) -> int:
    """Return how many calls the exact round-robin bound needs to find one hot or dead backend.

    :param pickers: independent round-robin pickers, as in :func:`round_robin_limit`
    :raises ValueError: if a rate is none
    """
    _require_rates(alpha=0.5, power=power, skew=skew)
    fair_shares(backends, None)

    def most_trials(count: int) -> int:
        # The inverse of _telling_count.
        return max(0, backends * count - pickers * (backends - 1) - 1)

    # Of so many calls one backend gets more than the bound allows beside one that gets none.
    telling_of_death = round_robin_limit(pickers) * (backends - 1) + 1
    hot = _first_sufficient(most_trials, min(1.0, skew / backends), power)
    return max(hot, telling_of_death)


def detectable_skew(
    calls: int, backends: int, *, alpha: float, power: float, weights: Sequence[float] | None = None
) -> float:
    """Return the smallest skew of one backend that *calls* find with *power*; infinite if none.

    With weights it is that of the backend hardest to find: the one with the least share.

    :raises ValueError: if a rate is none
    """
    _require_rates(alpha=alpha, power=power, skew=2.0)
    share = min(share for share in fair_shares(backends, weights) if share > 0.0)
    return _skew_found(calls, critical_count(calls, share, alpha / (2 * backends)), share, power)


def detectable_skew_round_robin(calls: int, backends: int, *, pickers: int, power: float) -> float:
    """Return the smallest skew that the exact round-robin bound finds; infinite if none.

    :raises ValueError: if a rate is none
    """
    _require_rates(alpha=0.5, power=power, skew=2.0)
    fair_shares(backends, None)
    return _skew_found(calls, _telling_count(calls, backends, pickers), 1.0 / backends, power)


def calls_proving_absence(backends: int, *, alpha: float) -> int:
    """Return how many calls in a row must miss a backend to prove that it is no longer picked.

    :param backends: how many there are if the missing one is still among them
    :param alpha: probability of so long a miss if it is
    :raises ValueError: if there are fewer than two backends, or the rate is none
    """
    _require_rates(alpha=alpha, power=0.5, skew=2.0)
    fair_shares(backends, None)
    calls = math.log(alpha) / math.log1p(-1.0 / backends)
    # The quotient of two rounded logarithms may end just above a whole number that is meant.
    return math.ceil(calls - 1e-9)


def round_robin_limit(pickers: int, *, rebuilds: int = 0, picks_meanwhile: int = 0) -> int:
    """Return by how much the counts of two backends can differ at most under round robin.

    Calls that one picker sends in a row give counts that differ by at most one; pickers add up, and
    a rebuilt picker starts a row of its own.

    :param pickers: channels, or workers of a proxy, that pick independently
    :param rebuilds: pickers replaced while calls were counted
    :param picks_meanwhile: calls picked while a rebuilt picker did not know every backend
    :raises ValueError: if there is no picker, or a number is negative
    :source: gRPC, doc/load-balancing.md, round_robin
    """
    if pickers < 1 or rebuilds < 0 or picks_meanwhile < 0:
        raise ValueError(
            f"pickers {pickers!r}, rebuilds {rebuilds!r}, picks_meanwhile {picks_meanwhile!r}: "
            "at least 1 picker and no negative number"
        )
    return pickers + rebuilds + picks_meanwhile


def fair_shares(backends: int, weights: Sequence[float] | None) -> list[float]:
    """Return each backend's fair share of the calls, as fractions of 1.

    :raises ValueError: if the weights do not fit the backends, or fewer than two could be picked
    """
    if backends < 2:
        raise ValueError(f"backends: {backends!r}; a spread is over at least 2")
    if weights is None:
        return [1.0 / backends] * backends
    if len(weights) != backends:
        raise ValueError(f"weights: {len(weights)} for {backends} backends; one each is needed")
    if not all(math.isfinite(weight) and weight >= 0.0 for weight in weights):
        raise ValueError(f"weights: {list(weights)!r}; each must be a number of at least 0")
    if sum(weight > 0.0 for weight in weights) < 2:
        raise ValueError(f"weights: {list(weights)!r}; at least 2 must be above 0")
    largest = max(weights)  # first, for the sum of them all may be too large for a float
    total = math.fsum(weight / largest for weight in weights)
    return [weight / largest / total for weight in weights]


def _require_rates(*, alpha: float, power: float, skew: float) -> None:
    for name, rate in (("alpha", alpha), ("power", power)):
        if not 0.0 < rate < 1.0:
            raise ValueError(f"{name}: {rate!r} is not between 0 and 1")
    if not skew > 1.0:
        raise ValueError(f"skew: {skew!r} is no skew; it must be above 1")


def _calls_telling_of_death(share: float, tail: float) -> int:
    """Return the least number of calls of which a fair backend gets none with at most *tail*."""
    return math.ceil(math.log(tail) / math.log1p(-share) - 1e-9)


@lru_cache(maxsize=1024)
def _calls_for_share(share: float, tail: float, power: float, skew: float) -> int:
    def most_trials(count: int) -> int:
        # Most trials at which *count* is still in the tail; fewer trials make it rarer.
        def is_rare(trials: int) -> bool:
            return upper_tail(count, trials, share) <= tail

        return _last_true(is_rare, count - 1)

    return _first_sufficient(most_trials, min(1.0, share * skew), power)


def _first_sufficient(most_trials: Callable[[int], int], hot: float, power: float) -> int:
    """Return the least number of trials from which on a success rate of *hot* is found out.

    :param most_trials: for a count, the most trials at which reaching that count tells
    :param hot: success rate of the hot backend
    """

    # Between two steps of the telling count, power only rises: the worst number of trials for a
    # count is the first one, right after the step.
    def suffices(count: int, margin: int) -> bool:
        return upper_tail(count, most_trials(count - 1) + 1 - margin, hot) >= power

    # Where a tooth passes with a trial to spare, so do all later ones, for the teeth without
    # rounding grow steadily and rounding moves either end by less than one trial.
    count = 1 + _last_true(lambda count: not suffices(count, 1), 1)
    while suffices(count - 1, 0):
        count -= 1
    # The tooth before fails at its start; the answer is where it stops failing.
    failing = count - 1
    first = most_trials(failing - 1) + 1
    return 1 + _last_true(lambda trials: upper_tail(failing, trials, hot) < power, first)


def _last_true(holds: Callable[[int], bool], known: int) -> int:
    """Return the last number for which *holds*, which does at *known* and stops for good later."""
    step = 1
    while holds(known + step):
        known += step
        step *= 2
    unknown = known + step
    while unknown - known > 1:
        middle = (known + unknown) // 2
        if holds(middle):
            known = middle
        else:
            unknown = middle
    return known


def _telling_count(calls: int, backends: int, pickers: int) -> int:
    """Return the smallest count of one backend that breaks the round-robin bound whatever the rest.

    With one count x and the other calls spread evenly, max - min is at least x - (N - x) / (K - 1).
    """
    return (calls + pickers * (backends - 1)) // backends + 1


@lru_cache(maxsize=1024)
def _skew_found(calls: int, telling: int, share: float, power: float) -> float:
    if telling > calls:
        return math.inf
    low, high = share, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if upper_tail(telling, calls, middle) >= power:
            high = middle
        else:
            low = middle
    return high / share
