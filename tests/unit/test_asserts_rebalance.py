from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.asserts import assert_rebalanced, rebalance_deadline_s
from pytest_grpclb.asserts.change import Look
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Backend, Mechanism, Outcome, Timers, Verdict
from pytest_grpclb.statistics import calls_proving_absence

from .made_traffic import (
    TIMERS,
    Rows,
    SimulatedTraffic,
    made_traffic,
    pods,
    random_pick,
    scale_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# The deadline by these timers: 1.1 x 1 s of connection age + 1 s to connect + 1 s of slack.
DEADLINE_S = 3.1
NEW = tuple(replace(pod, ready_at_s=1.0 + index / 10) for index, pod in enumerate(pods(6)[3:]))
SCALED = scale_event(0.5, "3 -> 6")


def exactly(told: str) -> str:
    return f"^{re.escape(told)}$"


def scaled_out(known: Callable[[float], str], *, seed: int = 1, **more: Any) -> SimulatedTraffic:
    """Three pods become six at 1.0 s; looked at from 1.3 s on, when the last one is ready."""
    settings: dict[str, Any] = {"backends": (*pods(3), *NEW), "events": (SCALED,)}
    live = SimulatedTraffic(random_pick(seed, known), **(settings | more))
    live.wait(1.3)
    return live


def looked_at_from(at_s: float, known: Callable[[float], str], **more: Any) -> SimulatedTraffic:
    live = SimulatedTraffic(random_pick(3, known), **more)
    live.wait(at_s)
    return live


# --- the deadline


def test_the_deadline_adds_up_the_timers() -> None:
    timers = Timers(
        connection_age_s=10.0, min_resolution_interval_s=5.0, dns_ttl_s=30.0, connect_s=2.0
    )
    assert rebalance_deadline_s(timers, slack_s=0.5) == pytest.approx(11.0 + 30.0 + 2.0 + 0.5)
    rare = replace(timers, min_resolution_interval_s=60.0)
    assert rebalance_deadline_s(rare, slack_s=0.5) == pytest.approx(60.0 + 30.0 + 2.0 + 0.5)
    endless = replace(timers, connection_age_s=None)
    assert rebalance_deadline_s(endless, slack_s=0.5) == pytest.approx(5.0 + 30.0 + 2.0 + 0.5)
    assert rebalance_deadline_s(TIMERS, slack_s=1.0) == pytest.approx(DEADLINE_S)
    pushed = replace(timers, push_s=0.25)  # a balancer tells: clients need not ask
    assert rebalance_deadline_s(pushed, slack_s=0.5) == pytest.approx(0.25 + 2.0 + 0.5)


# --- the error rate


@pytest.mark.parametrize("channels", [1, 4])
def test_what_proves_absence_shares_the_error_rate_of_all_that_is_proved(channels: int) -> None:
    traffic = made_traffic(
        "abc", backends=(*pods(3), *NEW), events=(SCALED,), channels=channels, alpha=1e-3
    )
    look = Look(traffic, slack_s=1.0, kill_window_s=1.0)
    # The first change has half of alpha; each channel has three new pods to know.
    assert look.alpha == 1e-3 / 2
    assert look.telling_misses == calls_proving_absence(6, alpha=1e-3 / 2 / (3 * channels))


# --- pods that came


def test_new_pods_that_are_called_in_time_are_rebalanced_to() -> None:
    seen: list[Verdict] = []
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdef", observer=seen.append)
    result = assert_rebalanced(live)
    assert result.verdict.outcome is Outcome.EVEN
    assert seen == [result.verdict]
    assert result.changed_at_s == 0.5
    assert result.deadline_s == pytest.approx(DEADLINE_S)
    # The client knew them at 1.8 s; they had become ready at 1.0, 1.1 and 1.2 s.
    assert result.first_call_s == {
        "d": pytest.approx(0.8, abs=0.2),
        "e": pytest.approx(0.7, abs=0.2),
        "f": pytest.approx(0.6, abs=0.2),
    }
    assert result.last_call_s == {}
    assert result.converged_s == pytest.approx(1.3, abs=0.3)
    assert result.excused_failures == 0
    # Half of alpha for the first change, half of what the power leaves for each of two looks.
    assert result.verdict.alpha == 5e-7
    assert result.verdict.power == pytest.approx(0.9995)
    assert result.verdict.calls == result.verdict.needed_calls


def test_waiting_ends_when_the_calls_suffice() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdef", rate=2000.0)
    needed = assert_rebalanced(live).verdict.needed_calls
    assert live.time_s == pytest.approx(1.8 + needed / 2000, abs=0.2)


def test_new_pods_that_are_never_called_fail_soon_after_the_deadline() -> None:
    seen: list[Verdict] = []
    live = scaled_out(lambda _: "abc", observer=seen.append)
    told = (
        r"^headless: SKEWED: 3 of 6 pods got no call within 3\.1 s of becoming ready;\n"
        r"  deadline: 1\.1 x max connection age 1 s \+ DNS TTL 0 s \+ connect 1 s \+ slack 1 s\n"
    )
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(live)
    assert [verdict.outcome for verdict in seen] == [Outcome.SKEWED]
    assert seen[0].test == "every new pod called, and no removed one, by the deadline"
    # One of six is missed by so many calls with a probability of 5e-7/3: ln(1.7e-7) / ln(5/6).
    assert live.time_s == pytest.approx(1.0 + DEADLINE_S + 86 / 400, abs=0.2)


def test_without_a_connection_age_the_failure_names_it() -> None:
    live = scaled_out(lambda _: "abc", timers=replace(TIMERS, connection_age_s=None))
    told = (
        "headless: SKEWED: 3 of 6 pods got no call within 2.2 s of becoming ready;\n"
        "  deadline: DNS asked every 0.25 s (no max connection age) + DNS TTL 0 s + connect 1 s + "
        "slack 1 s\n"
        "likely cause: without a max connection age no connection ends, so the client never asks "
        "DNS for the 3 new pods\n"
        "what to do: set one on the servers (max_connection_age_s; "
        "grpclb_connection_age_env says how yours is told)\n"
    )
    with pytest.raises(AssertionError, match=f"^{re.escape(told)}"):
        assert_rebalanced(live)
    # Nothing but the client's own interval is waited for: 0.25 + 1 + 1 s after readiness.
    assert live.time_s == pytest.approx(1.0 + 2.25 + 86 / 400, abs=0.2)


def test_pods_called_after_the_deadline_are_late() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 5.0 else "abcdef", rate=50.0)
    live.wait(6.0)
    told = (
        r"^headless: SKEWED: the client called pod-d 4\.\d s after it became ready;\n"
        r"  3\.1 s are allowed;\n  deadline: "
    )
    # At 50 calls a second so few are sent between deadline and first call that it may be chance.
    assert_rebalanced(live)
    busy = scaled_out(lambda at_s: "abc" if at_s < 5.0 else "abcdef", rate=400.0)
    busy.wait(6.0)
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(busy)


