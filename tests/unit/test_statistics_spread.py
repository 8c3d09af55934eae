from __future__ import annotations

import math
import random
import re
from typing import Any

import pytest

from pytest_grpclb.model import Alarm, Mechanism, Outcome, Verdict
from pytest_grpclb.statistics import (
    SkewAlarm,
    calls_needed,
    chi_square,
    detectable_skew,
    judge_spread,
    upper_tail,
)

RATES = {"alpha": 1e-6, "power": 0.999, "skew": 1.5}
THREE = ("a", "b", "c")


def judge(counts: dict[str, int], mechanism: Mechanism = Mechanism.RANDOM, **more: Any) -> Verdict:
    return judge_spread(
        counts,
        **({"backends": THREE, "mechanism": mechanism} | RATES | more),  # type: ignore[arg-type]
    )


def round_robin(*counts: int, pickers: int = 1, **more: Any) -> Verdict:
    given = dict(zip(THREE, counts, strict=True))
    known = {"picker_rebuilds": 0} | more
    return judge(given, Mechanism.ROUND_ROBIN, pickers=pickers, **known)


# --- round robin whose pickers stood


def test_standing_round_robin_is_judged_by_its_exact_bound() -> None:
    verdict = round_robin(195, 195, 194)
    assert verdict == Verdict(
        outcome=Outcome.EVEN,
        counts={"a": 195, "b": 195, "c": 194},
        calls=584,
        backends=3,
        alpha=0.0,
        power=0.999,
        detectable_skew=verdict.detectable_skew,
        needed_calls=98,
        test="exact round-robin bound",
        reason="counts differ by at most 1; round robin with 1 picker allows 1",
    )
    assert 1.1 < verdict.detectable_skew < 1.3


@pytest.mark.parametrize("pickers", [1, 2, 5])
def test_every_picker_allows_the_counts_to_differ_by_one_more(pickers: int) -> None:
    within = round_robin(200, 200, 200 - pickers, pickers=pickers)
    beyond = round_robin(200, 200, 199 - pickers, pickers=pickers)
    assert (within.outcome, beyond.outcome) == (Outcome.EVEN, Outcome.SKEWED)


def test_one_call_too_many_breaks_the_bound() -> None:
    verdict = round_robin(196, 194, 194)
    assert verdict.outcome is Outcome.SKEWED
    assert verdict.reason == "a answered 2 calls more than b; round robin with 1 picker allows 1"


def test_a_broken_bound_is_said_at_any_number_of_calls() -> None:
    assert round_robin(2, 0, 0).outcome is Outcome.SKEWED
    assert round_robin(1, 0, 0).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("rebuilds", [1, None])
def test_rebuilt_or_unwatched_pickers_are_judged_as_chance(rebuilds: int | None) -> None:
    # 190 to 197 is far beyond the bound, and nothing that chance would not do.
    verdict = round_robin(197, 197, 190, picker_rebuilds=rebuilds)
    assert verdict.outcome is Outcome.EVEN
    assert verdict.alpha == 1e-6
    assert verdict.test == "exact binomial per backend, calls as the unit"


def test_so_many_pickers_that_the_bound_says_little_are_judged_as_chance() -> None:
    counts = dict(zip(THREE, (200, 200, 184), strict=True))
    verdict = judge(counts, Mechanism.ROUND_ROBIN, pickers=500, picker_rebuilds=0)
    assert verdict.outcome is Outcome.EVEN
    assert verdict.needed_calls == 584


# --- chance


def test_counts_as_chance_gives_them_are_even() -> None:
    verdict = judge({"a": 180, "b": 210, "c": 194})
    assert verdict == Verdict(
        outcome=Outcome.EVEN,
        counts={"a": 180, "b": 210, "c": 194},
        calls=584,
        backends=3,
        alpha=1e-6,
        power=0.999,
        detectable_skew=verdict.detectable_skew,
        needed_calls=584,
        test="exact binomial per backend, calls as the unit",
        reason="counts of calls from 180 to 210; fair shares allow 138 to 254",
    )
    assert verdict.detectable_skew == pytest.approx(1.499, abs=1e-3)


