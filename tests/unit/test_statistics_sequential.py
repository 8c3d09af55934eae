from __future__ import annotations

import itertools
import math
import random

import pytest

from pytest_grpclb.statistics import SkewAlarm, convergence_start, upper_tail


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


def test_an_alarm_wants_a_rate_and_backends() -> None:
    with pytest.raises(ValueError, match=r"^alpha: 1 is not between 0 and 1$"):
        SkewAlarm(3, alpha=1)
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
