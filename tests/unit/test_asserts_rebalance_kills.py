"""Rebalancing where pods are killed or restarted: which failed calls are excused."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.asserts import assert_rebalanced
from pytest_grpclb.asserts.change import Look
from pytest_grpclb.asserts.failures import (
    describe_failed_calls,
    excused_failures,
    kill_window_of,
)
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Event, EventKind, Failure, Timers

from .made_traffic import Rows, SimulatedTraffic, made_traffic, pods, scale_event
from .test_asserts_rebalance import looked_at_from, scaled_in

if TYPE_CHECKING:
    from pytest_grpclb.model import Traffic


# --- killed and restarted pods


def killed(fail: tuple[float, float]) -> SimulatedTraffic:
    """Pod c is killed at 1.0 s, d takes its place at 1.2 s; calls fail for a while."""
    chance = random.Random(5)

    def pick(_: int, at_s: float) -> str | None:
        if fail[0] <= at_s < fail[1]:
            return None
        return chance.choice("abc" if at_s < 1.0 else "ab" if at_s < 1.3 else "abd")

    live = SimulatedTraffic(
        pick,
        backends=(
            *pods(2),
            replace(pods(3)[2], removed_at_s=1.0),
            replace(pods(4)[3], ready_at_s=1.2),
        ),
        events=(Event(at_s=1.0, kind=EventKind.KILL, backend="c"),),
    )
    live.wait(1.25)
    return live


def test_calls_under_way_to_a_killed_pod_are_excused_and_counted() -> None:
    result = assert_rebalanced(killed((1.0, 1.0075)))
    assert result.excused_failures == 3  # sent at 1.0, 1.0025 and 1.005 s
    assert result.first_call_s.keys() == {"d"}
    assert result.last_call_s == {"c": 0.0}


def test_calls_that_fail_long_after_the_kill_are_not_excused() -> None:
    live = killed((2.3, 2.304))
    with pytest.raises(
        AssertionError, match=r"^headless: 2 of \d+ calls failed\nUNAVAILABLE x 2, "
    ):
        assert_rebalanced(live)
    assert live.time_s == pytest.approx(2.3, abs=0.2)  # no waiting once it is lost


def test_the_window_around_a_kill_can_be_narrowed() -> None:
    told = r"^headless: 1 of \d+ calls failed, beside 2 that are excused\nUNAVAILABLE x 1, "
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(killed((1.0, 1.0075)), kill_window_s=0.003)


def test_calls_that_fail_before_a_kill_or_for_another_reason_are_not_excused() -> None:
    with pytest.raises(AssertionError, match=r"^headless: 2 of \d+ calls failed\n"):
        assert_rebalanced(killed((0.9, 0.905)))
    rows = killed((1.0, 1.0075)).snapshot()
    other = replace(rows, calls=replace(rows.calls, status=[s and 13 for s in rows.calls.status]))
    with pytest.raises(AssertionError, match=r"^headless: 3 of \d+ calls failed\nINTERNAL x 3, "):
        assert_rebalanced(replace(other, ended_at_s=2.0))


RESET = "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"


def killed_with_internal(*details: str, proxied: bool) -> Traffic:
    """Return traffic with three calls that failed with INTERNAL around a kill, and why, in turn."""
    rows = killed((1.0, 1.0075)).snapshot()
    failed = [
        sequence
        for sequence, status in zip(rows.calls.sequence, rows.calls.status, strict=True)
        if status
    ]
    return replace(
        rows,
        calls=replace(rows.calls, status=[status and 13 for status in rows.calls.status]),
        failures=tuple(
            Failure(sequence=sequence, status=13, details=said)
            for sequence, said in zip(failed, details, strict=False)
        ),
        proxied=proxied,
        ended_at_s=2.0,
    )


@pytest.mark.parametrize(
    ("details", "excused"),
    [
        ((RESET, RESET, RESET), 3),
        ((RESET,), 3),  # the driver tells the first ones only
        ((RESET, "no such table", RESET), 2),
        ((RESET, "no such table"), 1),
        ((), 0),
    ],
)
def test_behind_a_proxy_a_killed_pod_resets_streams_and_what_a_service_raises_is_its_own(
    details: tuple[str, ...], excused: int
) -> None:
    traffic = killed_with_internal(*details, proxied=True)
    assert len(excused_failures(traffic, 1.0)) == excused


def test_without_a_proxy_no_internal_is_excused() -> None:
    assert not excused_failures(killed_with_internal(RESET, proxied=False), 1.0)


def test_scaling_in_excuses_no_failed_call() -> None:
    live = scaled_in(lambda at_s: "abcd" if at_s < 1.5 else "ab")
    live.rows.fail(14, at_s=1.1)
    with pytest.raises(AssertionError, match=r"^headless: 1 of \d+ calls failed\n"):
        assert_rebalanced(live)


def test_a_restart_replaces_every_pod() -> None:
    old = tuple(replace(pod, removed_at_s=1.4) for pod in pods(2))
    new = tuple(replace(pod, ready_at_s=1.2) for pod in pods(4)[2:])
    result = assert_rebalanced(
        looked_at_from(
            1.5,
            lambda at_s: "ab" if at_s < 1.6 else "cd",
            backends=(*old, *new),
            events=(Event(at_s=1.0, kind=EventKind.RESTART),),
        )
    )
    assert result.first_call_s.keys() == {"c", "d"}
    assert result.last_call_s == {
        "a": pytest.approx(0.2, abs=0.1),
        "b": pytest.approx(0.2, abs=0.1),
    }


def test_calls_may_fail_after_a_kill_until_others_can_be_known() -> None:
    told_by_dns = Timers(connection_age_s=1.0, min_resolution_interval_s=0.25)
    assert kill_window_of(told_by_dns) == 1.0 + 0.25
    pushed = Timers(connection_age_s=None, min_resolution_interval_s=0.25, push_s=0.75)
    assert kill_window_of(pushed) == 1.0 + 0.75
    assert kill_window_of(replace(pushed, kill_s=2.0)) == 2.0 + 1.0 + 0.75


# --- connections that aged


def crossing(*failures: tuple[int, str]) -> Traffic:
    """Calls that failed, by status and details, among others; nothing was killed."""
    rows = Rows()
    rows.answer("a")
    for status, details in failures:
        rows.fail(status, details, at_s=0.1)
    return made_traffic(rows)


def test_calls_that_crossed_the_goaway_of_an_aged_connection_are_excused_on_request() -> None:
    traffic = crossing(
        (14, "GOAWAY received; Error code: 0; Debug Text: max_age"),
        (14, "Socket closed"),
        (13, "max_age"),
        (14, "Cancelling all calls: max connection age"),
    )
    assert excused_failures(traffic, 1.0, aged=True) == {1, 4}
    assert excused_failures(traffic, 1.0) == frozenset()


def test_a_rebalancing_excuses_calls_of_aged_connections_if_it_is_told_to() -> None:
    scaled = replace(crossing((14, "max_age")), events=(scale_event(0.05, "3 -> 2"),))
    scaled = replace(scaled, backends=(*pods(2), replace(pods(3)[2], removed_at_s=0.06)))
    assert Look(scaled, slack_s=1.0, excuse_aged=True).excused == {1}
    assert Look(scaled, slack_s=1.0).excused == frozenset()
    with pytest.raises(AssertionError, match=r"^headless: 1 of 2 calls failed\n"):
        assert_rebalanced(scaled)
    with pytest.raises(InconclusiveError):
        assert_rebalanced(scaled, excuse_aged=True)


def test_statuses_that_are_answers_need_no_excuse() -> None:
    """Else more would be excused than failed."""
    rows = Rows()
    rows.answer("a")
    rows.fail(14, "max_age", at_s=0.9)
    rows.fail(14, at_s=1.0)
    rows.fail(13, at_s=1.1)
    killed_pod = Event(at_s=1.0, kind=EventKind.KILL, backend="c")
    traffic = made_traffic(rows, events=(killed_pod,))
    assert excused_failures(traffic, 1.0, aged=True) == {1, 2}
    allowing = replace(traffic, calls=replace(traffic.calls, allowed=frozenset({14})))
    excused = excused_failures(allowing, 1.0, aged=True)
    assert excused == frozenset()
    assert describe_failed_calls(allowing, excused=excused).startswith(
        "headless: 1 of 4 calls failed\nINTERNAL x 1, "
    )
    allowing = replace(traffic, calls=replace(traffic.calls, allowed=frozenset({13, 14})))
    assert describe_failed_calls(allowing, excused=excused) == ""