# 138 and 254 bound what has a tail of 1e-6/6 in Binomial(584, 1/3): see the interval's own test.
@pytest.mark.parametrize(
    ("count", "outcome"),
    [
        (137, Outcome.SKEWED),
        (138, Outcome.EVEN),
        (254, Outcome.EVEN),
        (255, Outcome.SKEWED),
    ],
)
def test_a_count_is_judged_on_both_sides(count: int, outcome: Outcome) -> None:
    others = 584 - count
    counts = {"a": count, "b": others // 2, "c": others - others // 2}
    assert judge(counts).outcome is outcome


def test_a_count_that_is_just_as_rare_as_the_tail_allows_is_a_skew() -> None:
    # Two backends have two tails each; powers of two are divided without rounding.
    alpha = 4 * upper_tail(10, 10, 0.5)
    verdict = judge({"a": 10, "b": 0}, backends=("a", "b"), alpha=alpha)
    assert verdict.outcome is Outcome.SKEWED


def test_the_reason_names_the_least_likely_count_by_its_pod() -> None:
    verdict = judge({"a": 584}, names={"a": "greeter-x"})
    assert verdict.outcome is Outcome.SKEWED
    assert verdict.counts == {"a": 584, "b": 0, "c": 0}
    assert verdict.reason == (
        "greeter-x answered 584 of 584 calls (3.00 times its share); "
        "its fair share allows 138 to 254; outside of theirs as well: 2"
    )


def test_too_few_calls_are_inconclusive() -> None:
    verdict = judge({"a": 100, "b": 100, "c": 100})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == (
        "300 calls are too few: 584 are needed to find one backend at 1.5 times its share; "
        f"these find {verdict.detectable_skew:.2f} times"
    )
    assert 1.5 < verdict.detectable_skew < 2.0


def test_one_call_decides_between_too_few_and_enough() -> None:
    assert judge({"a": 194, "b": 194, "c": 195}).outcome is Outcome.INCONCLUSIVE
    assert judge({"a": 195, "b": 194, "c": 195}).outcome is Outcome.EVEN
    assert round_robin(33, 32, 32).outcome is Outcome.INCONCLUSIVE  # 98 by the exact bound
    assert round_robin(33, 33, 32).outcome is Outcome.EVEN


def test_a_single_call_is_inconclusive() -> None:
    assert judge({"a": 1}).reason == (
        "1 call is too few: 584 are needed to find one backend at 1.5 times its share; "
        "these find none"
    )


def test_no_calls_at_all_are_inconclusive() -> None:
    verdict = judge({})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.detectable_skew == math.inf
    assert (verdict.max_over_mean, verdict.min_over_mean, verdict.jain) == (0.0, 0.0, 0.0)


def test_a_clear_skew_needs_few_calls() -> None:
    # (1/3)**13 is 6.3e-7 and (1/3)**15 is 7e-8; a sixth of a millionth lies between.
    assert judge({"a": 14}).outcome is Outcome.INCONCLUSIVE
    assert judge({"a": 15}).outcome is Outcome.SKEWED


# --- strangers and weights


def test_calls_answered_by_strangers_are_a_skew() -> None:
    verdict = judge({"a": 200, "b": 200, "c": 200, "x": 1, "y": 2})
    assert verdict.outcome is Outcome.SKEWED
    assert verdict.reason == "3 calls were answered by 'x', 'y', none of the 3 backends"
    assert verdict.calls == 603
    assert verdict.counts == {"a": 200, "b": 200, "c": 200, "x": 1, "y": 2}
    assert judge({"x": 1}, names={"x": "pod-x"}).reason == (
        "1 call was answered by 'pod-x', none of the 3 backends"
    )


def test_a_stranger_without_calls_is_nobody() -> None:
    assert judge({"a": 200, "b": 200, "c": 200, "x": 0}).outcome is Outcome.EVEN


def test_weights_change_what_is_fair() -> None:
    counts = {"a": 700, "b": 200, "c": 100}
    assert judge(counts).outcome is Outcome.SKEWED
    weighted = judge(counts, weights=[7, 2, 1], skew=2.0)
    assert weighted.outcome is Outcome.EVEN
    assert weighted.reason == "each count of calls lies within what its weight allows"
    swapped = judge(counts, weights=[7, 1, 2])
    assert swapped.reason.startswith("b answered 200 of 1000 calls (2.00 times its share); ")


def test_round_robin_with_weights_is_judged_as_chance() -> None:
    counts = {"a": 700, "b": 200, "c": 100}
    verdict = judge(counts, Mechanism.ROUND_ROBIN, picker_rebuilds=0, weights=[7, 2, 1], skew=2.0)
    assert verdict.outcome is Outcome.EVEN


def test_one_call_to_a_backend_of_weight_zero_is_a_skew() -> None:
    counts = {"a": 300, "b": 299, "c": 1}
    verdict = judge(counts, weights=[1, 1, 0])
    assert verdict.outcome is Outcome.SKEWED
    assert verdict.reason == "c answered 1 of 600 calls; its fair share allows 0 to 0"


def test_calls_needed_and_skew_found_are_those_of_the_weights() -> None:
    weights = [7, 2, 1]
    verdict = judge({"a": 700, "b": 200, "c": 100}, weights=weights)
    assert verdict.needed_calls == calls_needed(3, weights=weights, **RATES) > 2000
    assert verdict.detectable_skew == detectable_skew(
        1000, 3, weights=weights, alpha=1e-6, power=0.999
    )
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.fair_shares == pytest.approx({"a": 0.7, "b": 0.2, "c": 0.1})
    assert judge({"a": 700}).fair_shares == {}


def test_counts_within_two_different_weights_are_said_to_be() -> None:
    verdict = judge({"a": 1000, "b": 500, "c": 500}, weights=[2, 1, 1])
    assert verdict.outcome is Outcome.EVEN
    assert verdict.reason == "each count of calls lies within what its weight allows"


def test_the_rarest_count_is_named_and_the_others_are_counted() -> None:
    verdict = judge({"a": 270, "b": 280, "c": 50})
    assert verdict.reason == (
        "c answered 50 of 600 calls (0.25 times its share); its fair share allows 143 to 260; "
        "outside of theirs as well: 2"
    )
    verdict = judge({"a": 250, "b": 270, "c": 130})
    assert verdict.reason.startswith("c answered 130 of 650 calls (0.60 times its share); ")
    assert not verdict.reason.endswith("as well: 2")


def test_of_two_counts_outside_the_other_is_counted_too() -> None:
    verdict = judge({"a": 200, "b": 280, "c": 120})
    assert verdict.reason.startswith("c answered 120 of 600 calls (0.60 times its share); ")
    assert verdict.reason.endswith("; outside of theirs as well: 1")


def test_an_alarm_names_the_rarest_count_and_how_far_it_is_off() -> None:
    alarm = Alarm(alpha=1e-6, raised_after=90)
    verdict = judge({"a": 40, "b": 45, "c": 5}, alarm=alarm)
    assert verdict.reason == (
        "c answered 5 of 90 calls (0.17 times its share); that they are not even was certain "
        "after 90"
    )
    assert verdict.certain_after == 90
    told = judge({"a": 40, "b": 45, "c": 5}, alarm=alarm, weights=[1, 1, 0]).reason
    assert told.startswith("c answered 5 of 90 calls; that they are not even was ")


def test_random_picks_are_not_held_to_the_bound_of_round_robin() -> None:
    assert judge({"a": 210, "b": 200, "c": 190}, picker_rebuilds=0).outcome is Outcome.EVEN


def test_what_was_counted_is_named() -> None:
    assert judge({"a": 10, "x": 1}, unit="stream").reason == (
        "1 stream was answered by 'x', none of the 3 backends"
    )
    assert judge({"a": 10, "b": 9, "c": 9}, unit="stream").reason.startswith("28 streams are too ")
    assert judge({"z": 2, "x": 1, "y": 1}).reason == (
        "4 calls were answered by 'x', 'y', 'z', none of the 3 backends"
    )


# --- what cannot be judged


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"counts": {"a": -1}}, "counts: {'a': -1} cannot be negative"),
        ({"backends": ["a"]}, "backends: 1; a spread is over at least 2"),
        ({"backends": []}, "backends: 0; a spread is over at least 2"),
        ({"backends": ["a", "a"]}, "backends: ['a', 'a']; each may be given once"),
        ({"alpha": 0.0}, "alpha: 0.0 is not between 0 and 1"),
        ({"power": 1.0}, "power: 1.0 is not between 0 and 1"),
        ({"skew": 1.0}, "skew: 1.0 is no skew; it must be above 1"),
        ({"weights": [1, 2]}, "weights: 2 for 3 backends; one each is needed"),
    ],
)
def test_what_cannot_be_judged_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        judge(**({"counts": {"a": 1}} | more))


