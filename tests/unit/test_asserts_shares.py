"""Shares that are given, calls that failed or went to strangers, and runs that ended early."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.asserts import (
    assert_even_spread,
    assert_no_calls_to,
    assert_no_failed_calls,
    assert_pinned,
    assert_share,
    assert_weighted_spread,
)
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Alarm, Backend, Event, EventKind, Outcome, Timers
from pytest_grpclb.statistics import SkewAlarm

from .made_traffic import TIMERS, Rows, made_traffic, pods
from .test_asserts_spread import exactly, shuffled

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.model import Traffic

# --- assert_weighted_spread and assert_share


def test_weights_are_given_by_name_or_uid() -> None:
    traffic = made_traffic(shuffled(a=700, b=200, c=100), skew=2.0)
    verdict = assert_weighted_spread(traffic, {"pod-a": 7, "b": 2, "c": 1})
    assert verdict.outcome is Outcome.EVEN
    with pytest.raises(AssertionError, match=r"SKEWED: pod-b answered 200 of 1000 calls \(2.00 "):
        assert_weighted_spread(traffic, {"a": 7, "b": 1, "c": 2})


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"a": 1, "b": 1}, "weights: {'a': 1, 'b': 1}; none for pod-c; each pod needs one"),
        (
            {"a": 1, "b": 1, "c": 1, "pod-a": 1},
            "weights: {'a': 1, 'b': 1, 'c': 1, 'pod-a': 1}; two for the same pod; "
            "each pod needs one",
        ),
        ({"z": 1}, "backend: 'z' is no pod of this traffic; its pods: pod-a, pod-b, pod-c"),
        ({"a": 1, "b": -1, "c": 1}, "weights: [1, -1, 1]; each must be a number of at least 0"),
    ],
)
def test_weights_that_do_not_fit_the_pods_are_refused(weights: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=exactly(told)):
        assert_weighted_spread(made_traffic("abc"), weights)


def test_the_share_of_a_canary_group() -> None:
    traffic = made_traffic(shuffled(a=1800, b=110, c=90), skew=2.0)
    verdict = assert_share(traffic, ["pod-b", "c"], 0.1)
    assert verdict.counts == {"a": 1800, "b": 110, "c": 90}
    assert verdict.fair_shares == {"a": 0.9, "b": 0.05, "c": 0.05}
    others = assert_share(made_traffic(shuffled(a=1000, b=510, c=490), skew=1.8), "a", 0.5)
    assert others.fair_shares == {"a": 0.5, "b": 0.25, "c": 0.25}
    told = (
        r"^headless: SKEWED: pod-b, pod-c answered 200 of 2000 calls, a share of 0\.100;\n"
        r"  0\.3 allows 499 to 705 calls\n"
    )
    with pytest.raises(AssertionError, match=told):
        assert_share(traffic, ["pod-b", "c"], 0.3)


def test_the_share_of_one_pod_needs_enough_calls() -> None:
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 100 calls are too few: "):
        assert_share(made_traffic(shuffled(a=90, b=10)), "b", 0.1)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^fraction: 1 is not between 0 and 1$"):
        assert_share(made_traffic("abc"), "a", 1)
    with pytest.raises(ValueError, match=r"^fraction: 0.0 is not between 0 and 1$"):
        assert_share(made_traffic("abc"), "a", 0.0)
    with pytest.raises(ValueError, match=r"^backend: 'z' is no pod of this traffic; its pods: "):
        assert_share(made_traffic("abc"), "z", 0.5)


# --- assert_no_failed_calls


def test_traffic_without_failed_calls_passes() -> None:
    assert_no_failed_calls(made_traffic("abc"))


def test_failed_calls_are_listed_by_status_with_what_happened_before() -> None:
    rows = Rows()
    rows.answer("a", at_s=0.0)
    rows.fail(4, at_s=0.1)
    for call in range(3):
        rows.fail(14, f"Socket closed {call}", at_s=0.5 + call / 100)
    traffic = made_traffic(
        rows,
        events=(
            Event(at_s=0.45, kind=EventKind.KILL, backend="b"),
            Event(at_s=0.6, kind=EventKind.SCALE),
        ),
    )
    told = (
        "headless: 4 of 5 calls failed\n"
        "UNAVAILABLE x 3, +0.501 s to +0.521 s, 0.051 s after kill pod-b\n"
        "  the first one said: Socket closed 0\n"
        "DEADLINE_EXCEEDED x 1, +0.101 s\n"
        "what to do: give calls a longer deadline (--grpclb-timeout) if the service may take it"
    )
    with pytest.raises(AssertionError, match=exactly(told)):
        assert_no_failed_calls(traffic)


STRANGE = made_traffic(["a"] * 60 + ["zz"])


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (assert_pinned, "1 call was answered by 'zz', none of"),
        (lambda traffic: assert_no_calls_to(traffic, "c"), "1 call was answered by 'zz', none of"),
        (lambda traffic: assert_share(traffic, "a", 0.99), "SKEWED: 1 call was answered by 'zz',"),
    ],
)
def test_a_stranger_that_answers_is_named(check: Callable[[Traffic], None], told: str) -> None:
    with pytest.raises(AssertionError) as raised:
        check(STRANGE)
    assert str(raised.value).startswith(f"headless: {told}")


def test_calls_pinned_to_a_stranger_are_not_pinned_to_a_backend() -> None:
    told = "headless: 300 calls were answered by 'zz', none of the 3 backends"
    with pytest.raises(AssertionError, match=exactly(told)):
        assert_pinned(made_traffic(["zz"] * 300))


def test_a_share_is_of_somebody() -> None:
    with pytest.raises(ValueError, match=r"^backend: none was given; name at least one pod$"):
        assert_share(made_traffic("abc"), [], 0.5)


def test_a_pod_may_be_given_as_the_backend_that_it_is() -> None:
    first, *_, last = pods(3)
    assert_no_calls_to(made_traffic("ab" * 20), last)
    assert assert_share(made_traffic(shuffled(a=300, b=300)), [first], 0.5).outcome is Outcome.EVEN
    assert assert_share(made_traffic(shuffled(a=300, b=300)), first, 0.5).outcome is Outcome.EVEN


STOPPING = (
    "likely cause: the server refuses or cancels calls that arrive while it stops; let it serve on "
    "for 2 s after SIGTERM, until clients have heard of it (preStop, or a pause before its "
    "graceful stop)"
)


@pytest.mark.parametrize(
    ("status", "at_s", "killed", "advised"),
    [
        (1, 0.5, False, True),
        (14, 0.95, False, True),
        (14, 2.2, False, False),
        (4, 0.5, False, False),
        (14, 0.5, True, False),
    ],
)
def test_calls_that_fail_as_a_pod_stops_are_told_with_what_lets_them_pass(
    *, status: int, at_s: float, killed: bool, advised: bool
) -> None:
    rows = Rows()
    rows.answer("a")
    rows.fail(status, "CANCELLED", at_s=at_s)
    events = [Event(at_s=0.4, kind=EventKind.ENDPOINT_REMOVED, backend="b")]
    events += [Event(at_s=0.4, kind=EventKind.KILL, backend="b")] if killed else []
    with pytest.raises(AssertionError) as raised:
        assert_no_failed_calls(made_traffic(rows, events=tuple(events), timers=TIMERS))
    assert str(raised.value).endswith(STOPPING) == advised


@pytest.mark.parametrize(
    ("timers", "serves_on"),
    [
        (Timers(connection_age_s=1.0, min_resolution_interval_s=0.25, dns_ttl_s=30.0), "32 s"),
        (Timers(connection_age_s=None, push_s=4.4), "6 s"),
        (None, "a second or two"),
    ],
)
def test_a_pod_has_to_serve_on_until_clients_can_know(
    timers: Timers | None, serves_on: str
) -> None:
    rows = Rows()
    rows.fail(14, "connection refused", at_s=0.5)
    events = (Event(at_s=0.4, kind=EventKind.ENDPOINT_REMOVED, backend="b"),)
    with pytest.raises(AssertionError, match=rf"; let it serve on for {serves_on} after SIGTERM, "):
        assert_no_failed_calls(made_traffic(rows, events=events, timers=timers))


# --- traffic that is still being sent


class Running:
    """What ``with grpclb.traffic() as traffic:`` gives, at some moment."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def snapshot(self) -> Traffic:
        return self._traffic

    def wait(self, _timeout_s: float) -> None:
        raise AssertionError

    def now_s(self) -> float:
        raise AssertionError


