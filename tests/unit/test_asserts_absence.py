"""Backends that get no calls, and who must have picked how often to prove that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_grpclb.asserts import assert_no_calls_to
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Mechanism

from .made_traffic import Rows, made_traffic, pods
from .test_asserts_spread import exactly


def test_a_removed_pod_without_later_calls_passes() -> None:
    # One of three pods: (2/3)**34 is 1.03e-6, **35 is 6.9e-7.
    left = (*pods(2), replace(pods(3)[2], removed_at_s=0.0099))
    assert_no_calls_to(made_traffic(["c"] * 10 + ["a", "b"] * 18, backends=left), "pod-c")
    told = (
        "INCONCLUSIVE: 34 calls that went elsewhere do not prove that pod-c gets none: 35 are "
        "needed where it may be one of 3; let the traffic run longer"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_no_calls_to(made_traffic(["c"] * 10 + ["a", "b"] * 17, backends=left), "pod-c")


def test_a_pod_beside_which_none_is_known_is_one_of_two() -> None:
    # The one that answers has gone, too: 2**-20 is 9.5e-7.
    removed = tuple(replace(pod, removed_at_s=0.0) for pod in pods(1))
    rows = ["b"] * 21  # the first one at the moment of the removal, which is not later
    came = replace(pods(2)[1], removed_at_s=-1.0)
    assert_no_calls_to(made_traffic(rows, backends=(*removed, came), started_at_s=0.0), "pod-a")
    with pytest.raises(InconclusiveError, match=r"20 are needed where it may be one of 2; "):
        assert_no_calls_to(made_traffic(rows[1:], backends=(*removed, came)), "pod-a")


def test_a_call_to_a_removed_pod_fails() -> None:
    left = (*pods(2), replace(pods(3)[2], removed_at_s=0.0))
    traffic = made_traffic(["a", "b"] * 20 + ["c"], backends=left)
    told = (
        "headless: 1 of 40 calls reached pod-c later than 0 s after its endpoint was removed, the "
        "last one 0.040 s after"
    )
    with pytest.raises(AssertionError, match=exactly(told)):
        assert_no_calls_to(traffic, "c")


def test_calls_to_a_removed_pod_may_be_allowed_for_a_while() -> None:
    left = (*pods(2), replace(pods(3)[2], removed_at_s=0.0))
    traffic = made_traffic(["a", "c"] * 5 + ["a", "b"] * 20, backends=left)
    assert_no_calls_to(traffic, "c", after_s=0.01)
    with pytest.raises(AssertionError, match=r"later than 0.005 s after"):
        assert_no_calls_to(traffic, "c", after_s=0.005)


def test_the_last_call_to_a_removed_pod_is_told() -> None:
    left = (*pods(2), replace(pods(3)[2], removed_at_s=0.01))
    traffic = made_traffic(["a"] * 20 + ["c"] + ["a"] * 20 + ["c"], backends=left)
    told = "2 of 31 calls reached pod-c later than 0 s after its endpoint was removed, the last "
    with pytest.raises(AssertionError, match=f"{told}one 0.031 s after$"):
        assert_no_calls_to(traffic, "c")


def test_calls_that_failed_while_calls_were_allowed_are_not_held_against_it() -> None:
    left = (*pods(2), replace(pods(3)[2], removed_at_s=0.01))
    rows = Rows()
    for call in range(100):
        rows.answer("ab"[call % 2], at_s=0.001 * call)
    rows.fail(4, at_s=0.02)
    traffic = made_traffic(rows, backends=left)
    assert_no_calls_to(traffic, "pod-c", after_s=0.015)
    with pytest.raises(AssertionError, match=r"^headless: 1 of 101 calls failed\n"):
        assert_no_calls_to(traffic, "pod-c", after_s=0.005)


def test_calls_that_ended_as_the_test_allows_are_not_held_against_it() -> None:
    """Nobody knows who answered it: but it was answered."""
    rows = Rows()
    for call in range(100):
        rows.answer("ab"[call % 2], at_s=0.001 * call)
    rows.fail(5, at_s=0.05)
    traffic = made_traffic(rows)
    traffic = replace(traffic, calls=replace(traffic.calls, allowed=frozenset({5})))
    assert_no_calls_to(traffic, "pod-c", after_s=0.06)


def test_calls_to_a_standing_pod_are_counted_from_the_beginning() -> None:
    with pytest.raises(AssertionError, match=r"later than 0 s after traffic began, "):
        assert_no_calls_to(made_traffic("aabc"), "b")
    assert_no_calls_to(made_traffic("ab" * 20), "c")


@pytest.mark.parametrize(("failed_at_s", "passes"), [(0.0099, True), (0.02, False)])
def test_calls_that_failed_later_may_have_gone_to_it(*, failed_at_s: float, passes: bool) -> None:
    """A pod that hangs and is still picked answers none of them."""
    left = (*pods(2), replace(pods(3)[2], removed_at_s=0.01))
    rows = Rows()
    for call in range(100):
        rows.answer("ab"[call % 2], at_s=0.001 * call)
    rows.fail(4, "Deadline Exceeded", at_s=failed_at_s)
    traffic = made_traffic(rows, backends=left)
    if passes:
        assert_no_calls_to(traffic, "pod-c")
        return
    told = (
        "headless: 1 of 101 calls failed\n"
        "DEADLINE_EXCEEDED x 1, +0.021 s\n"
        "  the first one said: Deadline Exceeded\n"
        "what to do: give calls a longer deadline (--grpclb-timeout) if the service may take it\n"
        "whether they were sent to pod-c is not known"
    )
    with pytest.raises(AssertionError, match=exactly(told)):
        assert_no_calls_to(traffic, "pod-c")


def test_a_client_that_missed_a_scale_down_picks_among_all_that_it_knew() -> None:
    removed = tuple(replace(each, removed_at_s=0.0) for each in pods(10)[2:])
    traffic = made_traffic(["a", "b"] * 60, backends=(*pods(2), *removed))
    told = (
        "INCONCLUSIVE: 119 calls that went elsewhere do not prove that pod-c gets none: 132 are "
        "needed where it may be one of 10; let the traffic run longer"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_no_calls_to(traffic, "pod-c")
    assert_no_calls_to(made_traffic(["a", "b"] * 67, backends=traffic.backends), "pod-c")


def test_each_channel_of_a_client_that_picks_must_have_missed_it() -> None:
    rows = Rows()
    for call in range(200):
        rows.answer("ab"[call % 2], at_s=0.001 * call, channel=int(call % 10 == 9))
    told = (
        "INCONCLUSIVE: 20 calls that went elsewhere do not prove that pod-c gets none: 36 are "
        "needed on each channel where it may be one of 3; let the traffic run longer"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_no_calls_to(made_traffic(rows, channels=2), "c")
    # Before a proxy it is the proxy that picks.
    assert_no_calls_to(made_traffic(rows, channels=2, proxied=True), "c")


def test_through_a_cluster_ip_connections_are_what_proves_it() -> None:
    rows = Rows()
    for call in range(400):
        rows.answer("ab"[call % 2], at_s=0.001 * call, channel=call % 40)
    traffic = made_traffic(rows, channels=40, mechanism=Mechanism.CONNECTION)
    assert_no_calls_to(traffic, "c")
    told = (
        "INCONCLUSIVE: 1 connection that went elsewhere does not prove that pod-c gets none: 35 "
        "are needed where it may be one of 3; use more channels"
    )
    pinned = made_traffic(["a"] * 400, mechanism=Mechanism.CONNECTION)
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_no_calls_to(pinned, "c")
    # Connections that stood before it was removed have not been made without it.
    removed = (*pods(2), replace(pods(3)[2], removed_at_s=0.0))
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 0 connections that went"):
        assert_no_calls_to(replace(traffic, backends=removed), "c")


@pytest.mark.parametrize(("removed_at_s", "made"), [(0.0995, 1), (0.0305, 70), (0.2, 0)])
def test_connections_made_before_it_was_removed_prove_nothing(
    removed_at_s: float, made: int
) -> None:
    """One channel whose connection is replaced at each call, as one that ages."""
    removed = (*pods(2), replace(pods(3)[2], removed_at_s=removed_at_s))
    traffic = made_traffic(
        ["a", "b"] * 50 + ["a"], backends=removed, mechanism=Mechanism.CONNECTION
    )
    if made > 35:
        assert_no_calls_to(traffic, "c")
        return
    with pytest.raises(InconclusiveError, match=rf"^INCONCLUSIVE: {made} connections? that went"):
        assert_no_calls_to(traffic, "c")


def test_connections_of_each_channel_are_told_apart_though_their_calls_mix() -> None:
    """Both change their pod at each call, one after the other."""
    removed = (*pods(2), replace(pods(3)[2], removed_at_s=0.0005))
    rows = Rows()
    for call in range(80):
        rows.answer("abba"[call % 4], at_s=call / 1000, channel=call % 2)
    traffic = made_traffic(rows, backends=removed, mechanism=Mechanism.CONNECTION, channels=2)
    assert_no_calls_to(traffic, "c")
