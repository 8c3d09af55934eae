"""Calls that all go to one backend, and how many of them prove it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.asserts import assert_no_calls_to, assert_pinned
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Event, EventKind, Mechanism

from .made_traffic import TIMERS, Rows, made_traffic, pods
from .test_asserts_spread import exactly

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.model import Traffic


def test_one_backend_for_all_calls_is_pinned() -> None:
    assert_pinned(made_traffic(["a"] * 14, mechanism=Mechanism.CONNECTION))


def test_pinning_is_proved_only_by_enough_calls() -> None:
    # Twelve steps to the same of three backends: (1/3)**12 is 1.9e-6, **13 is 6.3e-7.
    told = (
        "INCONCLUSIVE: 13 calls over 1 channel with 0 changes of the backend might come from an "
        "even spread over 3; send at least 14, e.g. grpclb.drive(calls=14)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_pinned(made_traffic(["a"] * 13))


def test_calls_of_several_channels_prove_it_by_their_steps() -> None:
    # 13 steps of three backends, as above, and a first call of each of two channels.
    rows = Rows()
    for call in range(14):
        rows.answer("a", channel=call % 2)
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 14 calls over 2 channels ") as few:
        assert_pinned(made_traffic(rows, channels=2))
    assert (few.value.seen, few.value.needed) == (14, 15)
    # With a change among them it takes more: so many as the message says, and no fewer.
    changed = made_traffic("aaaab")
    with pytest.raises(InconclusiveError) as fewer:
        assert_pinned(changed)
    needed = fewer.value.needed
    assert_pinned(made_traffic("a" * (needed - 1) + "b"))
    with pytest.raises(InconclusiveError):
        assert_pinned(made_traffic("a" * (needed - 2) + "b"))


def test_no_calls_prove_no_pinning() -> None:
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 0 calls over 0 channels with 0 "):
        assert_pinned(made_traffic([]))


@pytest.mark.parametrize("check", [assert_pinned, partial(assert_no_calls_to, backend="pod-b")])
def test_calls_that_do_not_say_who_answered_may_have_gone_anywhere(
    check: Callable[[Traffic], None],
) -> None:
    rows = Rows()
    for call in range(60):
        rows.answer("a", at_s=call / 1000)
    check(made_traffic(rows))
    rows.unnamed()
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 1 answered call did not say "):
        check(made_traffic(rows))


def test_each_channel_may_be_pinned_to_a_backend_of_its_own() -> None:
    rows = Rows()
    for call in range(30):
        rows.answer("abc"[call % 3], at_s=call / 1000, channel=call % 3)
    assert_pinned(made_traffic(rows, channels=3))


def test_a_channel_that_changes_its_backend_oftener_than_connections_end_is_not_pinned() -> None:
    forever = replace(TIMERS, connection_age_s=None)
    told = (
        "clusterip: not pinned: the 21 calls of channel 0 changed their backend 1 time; replaced "
        "connections explain 0\n"
        "+0.000 s  calls are counted from here\n"
        "+0.001 s  first answer of pod-a\n"
        "+0.021 s  first answer of pod-b\n"
        "+0.021 s  traffic ends"
    )
    with pytest.raises(AssertionError, match=exactly(told)):
        assert_pinned(made_traffic(["a"] * 20 + ["b"], timers=forever, strategy="clusterip"))


def test_a_connection_that_has_aged_may_be_replaced_by_one_to_another_backend() -> None:
    rows = Rows()
    for call in range(100):
        rows.answer("a" if call < 50 else "b", at_s=call / 1000)
    assert_pinned(made_traffic(rows))  # age 1 s, and it may have been open for 0.9 s before
    back = Rows()
    for call in range(100):
        back.answer("aba"[call // 34], at_s=call / 1000)
    with pytest.raises(AssertionError, match=r"changed their backend 2 times; .* explain 1\n"):
        assert_pinned(made_traffic(back))


@pytest.mark.parametrize(("age_s", "explained"), [(1.0, 6), (0.5, 12), (5.0, 2), (6.0, 1)])
def test_every_age_that_passes_explains_a_change(age_s: float, explained: int) -> None:
    # 5 s hold five ages of 0.9 s; and the first connection had aged before.
    timers = replace(TIMERS, connection_age_s=age_s)

    def changing(times: int) -> Traffic:
        rows = Rows()
        for call in range(200):
            rows.answer("ab"[min(call, times) % 2], at_s=4.999 * call / 199 + 2.0)
        return made_traffic(rows, timers=timers, started_at_s=2.0)

    assert_pinned(changing(explained))
    told = rf"changed their backend {explained + 1} times; .* explain {explained}\n"
    with pytest.raises(AssertionError, match=told):
        assert_pinned(changing(explained + 1))


def test_a_removed_pod_explains_a_change_of_the_backend() -> None:
    gone = Event(at_s=0.02, kind=EventKind.ENDPOINT_REMOVED, backend="a")
    forever = replace(TIMERS, connection_age_s=None)
    assert_pinned(made_traffic(["a"] * 20 + ["b"] * 20, timers=forever, events=(gone,)))


def test_an_even_spread_is_not_pinned() -> None:
    with pytest.raises(AssertionError, match=r"^headless: not pinned: the 30 calls of channel 0 "):
        assert_pinned(made_traffic("abc" * 10))


def test_a_failed_call_fails_pinning() -> None:
    rows = Rows()
    rows.fail(4)
    with pytest.raises(AssertionError, match=r"^headless: 1 of 1 calls failed\nDEADLINE_EXCEEDED "):
        assert_pinned(made_traffic(rows))


def test_pinning_among_one_pod_is_no_question() -> None:
    told = (
        "traffic: it had 1 backend; whether calls are pinned to one shows only among at least 2, "
        "so raise --grpclb-replicas"
    )
    with pytest.raises(ValueError, match=exactly(told)):
        assert_pinned(made_traffic(["a"] * 50, backends=pods(1)))