def test_every_channel_has_to_call_every_new_pod() -> None:
    chance = random.Random(2)

    def pick(channel: int, at_s: float) -> str:
        knows = channel == 0 and at_s > 1.5
        return chance.choice("abcdef" if knows else "abc")

    live = SimulatedTraffic(pick, channels=2, backends=(*pods(3), *NEW), events=(SCALED,))
    live.wait(1.3)
    told = r"^headless: SKEWED: channel 1 called pod-d never;\n  3\.1 s are allowed;\n"
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(live)


def test_a_pod_that_stays_hot_is_found_after_the_deadline() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdeeef", rate=1000.0)
    told = r"^headless: SKEWED: pod-e answered \d+ of 1837 calls \(2\.\d\d times its share\);\n"
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(live)
    # Judged from 1.8 s on and, for the deadline had not passed, once more from 1.2 + 3.1 s on.
    assert live.time_s == pytest.approx(1.2 + DEADLINE_S + 1837 / 1000, abs=0.2)


def test_a_skew_that_ends_before_the_deadline_is_no_failure() -> None:
    def known(at_s: float) -> str:
        return "abc" if at_s < 1.8 else "abcdeeef" if at_s < 3.5 else "abcdef"

    result = assert_rebalanced(scaled_out(known, rate=1000.0))
    assert result.verdict.outcome is Outcome.EVEN
    # The change was at 0.5 s; windows are even from the end of the skew on.
    assert result.converged_s == pytest.approx(3.0, abs=0.3)


