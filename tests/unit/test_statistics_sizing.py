from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.statistics import (
    calls_needed,
    calls_needed_round_robin,
    calls_proving_absence,
    count_interval,
    critical_count,
    detectable_skew,
    detectable_skew_round_robin,
    lower_tail,
    round_robin_limit,
    upper_tail,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Worked out with scipy.stats.binom over every N up to 20,000: the last N at which a backend at 1.5
# times its share is missed too often (alpha 1e-6, power 0.999), plus one.
PUBLISHED = {
    2: 246,
    3: 584,
    4: 928,
    5: 1272,
    8: 2336,
    10: 3050,
    16: 5244,
    20: 6720,
    32: 11208,
    50: 18067,
}


@pytest.mark.parametrize(("backends", "calls"), PUBLISHED.items())
def test_calls_needed_at_the_default_rates(backends: int, calls: int) -> None:
    assert calls_needed(backends, alpha=1e-6, power=0.999, skew=1.5) == calls


@pytest.mark.parametrize("backends", [2, 3, 5, 9])
@pytest.mark.parametrize(("alpha", "power"), [(0.3, 0.5), (0.05, 0.9), (1e-3, 0.99), (1e-9, 0.8)])
@pytest.mark.parametrize("skew", [1.4, 2.0])
def test_calls_needed_is_where_power_holds_for_good(
    backends: int, alpha: float, power: float, skew: float
) -> None:
    needed = calls_needed(backends, alpha=alpha, power=power, skew=skew)

    def found(calls: int) -> float:
        telling = critical_count(calls, 1 / backends, alpha / (2 * backends))
        return upper_tail(telling, calls, skew / backends)

    assert found(needed - 1) < power
    # Power sags by less with every tooth: what holds over twice the range holds beyond it.
    assert all(found(calls) >= power for calls in range(needed, 2 * needed))


@pytest.mark.parametrize("backends", [2, 3, 8])
@pytest.mark.parametrize("pickers", [1, 4, 16])
@pytest.mark.parametrize("power", [0.9, 0.999])
def test_calls_needed_by_round_robin_is_where_power_holds_for_good(
    backends: int, pickers: int, power: float
) -> None:
    needed = calls_needed_round_robin(backends, pickers=pickers, power=power, skew=1.5)

    def found(calls: int) -> float:
        # With x at one backend, the idlest of the others has at most the mean of the rest.
        telling = next(
            x for x in range(calls + 2) if x - math.floor((calls - x) / (backends - 1)) > pickers
        )
        return upper_tail(telling, calls, 1.5 / backends)

    assert found(needed - 1) < power
    assert all(found(calls) >= power for calls in range(needed, 2 * needed))


def test_a_few_calls_show_that_round_robin_sends_all_to_one_or_none() -> None:
    assert calls_needed_round_robin(2, pickers=1, power=0.999, skew=2.0) == 2  # 2 - 0 > 1
    # Three calls to one of three are 3 - 0 > 2; four to two of them, 2 - 0, the bound allows.
    assert calls_needed_round_robin(3, pickers=2, power=0.999, skew=3.0) == 5


@pytest.mark.parametrize("skew", [1.2, 1.5, 2.0, 2.5, 3.0, 5.0, 100.0])
@pytest.mark.parametrize("backends", [2, 3, 4, 8, 20, 50])
def test_so_many_calls_find_a_hot_a_cold_and_a_dead_backend(backends: int, skew: float) -> None:
    """By exact tails of the one backend's own count; a cold one is as far below as a hot above."""
    alpha, power = 1e-6, 0.999
    calls = calls_needed(backends, alpha=alpha, power=power, skew=skew)
    lowest, highest = count_interval(calls, 1.0 / backends, tail=alpha / (2 * backends))
    hot = min(1.0, skew / backends)
    cold = max(0.0, 2.0 - skew) / backends
    assert upper_tail(highest + 1, calls, hot) >= power
    assert lowest >= 1
    assert lower_tail(lowest - 1, calls, cold) >= power


def test_the_least_weighted_backend_decides_how_many_calls_are_needed() -> None:
    rates: dict[str, Any] = {"alpha": 1e-6, "power": 0.999, "skew": 1.5}
    even = calls_needed(2, weights=[7, 7], **rates)
    assert even == PUBLISHED[2]
    canary = calls_needed(2, weights=[0.9, 0.1], **rates)
    # 0.9 times 1.5 is above 1, so only the canary can be that hot.
    assert canary > even
    # Where several can be that hot, it is the one with the least share: as one of five even ones
    # that have the same tail each, a sixth of 1e-6.
    fifth = calls_needed(5, alpha=5e-6 / 3, power=0.999, skew=1.5)
    assert calls_needed(3, weights=[1, 2, 2], **rates) == fifth
    # A backend that must get nothing needs no calls to be found out: the first one does.
    assert calls_needed(3, weights=[1, 1, 0], **rates) < canary


@pytest.mark.parametrize(
    ("weights", "alpha", "power"),
    [([99, 100, 100, 101], 0.01, 0.9), ([1, 1, 3], 0.05, 0.9), ([5, 4, 1], 1e-3, 0.8)],
)
def test_calls_needed_find_each_backend_that_can_be_hot_for_good(
    weights: list[int], alpha: float, power: float
) -> None:
    """Not just the one with the least share: teeth make a call or two between near ones."""
    backends, shares = len(weights), [weight / sum(weights) for weight in weights]
    needed = calls_needed(backends, alpha=alpha, power=power, skew=2.0, weights=weights)
    can_be_hot = [share for share in shares if share * 2.0 <= 1.0]

    def worst(calls: int) -> float:
        return min(
            upper_tail(critical_count(calls, share, alpha / (2 * backends)), calls, 2.0 * share)
            for share in can_be_hot
        )

    assert worst(needed - 1) < power
    assert all(worst(calls) >= power for calls in range(needed, 2 * needed))


def test_calls_that_all_miss_a_backend_tell_of_its_death_at_the_last_of_them() -> None:
    # A tail of 2**-10, of alpha a quarter: ten calls to the other one of two, and no more.
    assert calls_needed(2, alpha=2.0**-8, power=0.5, skew=2.0) == 10


def test_the_calls_needed_find_the_skew_that_they_are_needed_for() -> None:
    assert detectable_skew(584, 3, alpha=1e-6, power=0.999) <= 1.5
    assert detectable_skew(583, 3, alpha=1e-6, power=0.999) > 1.5
    assert detectable_skew_round_robin(98, 3, pickers=1, power=0.999) <= 1.5
    assert detectable_skew_round_robin(97, 3, pickers=1, power=0.999) > 1.5


def test_a_detectable_skew_is_found_with_just_the_power() -> None:
    skew = detectable_skew(1000, 4, alpha=1e-6, power=0.9)
    telling = critical_count(1000, 0.25, 1e-6 / 8)
    assert upper_tail(telling, 1000, skew / 4) == pytest.approx(0.9, abs=1e-6)
    # 50 to 49 of 99 calls are one apart, 51 to 48 three; of 100 it is 51 to 49.
    for calls in (99, 100):
        skew = detectable_skew_round_robin(calls, 2, pickers=1, power=0.9)
        assert upper_tail(51, calls, skew / 2) == pytest.approx(0.9, abs=1e-6)
    # Of 102 calls 36 to 33 and 33 are three apart: as many as three pickers may give.
    skew = detectable_skew_round_robin(102, 3, pickers=3, power=0.9)
    assert upper_tail(37, 102, skew / 3) == pytest.approx(0.9, abs=1e-6)


def test_the_least_weighted_backend_is_the_hardest_to_find() -> None:
    # As above: of five even ones with the same tails each has the share of the first of these.
    fifth = detectable_skew(1000, 5, alpha=5e-6 / 3, power=0.999)
    found = detectable_skew(1000, 3, alpha=1e-6, power=0.999, weights=[1, 2, 2])
    assert found == pytest.approx(fifth)


def test_too_few_calls_detect_no_skew_at_all() -> None:
    # 2**-20 is about 9.5e-7: twenty calls to one of two backends do not reach alpha/4.
    assert detectable_skew(20, 2, alpha=1e-6, power=0.999) == math.inf
    assert detectable_skew(22, 2, alpha=1e-6, power=0.999) == pytest.approx(2.0, abs=1e-3)
    assert detectable_skew(0, 3, alpha=1e-6, power=0.999) == math.inf
    assert detectable_skew_round_robin(1, 2, pickers=1, power=0.999) == math.inf


def test_calls_proving_absence_are_so_many_that_chance_cannot_miss_a_backend() -> None:
    # (1 - 1/2)**19 is 1.9e-6, **20 is 9.5e-7; (3/4)**48 is 1.0066e-6, **49 is 7.5e-7.
    assert calls_proving_absence(2, alpha=1e-6) == 20
    assert calls_proving_absence(4, alpha=1e-6) == 49
    assert calls_proving_absence(2, alpha=0.25) == 2  # exactly, whatever the logarithms round to


def test_every_picker_and_every_rebuild_may_add_one_to_the_difference() -> None:
    assert round_robin_limit(1) == 1
    assert round_robin_limit(4, rebuilds=2) == 6
    assert round_robin_limit(1, rebuilds=1, picks_meanwhile=7) == 9


def test_rates_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^alpha: 0.0 is not between 0 and 1$"):
        calls_needed(3, alpha=0.0, power=0.9, skew=1.5)
    with pytest.raises(ValueError, match=r"^power: 1.0 is not between 0 and 1$"):
        calls_needed(3, alpha=0.1, power=1.0, skew=1.5)
    with pytest.raises(ValueError, match=r"^skew: 1.0 is no skew; it must be above 1$"):
        calls_needed(3, alpha=0.1, power=0.9, skew=1.0)
    with pytest.raises(ValueError, match=r"^power: 7 is not between 0 and 1$"):
        calls_needed_round_robin(3, pickers=1, power=7, skew=1.5)
    with pytest.raises(ValueError, match=r"^alpha: 2 is not between 0 and 1$"):
        calls_proving_absence(3, alpha=2)
    with pytest.raises(ValueError, match=r"^alpha: nan is not between 0 and 1$"):
        detectable_skew(10, 3, alpha=math.nan, power=0.9)
    with pytest.raises(ValueError, match=r"^power: 0 is not between 0 and 1$"):
        detectable_skew_round_robin(10, 3, pickers=1, power=0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: calls_needed_round_robin(1, pickers=1, power=0.9, skew=1.5),
        lambda: detectable_skew(10, 1, alpha=0.1, power=0.9),
        lambda: detectable_skew_round_robin(10, 1, pickers=1, power=0.9),
        lambda: calls_proving_absence(1, alpha=0.1),
    ],
)
def test_one_backend_is_no_spread_whatever_is_asked(ask: Callable[[], float]) -> None:
    with pytest.raises(ValueError, match=r"^backends: 1; a spread is over at least 2$"):
        ask()