# --- for information


def test_the_measures_of_a_verdict_match_hand_counts() -> None:
    verdict = judge({"a": 60, "b": 15, "c": 15})
    assert verdict.max_over_mean == 2.0
    assert verdict.min_over_mean == 0.5
    assert verdict.jain == pytest.approx(90**2 / (3 * (60**2 + 15**2 + 15**2)))
    assert judge({"a": 60}).min_over_mean == 0.0


def test_chi_square_matches_hand_count() -> None:
    assert chi_square({"a": 60, "b": 40}) == 4.0  # 10**2/50 twice


def test_chi_square_of_few_calls_is_refused() -> None:
    told = "counts: 4.5 calls expected per backend; chi-square needs at least 5, so send more calls"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        chi_square({"a": 5, "b": 4})
    with pytest.raises(ValueError, match=r"^counts: 0 calls expected per backend; "):
        chi_square({})


# --- a run that was watched


def test_an_alarm_decides_whatever_the_final_counts_are() -> None:
    verdict = judge(
        {"a": 25, "b": 5, "c": 6}, alarm=Alarm(alpha=5e-7, raised_after=30), names={"a": "pod-a"}
    )
    assert verdict.outcome is Outcome.SKEWED
    assert (verdict.calls, verdict.certain_after, verdict.alpha) == (36, 30, 5e-7)
    assert verdict.test == "evidence against fair shares, looked at after every call"
    assert verdict.reason == (
        "pod-a answered 25 of 36 calls (2.08 times its share); "
        "that they are not even was certain after 30"
    )


