"""Verdicts where a connection is one pick, whatever its calls."""

from __future__ import annotations

import random
from collections import Counter

from pytest_grpclb.model import Mechanism, Outcome

from .test_statistics_spread import judge


def test_calls_of_one_connection_are_a_skew_of_calls() -> None:
    verdict = judge({"a": 584}, Mechanism.CONNECTION, connections={"a": 1})
    assert verdict.outcome is Outcome.SKEWED
    assert verdict.test == "exact binomial per backend, calls as the unit"


def test_few_connections_prove_no_even_spread_however_many_calls_they_carry() -> None:
    counts = {"a": 2000, "b": 2000, "c": 2000}
    verdict = judge(counts, Mechanism.CONNECTION, connections={"a": 1, "b": 1, "c": 1})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == (
        "3 connections are too few: 584 are needed to find one backend at 1.5 times its share; "
        "these find none"
    )
    assert verdict.needed_calls == 584


def test_as_many_connections_as_backends_may_have_been_even_whatever_they_carry() -> None:
    counts, one_each = {"a": 3000, "b": 10, "c": 10}, {"a": 1, "b": 1, "c": 1}
    verdict = judge(counts, Mechanism.CONNECTION, connections=one_each)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    two = judge(counts, Mechanism.CONNECTION, connections={"a": 1, "b": 1})
    assert two.outcome is Outcome.SKEWED
    replaced = judge(
        counts, Mechanism.CONNECTION, connections={"a": 1, "b": 1}, replaced_connections=1
    )
    assert replaced.outcome is Outcome.INCONCLUSIVE


def test_few_calls_of_one_connection_are_too_few_connections() -> None:
    verdict = judge({"a": 3}, Mechanism.CONNECTION, connections={"a": 1})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith("1 connection is too few: 584 are needed ")


def test_calls_of_few_connections_show_no_skew_of_the_picks() -> None:
    """Of 60 connections picked at random, thousands of calls spread as unevenly as their picks."""
    chance = random.Random(4)
    for _ in range(50):
        connections = Counter(chance.choices("abc", k=60))
        counts = {backend: 100 * number for backend, number in connections.items()}
        verdict = judge(counts, Mechanism.CONNECTION, connections=connections)
        assert verdict.outcome is Outcome.INCONCLUSIVE


def test_enough_connections_are_judged_whatever_they_carry() -> None:
    # Ten calls on each connection: as 6000 independent calls these counts would be a skew.
    connections = {"a": 180, "b": 180, "c": 240}
    counts = {backend: 10 * number for backend, number in connections.items()}
    assert judge(counts).outcome is Outcome.SKEWED
    verdict = judge(counts, Mechanism.CONNECTION, connections=connections)
    assert verdict.outcome is Outcome.EVEN
    assert verdict.test == "exact binomial per backend, connections as the unit"
    assert verdict.reason == "counts of connections from 180 to 240; fair shares allow 143 to 260"
    assert verdict.calls == 6000


def test_skewed_connections_are_named_as_such() -> None:
    verdict = judge({}, Mechanism.CONNECTION, connections={"a": 584})
    assert verdict.reason == (
        "a was given 584 of 584 connections (3.00 times its share); its fair share allows "
        "138 to 254; outside of theirs as well: 2"
    )
