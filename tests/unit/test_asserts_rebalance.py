from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.asserts import assert_rebalanced, rebalance_deadline_s
from pytest_grpclb.asserts.change import Look
from pytest_grpclb.asserts.failures import excused_failures, kill_window_of
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import (
    Backend,
    Event,
    EventKind,
    Failure,
    Mechanism,
    Outcome,
    Timers,
    Verdict,
)
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

    from pytest_grpclb.model import Traffic

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


# --- how many calls that takes


def in_turn(known: Callable[[float], str]) -> Callable[[int, float], str]:
    """Pick as round robin does."""
    turns = itertools.count()
    return lambda _, at_s: known(at_s)[next(turns) % len(known(at_s))]


def test_calls_in_turn_are_found_even_after_a_third_of_what_any_others_may_take() -> None:
    live = SimulatedTraffic(
        in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef"),
        backends=(*pods(3), *NEW),
        events=(SCALED,),
        rate=1000.0,
    )
    live.wait(1.3)
    verdict = assert_rebalanced(live).verdict
    # A call in six adds ln(2/3) against a pod's being 1.5 times colder and the others ln(16/15):
    # ln(4000), for half of what is left of half the power, takes 101 rounds.
    assert (verdict.outcome, verdict.calls, verdict.needed_calls) == (Outcome.EVEN, 606, 606)
    assert verdict.test == "evidence against one hot or cold backend, looked at after every call"
    assert verdict.reason == (
        "counts of calls from 101 to 101; that one backend takes 1.5 times its share, or so many "
        "times less, is refuted"
    )
    assert verdict.detectable_skew == 1.5
    assert verdict.power == pytest.approx(0.9995)
    assert live.time_s == pytest.approx(1.8 + 606 / 1000, abs=0.2)


def test_a_finished_run_that_suffices_for_the_proof_is_even_too() -> None:
    live = SimulatedTraffic(
        in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef"),
        backends=(*pods(3), *NEW),
        events=(SCALED,),
        rate=1000.0,
    )
    live.wait(2.6)
    verdict = assert_rebalanced(replace(live.snapshot(), ended_at_s=2.6)).verdict
    assert (verdict.outcome, verdict.needed_calls) == (Outcome.EVEN, 606)
    assert verdict.calls == sum(verdict.counts.values()) > 700


def test_all_calls_of_a_finished_run_count_though_the_first_ones_were_even() -> None:
    live = SimulatedTraffic(
        in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef" if at_s < 2.6 else "abcdeeef"),
        backends=(*pods(3), *NEW),
        events=(SCALED,),
        rate=1000.0,
    )
    live.wait(8.0)
    with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-e answered "):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=8.0))


def test_a_skew_below_the_one_in_question_takes_the_fixed_number_of_calls() -> None:
    # Five calls of 25 are 1.2 times the share of one in six.
    pick = in_turn(lambda at_s: "abc" if at_s < 1.8 else "abcdef" * 4 + "e")
    live = SimulatedTraffic(pick, backends=(*pods(3), *NEW), events=(SCALED,), rate=1000.0)
    live.wait(1.3)
    verdict = assert_rebalanced(live).verdict
    assert (verdict.outcome, verdict.calls, verdict.needed_calls) == (Outcome.EVEN, 1837, 1837)
    assert verdict.test == "exact binomial per backend, calls as the unit"


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


def killed_with_internal(*details: str, pickers: int | None) -> Traffic:
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
        pickers=pickers,
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
    traffic = killed_with_internal(*details, pickers=1)
    assert len(excused_failures(traffic, 1.0)) == excused


def test_without_a_proxy_no_internal_is_excused() -> None:
    assert not excused_failures(killed_with_internal(RESET, pickers=None), 1.0)


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


# --- finished runs, and runs that end too early


def test_a_finished_run_is_judged_like_a_live_one() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdef")
    live.wait(10.0)
    result = assert_rebalanced(replace(live.snapshot(), ended_at_s=live.time_s))
    assert result.verdict.outcome is Outcome.EVEN
    assert result.verdict.calls > result.verdict.needed_calls  # all of them, for it is one look


def test_a_run_that_ends_before_the_new_pods_were_called_is_inconclusive() -> None:
    live = scaled_out(lambda _: "abc")
    live.wait(0.7)
    told = (
        "INCONCLUSIVE: the traffic ends 1.0 s after pod-d became ready; 0 of 1 channels had called "
        "it; deadline: 1.1 x max connection age 1 s + DNS TTL 0 s + connect 1 s + slack 1 s; let "
        "the traffic run longer, or at a higher rate"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=2.0))


def test_a_run_that_ends_before_absence_is_proved_is_inconclusive() -> None:
    live = scaled_in(lambda at_s: "abcd" if at_s < 1.0 else "ab")
    told = (
        "INCONCLUSIVE: too few calls went elsewhere to prove that none goes to pod-c, pod-d any "
        "more; 53 in a row are needed on each channel; let the traffic run longer, or at a higher "
        "rate"
    )
    # One of four is missed by that many with a probability of 5e-7/2: ln(2.5e-7) / ln(3/4) = 52.8.
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=1.1))


def test_a_skew_before_the_deadline_of_a_run_that_ended_early_is_inconclusive() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdeeef")
    live.wait(2.0)
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 0 calls are too few: 1837 are "):
        assert_rebalanced(replace(live.snapshot(), ended_at_s=3.3))


def test_live_traffic_that_falls_silent_is_not_waited_for_endlessly() -> None:
    live = scaled_out(lambda at_s: "abc" if at_s < 1.8 else "abcdef")
    live.silent_from_s = 2.0
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: \d+ calls are too few: 1837 are "):
        assert_rebalanced(live)
    assert live.time_s == pytest.approx(2.0 + 15.0, abs=0.2)


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


def test_calls_may_fail_after_a_kill_until_others_can_be_known() -> None:
    told_by_dns = Timers(connection_age_s=1.0, min_resolution_interval_s=0.25)
    assert kill_window_of(told_by_dns) == 1.0 + 0.25
    pushed = Timers(connection_age_s=None, min_resolution_interval_s=0.25, push_s=0.75)
    assert kill_window_of(pushed) == 1.0 + 0.75


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