def test_false_alarms_of_the_watch_and_of_the_test_add_up() -> None:
    even = {"a": 201, "b": 201, "c": 201}
    verdict = judge(even, alpha=5e-7, alarm=Alarm(alpha=5e-7))
    assert (verdict.outcome, verdict.certain_after) == (Outcome.EVEN, None)
    assert verdict.alpha == 1e-6
    assert round_robin(200, 200, 200, alarm=Alarm(alpha=5e-7)).alpha == 0.0


def test_a_watched_run_that_is_even_is_called_skewed_as_rarely_as_claimed() -> None:
    chance, runs, alpha = random.Random(5), 600, 0.02
    skewed = 0
    for _ in range(runs):
        alarm, picks = SkewAlarm(3, alpha=alpha / 2), chance.choices(range(3), k=584)
        if any(alarm.observe(pick) for pick in picks):
            picks = picks[: alarm.raised_at]
        counts = {name: picks.count(index) for index, name in enumerate(THREE)}
        told = Alarm(alpha=alpha / 2, raised_after=alarm.raised_at)
        skewed += judge(counts, alpha=alpha / 2, alarm=told).outcome is Outcome.SKEWED
    # Fails by chance once in a million seeds, if the rate is as high as claimed.
    assert upper_tail(skewed, runs, alpha) > 1e-6
    assert skewed > 0
