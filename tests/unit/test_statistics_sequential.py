from __future__ import annotations

import itertools
import math
import random
import re

import pytest

from pytest_grpclb.statistics import EvenProof, SkewAlarm, convergence_start, upper_tail


def test_calls_that_all_go_to_one_backend_raise_the_alarm_within_twenty() -> None:
    alarm = SkewAlarm(3, alpha=1e-6)
    raised = [alarm.observe(0) for _ in range(18)]
    # Evidence after n calls to one of three: 2 * 3**n / ((n + 1) * (n + 2)).
    # n = 17 gives 755,206, n = 18 gives 2,039,055.
    assert raised == [False] * 17 + [True]
    assert alarm.raised_at == alarm.calls == 18
    assert alarm.log_evidence == pytest.approx(math.log(2 * 3**18 / (19 * 20)))


def test_evidence_does_not_depend_on_the_order_of_calls() -> None:
    # Two of three calls to the first of two backends: 3!/(2! 1!) orders of 1/4 each.
    values = []
    for order in set(itertools.permutations([0, 0, 1])):
        alarm = SkewAlarm(2, alpha=1e-6)
        for backend in order:
            alarm.observe(backend)
        values.append(alarm.log_evidence)
    assert len(values) == 3
    # Under the uniform prior the counts (2, 1) have probability 1/4 in all, 1/12 in each order.
    assert values == pytest.approx([math.log((1 / 12) / (1 / 8))] * 3)


def test_an_alarm_stays_raised() -> None:
    alarm = SkewAlarm(2, alpha=0.1)
    while not alarm.observe(0):
        pass
    raised_at = alarm.raised_at
    # 2**6 / 7 is 9.1 and 2**7 / 8 is 16: the seventh call passes 10.
    assert raised_at == 7
    for _ in range(20):
        assert alarm.observe(1)
    assert alarm.raised_at == raised_at
    assert alarm.log_evidence < math.log(10)


def test_a_call_to_a_backend_of_weight_zero_raises_the_alarm_at_once() -> None:
    alarm = SkewAlarm(3, alpha=1e-6, weights=[1, 1, 0])
    assert not alarm.observe(0)
    assert alarm.observe(2)


def test_round_robin_never_raises_the_alarm() -> None:
    alarm = SkewAlarm(5, alpha=0.5)
    assert not any(alarm.observe(call % 5) for call in range(2000))


@pytest.mark.parametrize("weights", [None, [5, 3, 2]])
def test_looking_after_every_call_does_not_raise_false_alarms(weights: list[int] | None) -> None:
    chance, alpha, runs = random.Random(1), 0.05, 800
    alarms = 0
    for _ in range(runs):
        alarm = SkewAlarm(3, alpha=alpha, weights=weights)
        picks = chance.choices(range(3), weights=weights, k=250)
        alarms += any(alarm.observe(pick) for pick in picks)
    # Fails by chance once in a million seeds, if the rate is as high as claimed.
    assert upper_tail(alarms, runs, alpha) > 1e-6
    assert alarms > 0  # a test that cannot see any alarm would prove nothing


def test_a_hot_backend_is_found_early() -> None:
    chance = random.Random(2)
    alarm = SkewAlarm(3, alpha=1e-6)
    for pick in chance.choices(range(3), weights=[3, 1, 1], k=584):
        alarm.observe(pick)
    assert alarm.raised_at is not None
    assert alarm.raised_at < 300


# --- the proof that none is hot or cold


def test_each_call_adds_its_ratio_of_likelihoods() -> None:
    # Of three backends a hot one has 1/2 instead of 1/3, a cold one 2/9.
    proof = EvenProof(3, power=0.999, skew=1.5)
    for pick in (0, 1, 2, 0):
        assert not proof.observe(pick)
    # Hot is judged by the backend called twice, cold by one that was called once.
    hot = 2 * math.log((1 / 3) / (1 / 2)) + 2 * math.log((2 / 3) / (1 / 2))
    cold = math.log((1 / 3) / (2 / 9)) + 3 * math.log((2 / 3) / (7 / 9))
    assert hot < cold
    assert proof.log_evidence == pytest.approx(hot)
    for pick in (1, 2):
        proof.observe(pick)
    hot = 2 * math.log((1 / 3) / (1 / 2)) + 4 * math.log((2 / 3) / (1 / 2))
    cold = 2 * math.log((1 / 3) / (2 / 9)) + 4 * math.log((2 / 3) / (7 / 9))
    assert cold < hot
    assert proof.log_evidence == pytest.approx(cold)
    assert proof.calls == 6


@pytest.mark.parametrize(
    ("backends", "skew", "calls"), [(2, 1.5, 118), (3, 1.5, 216), (6, 1.5, 504), (6, 2.0, 192)]
)
def test_round_robin_is_proven_even_with_just_the_evidence_that_the_power_asks_for(
    backends: int, skew: float, calls: int
) -> None:
    proof = EvenProof(backends, power=0.999, skew=skew)
    turns = 0
    while not proof.observe(turns % backends):
        assert proof.log_evidence < math.log(1000)
        turns += 1
    assert proof.log_evidence >= math.log(1000)
    assert proof.proven_at == proof.calls == calls


