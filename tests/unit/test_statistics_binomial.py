from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from pytest_grpclb.statistics import count_interval, critical_count, lower_tail, upper_tail


def exact_upper_tail(count: int, trials: int, probability: Fraction) -> Fraction:
    wins, outcomes = probability.numerator, probability.denominator
    ways = sum(
        math.comb(trials, k) * wins**k * (outcomes - wins) ** (trials - k)
        for k in range(max(0, count), trials + 1)
    )
    return Fraction(ways, outcomes**trials)


def test_tails_of_three_coins() -> None:
    assert upper_tail(2, 3, 0.5) == pytest.approx(4 / 8)  # HHT HTH THH HHH
    assert lower_tail(0, 3, 0.5) == pytest.approx(1 / 8)  # TTT
    assert upper_tail(0, 3, 0.5) == 1.0
    assert upper_tail(4, 3, 0.5) == 0.0
    assert lower_tail(3, 3, 0.5) == 1.0
    assert lower_tail(-1, 3, 0.5) == 0.0


def test_a_certain_or_impossible_success_has_no_spread() -> None:
    assert upper_tail(1, 5, 0.0) == 0.0
    assert lower_tail(0, 5, 0.0) == 1.0
    assert upper_tail(5, 5, 1.0) == 1.0
    assert lower_tail(4, 5, 1.0) == 0.0


@pytest.mark.parametrize("seed", range(40))
def test_tails_agree_with_whole_number_arithmetic(seed: int) -> None:
    chance = random.Random(seed)
    trials = chance.randint(1, 600)
    outcomes = chance.choice([2, 3, 5, 7, 50])
    probability = Fraction(chance.randint(1, outcomes - 1), outcomes)
    # The whole range, far tails included, where naive sums lose every digit.
    for count in [chance.randint(0, trials) for _ in range(5)]:
        upper = exact_upper_tail(count, trials, probability)
        lower = 1 - exact_upper_tail(count + 1, trials, probability)
        assert upper_tail(count, trials, float(probability)) == pytest.approx(
            float(upper), rel=1e-9, abs=1e-300
        )
        assert lower_tail(count, trials, float(probability)) == pytest.approx(
            float(lower), rel=1e-9, abs=1e-300
        )


def test_tails_keep_nine_digits_at_a_hundred_thousand_trials() -> None:
    # The ratio of neighbouring probabilities is (n - k) p / ((k + 1) q): here with k = 2500.
    trials, count, probability = 100_000, 2500, Fraction(1, 50)
    p = float(probability)
    here = upper_tail(count, trials, p) - upper_tail(count + 1, trials, p)
    there = upper_tail(count + 1, trials, p) - upper_tail(count + 2, trials, p)
    assert there / here == pytest.approx((trials - count) / (count + 1) / 49, rel=1e-9)
    logarithm = (  # by whole numbers, which no rounding touches
        math.log(math.comb(trials, count)) + (trials - count) * math.log(49) - trials * math.log(50)
    )
    assert math.log(here) == pytest.approx(logarithm, abs=1e-8)


def test_a_tail_that_holds_all_but_next_to_nothing_is_one() -> None:
    """The first of its terms is 2**-100000, which no double can hold."""
    assert upper_tail(10, 100_000, 0.5) == 1.0
    assert lower_tail(99_990, 100_000, 0.5) == 1.0


def test_the_critical_count_is_the_first_one_that_is_rare_enough() -> None:
    # Ten coins: 10 heads have 1/1024, 9 or more 11/1024, 8 or more 56/1024.
    assert critical_count(10, 0.5, 56 / 1024 + 1e-12) == 8
    assert critical_count(10, 0.5, 56 / 1024 - 1e-12) == 9
    assert critical_count(10, 0.5, 1 / 2048) == 11  # not even ten heads are so rare


@pytest.mark.parametrize(("calls", "backends"), [(20, 3), (584, 3), (246, 2), (928, 4)])
def test_both_ends_of_a_count_interval_are_as_wide_as_its_tails_allow(
    calls: int, backends: int
) -> None:
    tail, share = 1e-6 / (2 * backends), Fraction(1, backends)
    lowest, highest = count_interval(calls, 1 / backends, tail=tail)

    def lower(count: int) -> Fraction:
        return 1 - exact_upper_tail(count + 1, calls, share)

    assert lower(lowest - 1) <= tail < lower(lowest)
    assert exact_upper_tail(highest + 1, calls, share) <= tail
    assert tail < exact_upper_tail(highest, calls, share)


def test_what_is_no_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^trials: -1 cannot be negative$"):
        upper_tail(0, -1, 0.5)
    with pytest.raises(ValueError, match=r"^probability: 1.5 is not in 0 to 1$"):
        upper_tail(0, 1, 1.5)
    with pytest.raises(ValueError, match=r"^probability: 1.5 is not in 0 to 1$"):
        lower_tail(0, 1, 1.5)
    with pytest.raises(ValueError, match=r"^probability: nan is not in 0 to 1$"):
        lower_tail(0, 1, math.nan)