def test_calls_that_a_slow_pod_has_not_answered_yet_are_no_skew() -> None:
    # A sixth of a second's calls is under way to pod-f at any moment, while the others' are known.
    live = scaled_out(
        lambda at_s: "abc" if at_s < 1.8 else "abcdef",
        rate=1000.0,
        latency_s=lambda backend: 1.0 if backend == "f" else 0.001,
    )
    result = assert_rebalanced(live)
    assert result.first_call_s["f"] == pytest.approx(0.6 + 1.0, abs=0.2)
    settled_at_s = 1.2 + result.first_call_s["f"]
    rows = [row for row in live.rows.rows if row[2] > settled_at_s][: result.verdict.calls]
    sent = Counter(live.rows.identities[row[4]] for row in rows)
    assert result.verdict.counts == sent


def test_a_second_change_is_judged_by_itself_with_less_alpha() -> None:
    gone = tuple(replace(pod, removed_at_s=5.0) for pod in (*NEW, pods(3)[2]))
    live = looked_at_from(
        5.5,  # both have happened
        lambda at_s: "abc" if at_s < 1.8 else "abcdef" if at_s < 5.2 else "ab",
        backends=(*pods(2), *gone),
        events=(SCALED, scale_event(4.8, "6 -> 2")),
    )
    result = assert_rebalanced(live)
    assert result.verdict.alpha == pytest.approx(1e-6 / 6)
    assert result.changed_at_s == 4.8
    assert set(result.last_call_s) == {"c", "d", "e", "f"}


# --- pods that went


def scaled_in(known: Callable[[float], str], **more: Any) -> SimulatedTraffic:
    gone = tuple(replace(pod, removed_at_s=1.0) for pod in pods(4)[2:])
    settings: dict[str, Any] = {
        "backends": (*pods(2), *gone),
        "events": (scale_event(0.9, "4 -> 2"),),
    }
    return looked_at_from(1.1, known, **(settings | more))


def test_removed_pods_that_are_left_in_time_are_rebalanced_from() -> None:
    result = assert_rebalanced(scaled_in(lambda at_s: "abcd" if at_s < 1.5 else "ab"))
    assert result.first_call_s == {}
    assert result.last_call_s == {
        "c": pytest.approx(0.5, abs=0.1),
        "d": pytest.approx(0.5, abs=0.1),
    }
    assert result.verdict.counts.keys() == {"a", "b"}


def test_a_pod_that_got_no_call_after_its_removal_was_left_at_once() -> None:
    result = assert_rebalanced(scaled_in(lambda at_s: "abcd" if at_s < 0.9 else "ab"))
    assert result.last_call_s == {"c": 0.0, "d": 0.0}


def test_a_removed_pod_that_is_still_called_after_the_deadline_is_stale() -> None:
    live = scaled_in(lambda at_s: "abcd" if at_s < 1.5 else "abc")
    told = (
        r"^headless: SKEWED: pod-c was called 3\.[12] s after its endpoint was removed;\n"
        r"  3\.1 s are allowed;\n  deadline: .*\n"
        r"likely cause: connections to pod-c outlive its endpoint\n"
        r"what to do: let the server close them when it gets SIGTERM \(a graceful stop sends "
        r"GOAWAY\), or set a max connection age\n"
    )
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(live)
    assert live.time_s == pytest.approx(1.0 + DEADLINE_S, abs=0.2)


