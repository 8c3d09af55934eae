"""Error rates as claimed, seen on simulated pickers.

A rate is contradicted if what was seen has a probability below 1e-6 under it (Clopper, Pearson,
1934: the bound of a one-sided confidence interval of that level). So each test fails by chance for
one seed in a million, and the seeds are fixed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from pytest_grpclb.model import Mechanism, Outcome
from pytest_grpclb.statistics import (
    calls_needed,
    calls_needed_round_robin,
    calls_proving_absence,
    judge_spread,
    lower_tail,
    round_robin_limit,
    upper_tail,
)

CONTRADICTED = 1e-6
# Large enough for false alarms to be seen in a thousand runs.
ALPHA = 0.02
POWER = 0.9

Spread = Callable[[random.Random, int, int], Sequence[int]]


def uniform(chance: random.Random, backends: int, calls: int) -> Sequence[int]:
    tally = Counter(chance.choices(range(backends), k=calls))
    return [tally[backend] for backend in range(backends)]


def tilted(times_fair: float) -> Spread:
    """One backend gets a multiple of its share, the others share the rest."""

    def spread(chance: random.Random, backends: int, calls: int) -> Sequence[int]:
        tilt = times_fair / backends
        weights = [tilt, *[(1.0 - tilt) / (backends - 1)] * (backends - 1)]
        tally = Counter(chance.choices(range(backends), weights=weights, k=calls))
        return [tally[backend] for backend in range(backends)]

    return spread


def two_choices(chance: random.Random, backends: int, calls: int) -> Sequence[int]:
    """Power of two choices: the less loaded of two, where load drains at random."""
    counts, load = [0] * backends, [0] * backends
    for _ in range(calls):
        one, other = chance.randrange(backends), chance.randrange(backends)
        picked = one if load[one] <= load[other] else other
        counts[picked] += 1
        load[picked] += 1
        drained = chance.randrange(backends)
        load[drained] = max(0, load[drained] - 1)
    return counts


def count_outcomes(
    spread: Spread, *, backends: int, calls: int, runs: int, seed: int, alpha: float = ALPHA
) -> Counter[Outcome]:
    chance = random.Random(seed)
    names = [str(backend) for backend in range(backends)]
    outcomes: Counter[Outcome] = Counter()
    for _ in range(runs):
        verdict = judge_spread(
            dict(zip(names, spread(chance, backends, calls), strict=True)),
            backends=names,
            mechanism=Mechanism.RANDOM,
            alpha=alpha,
            power=POWER,
            skew=1.5,
        )
        outcomes[verdict.outcome] += 1
    return outcomes


@pytest.mark.parametrize("backends", [2, 3, 7, 20, 50])
def test_random_picks_are_called_skewed_at_most_at_alpha(backends: int) -> None:
    runs = 1500 if backends < 20 else 300
    calls = calls_needed(backends, alpha=ALPHA, power=POWER, skew=1.5)
    seen = count_outcomes(uniform, backends=backends, calls=calls, runs=runs, seed=backends)
    assert upper_tail(seen[Outcome.SKEWED], runs, ALPHA) > CONTRADICTED
    assert seen[Outcome.INCONCLUSIVE] == 0
    # Of two backends both counts are outside or none: half of Bonferroni's alpha, less by steps.
    assert seen[Outcome.SKEWED] > 0


@pytest.mark.parametrize("backends", [2, 5])
def test_two_choices_are_called_skewed_at_most_at_alpha(backends: int) -> None:
    seen = count_outcomes(two_choices, backends=backends, calls=300, runs=300, seed=3)
    assert upper_tail(seen[Outcome.SKEWED], 300, ALPHA) > CONTRADICTED


@pytest.mark.parametrize("backends", [2, 3, 7, 20, 50])
def test_a_hot_backend_is_found_with_the_power(backends: int) -> None:
    runs = 600 if backends < 20 else 150
    calls = calls_needed(backends, alpha=ALPHA, power=POWER, skew=1.5)
    seen = count_outcomes(tilted(1.5), backends=backends, calls=calls, runs=runs, seed=backends)
    assert lower_tail(seen[Outcome.SKEWED], runs, POWER) > CONTRADICTED
    # The number is the least one: with two thirds of it the power is clearly missed.
    fewer = count_outcomes(
        tilted(1.5), backends=backends, calls=calls * 2 // 3, runs=runs, seed=backends
    )
    assert lower_tail(fewer[Outcome.SKEWED], runs, POWER) < CONTRADICTED


@pytest.mark.parametrize("backends", [2, 3, 7, 20])
@pytest.mark.parametrize("times_fair", [0.0, 0.5])
def test_a_cold_or_dead_backend_is_found_at_the_default_rates(
    backends: int, times_fair: float
) -> None:
    calls = calls_needed(backends, alpha=1e-6, power=0.999, skew=1.5)
    seen = count_outcomes(
        tilted(times_fair), backends=backends, calls=calls, runs=50, seed=5, alpha=1e-6
    )
    # A cold backend lies about as far below its share as a hot one above it, in narrower chance.
    assert lower_tail(seen[Outcome.SKEWED], 50, 0.999) > CONTRADICTED


def test_weighted_picks_are_called_skewed_at_most_at_alpha() -> None:
    chance, weights, runs = random.Random(7), [6, 3, 1], 1000
    skewed = 0
    for _ in range(runs):
        tally = Counter(chance.choices("abc", weights=weights, k=400))
        verdict = judge_spread(
            tally,
            backends="abc",
            mechanism=Mechanism.RANDOM,
            alpha=ALPHA,
            power=POWER,
            skew=1.5,
            weights=weights,
        )
        skewed += verdict.outcome is Outcome.SKEWED
    assert upper_tail(skewed, runs, ALPHA) > CONTRADICTED
    assert skewed > 0


# --- round robin


def round_robin_counts(
    chance: random.Random, backends: int, calls: int, *, pickers: int, rebuilds: int = 0
) -> list[int]:
    """Pick in rounds that start anywhere; a rebuilt picker has a new order and a new start."""

    def rounds() -> list[int]:
        order = list(range(backends))
        chance.shuffle(order)
        return order

    orders = [rounds() for _ in range(pickers)]
    position = [chance.randrange(backends) for _ in range(pickers)]
    rebuilt = sorted(chance.sample(range(calls), rebuilds))
    counts = [0] * backends
    for call in range(calls):
        while rebuilt and rebuilt[0] == call:
            rebuilt.pop(0)
            picker = chance.randrange(pickers)
            orders[picker], position[picker] = rounds(), chance.randrange(backends)
        picker = chance.randrange(pickers)
        counts[orders[picker][position[picker] % backends]] += 1
        position[picker] += 1
    return counts


@pytest.mark.parametrize("pickers", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("rebuilds", [0, 1, 5])
def test_round_robin_never_exceeds_its_bound(pickers: int, rebuilds: int) -> None:
    chance = random.Random(100 * pickers + rebuilds)
    limit = round_robin_limit(pickers, rebuilds=rebuilds)
    for _ in range(60):
        backends = chance.choice([2, 3, 5, 11])
        calls = chance.randint(10, 300)
        counts = round_robin_counts(chance, backends, calls, pickers=pickers, rebuilds=rebuilds)
        assert max(counts) - min(counts) <= limit


def test_the_round_robin_bound_is_reached() -> None:
    # Two pickers, or one that is rebuilt, that each send one call to the first backend: 2, 0.
    assert round_robin_limit(2) == 2
    assert round_robin_limit(1, rebuilds=1) == 2
    # One picker that sends three calls to the first backend before it knows the second: 3, 0, and
    # then a round of its own that starts at the first: 4, 0.
    assert round_robin_limit(1, picks_meanwhile=3) == 4


@pytest.mark.parametrize(("backends", "pickers"), [(2, 1), (3, 1), (3, 4), (10, 2)])
def test_the_round_robin_bound_finds_a_hot_backend_with_the_power(
    backends: int, pickers: int
) -> None:
    chance, runs = random.Random(backends), 500
    calls = calls_needed_round_robin(backends, pickers=pickers, power=POWER, skew=1.5)
    names = [str(backend) for backend in range(backends)]
    skewed = 0
    for _ in range(runs):
        counts = tilted(1.5)(chance, backends, calls)
        verdict = judge_spread(
            dict(zip(names, counts, strict=True)),
            backends=names,
            mechanism=Mechanism.ROUND_ROBIN,
            alpha=1e-6,
            power=POWER,
            skew=1.5,
            pickers=pickers,
            picker_rebuilds=0,
        )
        assert verdict.alpha == 0.0
        assert verdict.outcome is not Outcome.INCONCLUSIVE
        skewed += verdict.outcome is Outcome.SKEWED
    assert lower_tail(skewed, runs, POWER) > CONTRADICTED


# --- absence


@pytest.mark.parametrize("backends", [2, 4, 10])
def test_a_backend_in_use_is_missed_for_so_long_at_most_at_alpha(backends: int) -> None:
    chance, runs = random.Random(backends), 4000
    calls = calls_proving_absence(backends, alpha=ALPHA)
    missed = sum(0 not in chance.choices(range(backends), k=calls) for _ in range(runs))
    assert upper_tail(missed, runs, ALPHA) > CONTRADICTED
    assert missed > 0
