"""Changes of the pods where a connection is one pick: through a ClusterIP."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.asserts import assert_rebalanced
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Mechanism, Timers

from .made_traffic import SimulatedTraffic, pods, scale_event
from .test_asserts_rebalance import exactly

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.model import Traffic

NEW = replace(pods(4)[3], ready_at_s=1.0)
AGED = Timers(connection_age_s=1.0)


def aged_connections(seed: int) -> Callable[[int, float], str]:
    """Each channel's connection ends after a second; the next one is to a pod at random."""
    chance, picked = random.Random(seed), dict[tuple[int, int], str]()

    def pick(channel: int, at_s: float) -> str:
        known = "abc" if at_s < 1.0 else "abcd"
        return picked.setdefault((channel, int(at_s)), chance.choice(known))

    return pick


def finished(
    pick: Callable[[int, float], str], *, channels: int, until_s: float, rate: float = 100.0
) -> Traffic:
    live = SimulatedTraffic(
        pick,
        rate=rate,
        channels=channels,
        backends=(*pods(3), NEW),
        events=(scale_event(0.5, "3 -> 4"),),
        mechanism=Mechanism.CONNECTION,
        strategy="clusterip",
        timers=AGED,
    )
    live.wait(until_s)
    return replace(live.snapshot(), ended_at_s=until_s)


@pytest.mark.parametrize("channels", [1, 3])
def test_few_connections_that_missed_a_new_pod_by_chance_are_no_skew(channels: int) -> None:
    called = set()
    for seed in range(20):
        traffic = finished(aged_connections(seed), channels=channels, until_s=9.0)
        with pytest.raises(InconclusiveError) as raised:  # SKEWED is another error
            assert_rebalanced(traffic)
        called.add("0 of 1 channels had called it" not in raised.value.reason)
    assert called == ({True, False} if channels == 1 else {True})


def test_connections_that_never_end_though_they_age_are_found_in_the_end() -> None:
    # Of four pods one is missed by 51 picks with 5e-7, each within 1.1 s of age and 1 s to connect.
    deadline_s, picks_s = 1.1 + 1.0 + 1.0, 51 * (1.1 + 1.0)
    pinned = partial_of(channels=1, rate=10.0)
    told = r"^clusterip: SKEWED: 1 of 4 pods got no call within 3\.1 s of becoming ready;\n"
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(pinned(1.0 + deadline_s + picks_s + 1.0))
    with pytest.raises(InconclusiveError, match=r"0 of 1 channels had called it"):
        assert_rebalanced(pinned(1.0 + deadline_s + picks_s - 3.0))


def partial_of(*, channels: int, rate: float) -> Callable[[float], Traffic]:
    return lambda until_s: finished(
        lambda channel, _: "abc"[channel % 3], channels=channels, until_s=until_s, rate=rate
    )


def test_too_few_connections_take_more_channels() -> None:
    traffic = finished(aged_connections(1), channels=8, until_s=9.0)
    told = (
        "INCONCLUSIVE: 8 connections are too few: 1047 are needed to find one backend at 1.5 times "
        "its share; these find none; each channel makes one: use at least 1047, e.g. "
        "grpclb.traffic(rate=1047, channels=1047)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)) as raised:
        assert_rebalanced(traffic)
    assert (raised.value.seen, raised.value.needed) == (8, 1047)
