"""How many calls it takes to judge the spread after a change, and runs that have too few."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.asserts import assert_rebalanced
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Mechanism, Outcome

from .made_traffic import SimulatedTraffic, pods
from .test_asserts_rebalance import NEW, SCALED, exactly, scaled_in, scaled_out

if TYPE_CHECKING:
    from collections.abc import Callable


# --- how many calls that takes


def in_turn(known: Callable[[float], str]) -> Callable[[int, float], str]:
    """Pick as round robin does."""
    turns = itertools.count()
    return lambda _, at_s: known(at_s)[next(turns) % len(known(at_s))]


def test_calls_in_turn_are_found_even_after_a_third_of_what_any_others_may_take() -> None:
    live = SimulatedTraffic(
        in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef"),
        backends=(*pods(3), *NEW),
        events=(SCALED,),
        rate=1000.0,
    )
    live.wait(1.3)
    verdict = assert_rebalanced(live).verdict
    # A call in six adds ln(2/3) against a pod's being 1.5 times colder and the others ln(16/15):
    # ln(4000), for half of what is left of half the power, takes 101 rounds.
    assert (verdict.outcome, verdict.calls, verdict.needed_calls) == (Outcome.EVEN, 606, 606)
    assert verdict.test == "evidence against one hot or cold backend, looked at after every call"
    assert verdict.reason == (
        "counts of calls from 101 to 101; that one backend takes 1.5 times its share, or so many "
        "times less, is refuted"
    )
    assert verdict.detectable_skew == 1.5
    assert verdict.power == pytest.approx(0.9995)
    assert live.time_s == pytest.approx(1.8 + 606 / 1000, abs=0.2)


def test_a_finished_run_that_suffices_for_the_proof_is_even_too() -> None:
    live = SimulatedTraffic(
        in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef"),
        backends=(*pods(3), *NEW),
        events=(SCALED,),
        rate=1000.0,
    )
    live.wait(2.6)
    verdict = assert_rebalanced(replace(live.snapshot(), ended_at_s=2.6)).verdict
    assert (verdict.outcome, verdict.needed_calls) == (Outcome.EVEN, 606)
    assert verdict.calls == sum(verdict.counts.values()) > 700


def test_all_calls_of_a_finished_run_count_though_the_first_ones_were_even() -> None:
    live = SimulatedTraffic(
        in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef" if at_s < 2.6 else "abcdeeef"),
        backends=(*pods(3), *NEW),
        events=(SCALED,),
        rate=1000.0,
    )
    live.wait(8.0)
    with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-e answered "):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=8.0))


def test_a_skew_below_the_one_in_question_takes_the_fixed_number_of_calls() -> None:
    # Five calls of 25 are 1.2 times the share of one in six.
    pick = in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef" * 4 + "e")
    live = SimulatedTraffic(pick, backends=(*pods(3), *NEW), events=(SCALED,), rate=1000.0)
    for looked_at_s in (1.3, 8.0):  # however many calls there are at the first look
        live.wait(looked_at_s)
        verdict = assert_rebalanced(live).verdict
        assert (verdict.outcome, verdict.calls, verdict.needed_calls) == (Outcome.EVEN, 1837, 1837)
        assert verdict.test == "exact binomial per backend, calls as the unit"


def test_with_calls_to_a_stranger_no_spread_is_proven_even() -> None:
    pick = in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef" * 30 + "x")
    live = SimulatedTraffic(pick, backends=(*pods(3), *NEW), events=(SCALED,), rate=1000.0)
    live.wait(1.3)
    told = r"^headless: SKEWED: 10 calls were answered by 'x', none of the 6 backends\n"
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(live)


def test_calls_of_pinned_connections_prove_nothing_however_even_they_are() -> None:
    live = SimulatedTraffic(
        lambda channel, at_s: "abcabc"[channel] if at_s < 1.8 else "abcdef"[channel],
        channels=6,
        mechanism=Mechanism.CONNECTION,
        backends=(*pods(3), *NEW),
        events=(SCALED,),
        rate=1000.0,
    )
    live.wait(6.0)
    finished = replace(live.snapshot(), ended_at_s=6.0)
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 6 connections are too few: "):
        assert_rebalanced(finished)


# --- finished runs, and runs that end too early


def test_a_finished_run_is_judged_like_a_live_one() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdef")
    live.wait(10.0)
    result = assert_rebalanced(replace(live.snapshot(), ended_at_s=live.time_s))
    assert result.verdict.outcome is Outcome.EVEN
    assert result.verdict.calls > result.verdict.needed_calls  # all of them, for it is one look


def test_a_run_that_ends_before_the_new_pods_were_called_is_inconclusive() -> None:
    live = scaled_out(lambda _: "abc")
    live.wait(0.7)
    told = (
        "INCONCLUSIVE: the traffic ends 1.0 s after pod-d became ready; 0 of 1 channels had called "
        "it; deadline: 1.1 x max connection age 1 s + DNS TTL 0 s + connect 1 s + slack 1 s; let "
        "the traffic run longer, or at a higher rate"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=2.0))


def test_a_run_that_ends_before_absence_is_proved_is_inconclusive() -> None:
    live = scaled_in(lambda at_s: "abcd" if at_s < 1.0 else "ab")
    told = (
        "INCONCLUSIVE: too few calls went elsewhere to prove that none goes to pod-c, pod-d any "
        "more; 53 in a row are needed on each channel; let the traffic run longer, or at a higher "
        "rate"
    )
    # One of four is missed by that many with a probability of 5e-7/2: ln(2.5e-7) / ln(3/4) = 52.8.
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=1.1))


def test_a_skew_before_the_deadline_of_a_run_that_ended_early_is_inconclusive() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdeeef")
    live.wait(2.0)
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 0 calls are too few: 1837 are "):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=3.3))


def test_live_traffic_that_falls_silent_is_not_waited_for_endlessly() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdef")
    live.silent_from_s = 2.0
    told = (
        r"^INCONCLUSIVE: \d+ calls are too few: 1837 are needed to find one backend at 1.5 times "
        r"its share; .*; let the traffic run longer, or at a higher rate$"
    )
    with pytest.raises(InconclusiveError, match=told):
        assert_rebalanced(live)
    assert live.time_s == pytest.approx(2.0 + 15.0, abs=0.2)