EVEN = made_traffic(["a", "b", "c"] * 300)


@pytest.mark.parametrize(
    "check",
    [
        assert_even_spread,
        assert_no_failed_calls,
        lambda traffic: assert_share(traffic, "a", 1 / 3),
        lambda traffic: assert_weighted_spread(traffic, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_traffic_is_judged_when_it_has_ended(check: Callable[[Running], None]) -> None:
    check(Running(EVEN))
    told = (
        "traffic: it is still being sent; write this assertion after the `with` block, or end the "
        "traffic by `traffic.stop()`"
    )
    with pytest.raises(ValueError, match=exactly(told)):
        check(Running(replace(EVEN, ended_at_s=None)))


# --- runs that ended early

PINNED = made_traffic("a" * 27, alarm=Alarm(alpha=5e-7, raised_after=19), alpha=5e-7)


def test_a_run_that_ended_early_is_skewed_and_says_after_how_many_calls() -> None:
    with pytest.raises(AssertionError) as raised:
        assert_even_spread(PINNED)
    assert str(raised.value).splitlines()[:2] == [
        "headless: SKEWED: pod-a answered 27 of 27 calls (3.00 times its share);",
        "  that they are not even was certain after 19",
    ]


def test_a_pinned_run_that_ended_early_is_pinned() -> None:
    assert_pinned(PINNED)


@pytest.mark.parametrize("backends", [2, 3, 10, 50])
def test_whatever_ends_a_pinned_run_early_is_enough_to_call_it_pinned(backends: int) -> None:
    alarm = SkewAlarm(backends, alpha=5e-7)
    while not alarm.observe(0):
        pass
    assert alarm.raised_at is not None
    assert alarm.raised_at <= 28
    standing = tuple(Backend(uid=str(index), name=f"pod-{index}") for index in range(backends))
    rows = ["0"] * alarm.raised_at
    assert_pinned(made_traffic(rows, backends=standing, alpha=5e-7))


def test_other_shares_are_not_read_off_a_run_that_ended_early() -> None:
    told = (
        "INCONCLUSIVE: the run ended early, for after 19 calls it was certain that the spread is "
        "not even; whether it is the one wanted takes a run of a given length; send at least "
    )
    with pytest.raises(InconclusiveError, match=f"^{re.escape(told)}"):
        assert_weighted_spread(PINNED, {"pod-a": 98, "pod-b": 1, "pod-c": 1})
    with pytest.raises(InconclusiveError, match=f"^{re.escape(told)}"):
        assert_share(PINNED, "pod-a", 0.5)


def test_a_run_that_might_have_ended_early_and_did_not_has_its_shares() -> None:
    alarm = Alarm(alpha=1e-6)
    rows = shuffled(a=4000, b=2000, c=2000)
    weights = {"pod-a": 2.0, "pod-b": 1.0, "pod-c": 1.0}
    verdict = assert_weighted_spread(made_traffic(rows, alarm=alarm), weights)
    assert verdict.outcome is Outcome.EVEN
    assert assert_share(made_traffic(rows, alarm=alarm), "pod-a", 0.5).outcome is Outcome.EVEN


def test_traffic_without_a_call_is_inconclusive() -> None:
    told = "0 calls are too few: 584 are needed to find one backend at 1.5 times its share; "
    with pytest.raises(InconclusiveError, match=re.escape(told)):
        assert_even_spread(made_traffic(""))
