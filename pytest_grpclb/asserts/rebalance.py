"""The assertion that traffic follows the pods when their set changes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_grpclb.asserts.change import Look
from pytest_grpclb.asserts.live import require_traffic
from pytest_grpclb.model import Rebalance, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.asserts.live import LiveTraffic

__all__ = ["assert_rebalanced"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

SLACK_S = 1.0
"""What a busy CI machine may add to the timers: scheduling, and the report of what happened."""

SILENCE_S = 15.0
"""More than the timeout of a call: who reports none for so long will report none any more."""

SHORTEST_PAUSE_S = 0.05
PAUSES_PER_LOOK = 4
"""A look takes time in proportion to the calls so far; at most a fifth of a core goes into it."""


def assert_rebalanced(
    source: Traffic | LiveTraffic,
    *,
    slack_s: float = SLACK_S,
    kill_window_s: float | None = None,
    excuse_aged: bool = False,
) -> Rebalance:
    """Check that traffic moved to the pods that the last scaling, killing or restart left.

    Live traffic is waited for until it has shown enough, at longest until the deadline has passed
    and the calls that the verdict then needs were sent.

    :param source: live traffic, or that of a finished run
    :param slack_s: seconds added to the deadline that follows from the strategy's timers
    :param kill_window_s: seconds after a pod was killed in which calls may fail with UNAVAILABLE;
        by default what the strategy's timers give
    :param excuse_aged: calls may fail whose connection the server ended for its age: gRPC may reset
        it before it has read a call that crossed its GOAWAY, the oftener the shorter the age
    :return: how long each pod's change took to show
    :raises AssertionError: if a new pod was not called in time, a removed one still was, the spread
        over the pods is SKEWED, or a call failed
    :raises InconclusiveError: if the traffic ended too early to tell
    :raises ValueError: if nothing changed while traffic ran, or no pod is left
    """
    __tracebackhide__ = True
    look_at = partial(Look, slack_s=slack_s, kill_window_s=kill_window_s, excuse_aged=excuse_aged)
    require_traffic(source)
    if isinstance(source, Traffic):
        return look_at(source).conclude()
    return _watch(source, look_at).conclude()


def _watch(source: LiveTraffic, look_at: Callable[[Traffic], Look]) -> Look:
    """Look at live traffic until it has shown enough, has ended, or has fallen silent."""
    reported, reported_at_s = -1, source.now_s()
    while True:
        source.wait(0.0)  # where calls are lost from sight, that is no time of a look
        began_s = source.now_s()
        traffic = source.snapshot()
        look = look_at(traffic)
        if look.complete or traffic.ended_at_s is not None:
            return look
        looked_s = source.now_s()
        if len(traffic.calls) > reported:
            reported, reported_at_s = len(traffic.calls), looked_s
        elif looked_s - reported_at_s > SILENCE_S:
            return look_at(replace(traffic, ended_at_s=looked_s))
        resume_s = looked_s + max(SHORTEST_PAUSE_S, PAUSES_PER_LOOK * (looked_s - began_s))
        while (left_s := resume_s - source.now_s()) > 0.0:
            source.wait(left_s)