def test_a_backend_is_no_hotter_than_with_all_calls() -> None:
    for backends in (2, 3, 10):
        rates: dict[str, Any] = {"alpha": 1e-6, "power": 0.999}
        most = calls_needed(backends, **rates, skew=float(backends))
        assert calls_needed(backends, **rates, skew=backends + 2.5) == most
    weights = [0.9, 0.1]
    most = calls_needed(2, weights=weights, **rates, skew=10.0)
    assert calls_needed(2, weights=weights, **rates, skew=11.0) == most
    assert calls_needed_round_robin(
        3, pickers=1, power=0.999, skew=4.0
    ) == calls_needed_round_robin(3, pickers=1, power=0.999, skew=3.0)


def test_weights_may_be_as_large_as_a_float_can_be() -> None:
    rates: dict[str, Any] = {"alpha": 1e-6, "power": 0.999, "skew": 1.5}
    huge = calls_needed(3, weights=[1.7e308, 1.7e308, 1.7e308], **rates)
    assert huge == calls_needed(3, **rates)


def test_weights_that_fit_no_backends_are_refused() -> None:
    def needed(backends: int, weights: list[float] | None) -> int:
        return calls_needed(backends, alpha=0.1, power=0.9, skew=1.5, weights=weights)

    refused: list[tuple[int, list[float] | None, str]] = [
        (1, None, "backends: 1; a spread is over at least 2"),
        (2, [1, 1, 1], "weights: 3 for 2 backends; one each is needed"),
        (2, [1, -1], "weights: [1, -1]; each must be a number of at least 0"),
        (2, [1, math.inf], "weights: [1, inf]; each must be a number of at least 0"),
        (2, [1, 0], "weights: [1, 0]; at least 2 must be above 0"),
    ]
    for backends, weights, told in refused:
        with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
            needed(backends, weights)


@pytest.mark.parametrize(
    ("pickers", "rebuilds", "picks_meanwhile"), [(0, 0, 0), (2, -1, 0), (2, 0, -1)]
)
def test_pickers_that_cannot_be_are_refused(
    pickers: int, rebuilds: int, picks_meanwhile: int
) -> None:
    told = (
        f"^pickers {pickers}, rebuilds {rebuilds}, picks_meanwhile {picks_meanwhile}: at least 1 "
        "picker and no negative number$"
    )
    with pytest.raises(ValueError, match=told):
        round_robin_limit(pickers, rebuilds=rebuilds, picks_meanwhile=picks_meanwhile)