def test_one_pod_that_is_left_gets_every_call() -> None:
    gone = tuple(replace(pod, removed_at_s=1.0) for pod in pods(3)[1:])
    settings: dict[str, Any] = {
        "backends": (*pods(1), *gone),
        "events": (scale_event(0.9, "3 -> 1"),),
    }
    result = assert_rebalanced(
        looked_at_from(1.1, lambda at_s: "abc" if at_s < 1.5 else "a", **settings)
    )
    assert result.verdict.outcome is Outcome.EVEN
    assert result.verdict.backends == 1
    assert result.converged_s == pytest.approx(0.6, abs=0.2)


# --- connections


def test_a_pinned_connection_reaches_no_new_pod() -> None:
    live = scaled_out(
        lambda _: "a",
        backends=(*pods(1), *NEW),
        mechanism=Mechanism.CONNECTION,
        strategy="clusterip",
        timers=replace(TIMERS, connection_age_s=None),
    )
    told = (
        r"^clusterip: SKEWED: 3 of 4 pods got no call within 2\.2 s of becoming ready;\n"
        r"  deadline: .*\n"
        r"likely cause: 1 connection carried 100 % of \d+ calls: a ClusterIP balances connections, "
        r"not calls\n"
    )
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(live)


# --- error rates


@pytest.mark.parametrize("seed", range(8))
def test_rebalanced_traffic_passes_whatever_the_seed(seed: int) -> None:
    live = scaled_out(
        lambda at_s: "abc" if at_s < 1.8 else "abcdef", seed=seed, rate=1000.0, alpha=1e-3
    )
    assert_rebalanced(live)


@pytest.mark.parametrize("seed", range(4))
def test_lasting_skew_of_the_stated_size_fails_whatever_the_seed(seed: int) -> None:
    # Pod e gets 3 of 12: 1.5 times its sixth.
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "aabbccddeeef", seed=seed, rate=1000.0)
    with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-"):
        assert_rebalanced(live)


# --- what cannot be judged


def test_traffic_without_a_change_is_no_question() -> None:
    told = (
        "traffic: no pod came or went while it ran; scale, kill or restart the backends within "
        "`with grpclb.traffic() as traffic`, before this assertion"
    )
    with pytest.raises(ValueError, match=exactly(told)):
        assert_rebalanced(made_traffic("abc"))
    with pytest.raises(ValueError, match=exactly(told)):
        assert_rebalanced(made_traffic("abc", events=(scale_event(0.0, "3 -> 3"),)))


def test_traffic_to_no_pod_is_no_question() -> None:
    gone: tuple[Backend, ...] = tuple(replace(pod, removed_at_s=1.0) for pod in pods(2))
    with pytest.raises(
        ValueError, match=r"^traffic: no pod is left to move to; scale to at least 1$"
    ):
        assert_rebalanced(made_traffic("ab", backends=gone, events=(scale_event(0.5, ""),)))


def test_traffic_without_timers_has_no_deadline() -> None:
    told = "traffic: its timers are unknown, and the deadline follows from them"
    with pytest.raises(ValueError, match=exactly(told)):
        assert_rebalanced(made_traffic(Rows(), timers=None))


def test_traffic_that_nobody_can_attribute_is_not_waited_for_endlessly() -> None:
    class Unnamed(SimulatedTraffic):
        def wait(self, timeout_s: float) -> None:
            self.time_s += timeout_s
            assert self.time_s < 60, "it is waited for endlessly"
            while (at_s := len(self.rows.rows) / self.rate) < self.time_s:
                self.rows.unnamed(at_s=at_s)

    live = Unnamed(lambda _channel, _at_s: "a", backends=(*pods(3), *NEW), events=(SCALED,))
    live.wait(1.3)  # by then the new pods are ready
    told = r"did not say which pod answered"
    with pytest.raises(InconclusiveError, match=told):
        assert_rebalanced(live)
    assert live.time_s == pytest.approx(1.3, abs=0.3)  # the first look says it