def test_a_proof_stays() -> None:
    proof = EvenProof(2, power=0.9, skew=1.5)
    turns = itertools.count()
    while not proof.observe(next(turns) % 2):
        pass
    proven_at = proof.proven_at
    assert all(proof.observe(0) for _ in range(50))
    assert proof.proven_at == proven_at
    assert proof.log_evidence < math.log(10)


def test_a_backend_that_would_take_every_call_is_refuted_by_one_to_another() -> None:
    proof = EvenProof(2, power=0.9, skew=2.0)
    proof.observe(0)
    hot_so_far = proof.log_evidence
    assert hot_so_far == pytest.approx(math.log(1 / 2))
    proof.observe(1)
    # What is left to refute is that one has a quarter of the calls.
    assert proof.log_evidence == pytest.approx(math.log((1 / 2) ** 2 / (1 / 4 * 3 / 4)))


def test_a_hot_backend_is_not_forgotten_while_others_are_called() -> None:
    """It gets two calls of nine, 1.6 times its seventh; the others are near enough to theirs."""
    proof, others = EvenProof(7, power=0.5, skew=1.5), itertools.cycle(range(1, 7))
    for call in range(900):
        assert not proof.observe(0 if call % 9 in {0, 4} else next(others))


@pytest.mark.parametrize("backends", [2, 3, 7])
@pytest.mark.parametrize("tilt", ["hot", "cold", "dead"])
def test_looking_after_every_call_does_not_prove_a_skewed_spread_even(
    backends: int, tilt: str
) -> None:
    # The proof has to refute all skews: of a hot one alone it fails far less often than it may.
    power = 0.5 if tilt == "hot" else 0.9
    chance, skew, runs = random.Random(backends), 1.5, 400
    share = {"hot": skew, "cold": 1.0 / skew, "dead": 0.0}[tilt] / backends
    weights = [share, *[(1.0 - share) / (backends - 1)] * (backends - 1)]
    proven = 0
    for _ in range(runs):
        proof = EvenProof(backends, power=power, skew=skew)
        picks = chance.choices(range(backends), weights=weights, k=80 * backends)
        proven += any(proof.observe(pick) for pick in picks)
    assert upper_tail(proven, runs, 1.0 - power) > 1e-6
    # A test that can see no false proof would prove nothing; of a dead backend there is none.
    assert bool(proven) == (tilt != "dead")


@pytest.mark.parametrize("backends", [2, 5, 20])
def test_random_picks_are_proven_even_sooner_or_later(backends: int) -> None:
    chance = random.Random(backends)
    proof = EvenProof(backends, power=0.999, skew=1.5)
    assert any(proof.observe(chance.randrange(backends)) for _ in range(1000 * backends))


@pytest.mark.parametrize(
    ("backends", "power", "skew", "told"),
    [
        (2, 1.0, 1.5, "power: 1.0 is not between 0 and 1"),
        (2, 0.0, 1.5, "power: 0.0 is not between 0 and 1"),
        (1, 0.9, 1.5, "backends: 1; a spread is over at least 2"),
        (2, 0.9, 1.0, "skew: 1.0 is no skew; it must be above 1"),
    ],
)
def test_a_proof_of_what_cannot_be_is_refused(
    backends: int, power: float, skew: float, told: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        EvenProof(backends, power=power, skew=skew)


def test_an_alarm_wants_a_rate_and_backends() -> None:
    with pytest.raises(ValueError, match=r"^alpha: 1 is not between 0 and 1$"):
        SkewAlarm(3, alpha=1)
    with pytest.raises(ValueError, match=r"^alpha: 0\.0 is not between 0 and 1$"):
        SkewAlarm(3, alpha=0.0)
    with pytest.raises(ValueError, match=r"^backends: 1; a spread is over at least 2$"):
        SkewAlarm(1, alpha=0.1)


def test_convergence_starts_with_the_last_row_of_passes() -> None:
    assert convergence_start([True, False, True, True]) == 2
    assert convergence_start([True, True]) == 0
    assert convergence_start([False, True]) == 1
    assert convergence_start([True, False]) is None
    assert convergence_start([]) is None


def test_evidence_that_just_reaches_the_threshold_is_enough() -> None:
    # The first call is predicted with 1/2 where 1/4 is fair: evidence 2, and 1/alpha is 2.
    assert SkewAlarm(2, alpha=0.5, weights=[1, 3]).observe(0)


def test_a_skew_beyond_all_calls_is_taken_for_all_calls() -> None:
    proof = EvenProof(2, power=0.999, skew=3.5)
    proof.observe(0)
    assert proof.log_evidence == pytest.approx(math.log(1 / 2))
    # A call to the other refutes that the first takes all; that it is no cold one takes more.
    assert not proof.observe(1)
    assert any(proof.observe(call % 2) for call in range(100))
