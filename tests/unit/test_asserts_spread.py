from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from pytest_grpclb.asserts import assert_even_spread
from pytest_grpclb.errors import GrpclbError, InconclusiveError
from pytest_grpclb.model import Alarm, Mechanism, Outcome, Verdict

from .made_traffic import TIMERS, Rows, made_traffic, pods


def shuffled(**counts: int) -> list[str]:
    rows = [backend for backend, number in counts.items() for _ in range(number)]
    random.Random(1).shuffle(rows)
    return rows


def exactly(told: str) -> str:
    return f"^{re.escape(told)}$"


# --- assert_even_spread


def test_an_even_spread_returns_its_verdict_and_tells_the_observer() -> None:
    seen: list[Verdict] = []
    traffic = made_traffic(shuffled(a=190, b=200, c=194), observer=seen.append)
    verdict = assert_even_spread(traffic)
    assert verdict.outcome is Outcome.EVEN
    assert verdict.counts == {"a": 190, "b": 200, "c": 194}
    assert seen == [verdict]


def test_a_skewed_spread_fails_and_tells_the_observer() -> None:
    seen: list[Verdict] = []
    traffic = made_traffic(shuffled(a=400, b=100, c=84), observer=seen.append)
    told = (
        r"^headless: SKEWED: pod-a answered 400 of 584 calls \(2.05 times its share\);\n"
        r"  its fair share allows 138 to 254;\n  outside of theirs as well: 2\nlikely cause: "
    )
    with pytest.raises(AssertionError, match=told):
        assert_even_spread(traffic)
    assert [verdict.outcome for verdict in seen] == [Outcome.SKEWED]


def test_too_few_calls_are_an_error_and_no_pass() -> None:
    seen: list[Verdict] = []
    traffic = made_traffic(shuffled(a=100, b=100, c=100), observer=seen.append)
    told = (
        "INCONCLUSIVE: 300 calls are too few: 584 are needed to find one backend at 1.5 times its "
        "share; these find 1.70 times; send at least 584, e.g. grpclb.drive(calls=584)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)) as raised:
        assert_even_spread(traffic)
    assert (raised.value.seen, raised.value.needed) == (300, 584)
    assert isinstance(raised.value, GrpclbError)
    assert not isinstance(raised.value, AssertionError)
    assert [verdict.outcome for verdict in seen] == [Outcome.INCONCLUSIVE]


def test_standing_round_robin_is_held_to_its_exact_bound() -> None:
    rows = ["a", "b", "c"] * 100 + ["a", "a"]
    standing = made_traffic(rows, mechanism=Mechanism.ROUND_ROBIN, picker_rebuilds=0)
    with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-a answered 2 calls more "):
        assert_even_spread(standing)
    two_channels = replace(standing, channels=2)
    assert assert_even_spread(two_channels).alpha == 0.0


def test_round_robin_that_is_not_complete_is_not_held_to_the_exact_bound() -> None:
    rows = [*["a", "b", "c"] * 200, "a", "a"]
    running = made_traffic(
        rows, mechanism=Mechanism.ROUND_ROBIN, picker_rebuilds=0, ended_at_s=None
    )
    assert assert_even_spread(running).alpha == 1e-6
    # A pod that came meanwhile took picks of its own.
    late = replace(pods(4)[3], ready_at_s=0.1)
    joined = replace(running, backends=(*pods(3), late), ended_at_s=1.0)
    assert assert_even_spread(joined).alpha == 1e-6
    # An answer that names nobody, such as an error that the test allows, took one too.
    unnamed = Rows()
    for call in range(660):
        if call % 33 == 2:
            unnamed.fail(5, at_s=call / 1000)
        else:
            unnamed.answer("abc"[call % 3], at_s=call / 1000)
    calls = replace(unnamed.calls(), allowed=frozenset({5}))
    assert assert_even_spread(replace(running, calls=calls, ended_at_s=1.0)).alpha == 1e-6


def test_an_alarm_over_pods_that_did_not_stay_is_none() -> None:
    """Clients may hear of a pod's end before the test process does."""
    left = replace(pods(3)[2], removed_at_s=0.006)
    rows = ["a", "b", "c"] * 2 + ["a", "b"] * 40
    alarm = Alarm(alpha=1e-6, raised_after=80)
    traffic = made_traffic(rows, backends=(*pods(2), left), alarm=alarm)
    told = (
        "INCONCLUSIVE: 84 calls are too few: 246 are needed to find one backend at 1.5 times its "
        "share; these find 1.77 times; send at least 246, e.g. grpclb.drive(calls=246)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_even_spread(traffic)


def test_an_alarm_of_a_client_that_was_reconnecting_is_no_verdict() -> None:
    rows = ["a", "b", "c"] * 3 + ["a", "b"] * 40
    alarmed = made_traffic(
        rows,
        mechanism=Mechanism.ROUND_ROBIN,
        picker_rebuilds=2,
        alarm=Alarm(alpha=1e-6, raised_after=80),
    )
    told = (
        "INCONCLUSIVE: the run ended early, for after 80 calls it looked skewed; but connections "
        "were replaced meanwhile, and as long as that takes, their pods are passed over: what is "
        "lasting takes a run of a given length; send at least 584, e.g. grpclb.drive(calls=584)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_even_spread(alarmed)
    # Without replaced ones, and where a proxy picks, it is one.
    for more in ({"picker_rebuilds": 0}, {"pickers": 1}, {"mechanism": Mechanism.RANDOM}):
        with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-c answered 3 of 89 "):
            assert_even_spread(replace(alarmed, **more))
    lasting = replace(alarmed, alarm=Alarm(alpha=1e-6))
    with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-c answered 3 of 89 calls "):
        assert_even_spread(lasting)


def test_only_pods_that_stood_throughout_count() -> None:
    joined, left = replace(pods(4)[3], ready_at_s=0.1), replace(pods(5)[4], removed_at_s=0.1)
    rows = shuffled(a=200, b=200, c=200, d=50, e=50)
    verdict = assert_even_spread(made_traffic(rows, backends=(*pods(3), joined, left)))
    assert verdict.counts == {"a": 200, "b": 200, "c": 200}


def test_a_stranger_s_answer_fails_the_spread() -> None:
    traffic = made_traffic(shuffled(a=200, b=200, c=200, x=1))
    told = r"^headless: SKEWED: 1 call was answered by 'x', none of the 3 backends\n"
    with pytest.raises(AssertionError, match=told):
        assert_even_spread(traffic)


def test_a_failed_call_fails_the_spread_whatever_the_counts() -> None:
    rows = Rows()
    for call in range(600):
        rows.answer("abc"[call % 3], at_s=call / 1000)
    rows.fail(14, "Socket closed", at_s=0.6)
    told = (
        "headless: 1 of 601 calls failed\n"
        "UNAVAILABLE x 1, +0.601 s\n"
        "  the first one said: Socket closed\n"
        "the other calls:\n"
        "EVEN  N=600 K=3  max/mean 1.00  min/mean 1.00  Jain 1.00  alpha 1e-06  "
        "power 0.999 at skew 1.49"
    )
    with pytest.raises(AssertionError, match=exactly(told)):
        assert_even_spread(made_traffic(rows))


def test_picks_that_failed_calls_took_are_no_skew_of_round_robin() -> None:
    rows, seen = Rows(), list[Verdict]()
    for call in range(600):
        if call in {0, 3, 6, 9}:  # all of them picks of pod-a
            rows.fail(14)
        else:
            rows.answer("abc"[call % 3], at_s=call / 1000)
    traffic = made_traffic(
        rows, mechanism=Mechanism.ROUND_ROBIN, picker_rebuilds=0, observer=seen.append
    )
    with pytest.raises(AssertionError, match=r"^headless: 4 of 600 calls failed\n"):
        assert_even_spread(traffic)
    assert [verdict.outcome for verdict in seen] == [Outcome.EVEN]


def test_calls_that_nobody_signed_are_inconclusive() -> None:
    rows = Rows()
    for call in range(600):
        rows.answer("abc"[call % 3], at_s=call / 1000)
    rows.unnamed()
    told = (
        "INCONCLUSIVE: 1 answered call did not say which pod answered; let the service send its "
        "pod's name (HOSTNAME) in a response header (--grpclb-backend-key) or a field of its reply "
        "(--grpclb-backend-field)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_even_spread(made_traffic(rows))


def test_what_was_tried_to_learn_who_answered_is_told() -> None:
    rows = Rows()
    rows.unnamed()
    tried = (
        "peer of the connection: 10.9.9.9:80 is no pod's address",
        "response header 'x': absent",
    )
    told = (
        "INCONCLUSIVE: 1 answered call did not say which pod answered; tried: peer of the "
        "connection: 10.9.9.9:80 is no pod's address, response header 'x': absent; let the service "
        "send its pod's name (HOSTNAME) in a response header (--grpclb-backend-key) or a field of "
        "its reply (--grpclb-backend-field)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_even_spread(made_traffic(rows, attribution_tried=tried))


def test_an_ingress_that_does_not_name_pods_is_told_with_what_to_set_on_its_controller() -> None:
    rows = Rows()
    rows.unnamed()
    tried = ("response header 'grpclb-upstream': absent",)
    told = (
        "INCONCLUSIVE: 1 answered call did not say which pod answered; tried: response header "
        "'grpclb-upstream': absent; have the ingress controller name the pod: in its ConfigMap set "
        "add-headers to NAMESPACE/NAME of another ConfigMap, which has the entry "
        "'grpclb-upstream: $upstream_addr', and restart it; or let the service send "
        "its pod's name (HOSTNAME) in a response header (--grpclb-backend-key) or a field of its "
        "reply (--grpclb-backend-field)"
    )
    traffic = made_traffic(rows, attribution_tried=tried)
    with pytest.raises(InconclusiveError, match=exactly(told)):
        assert_even_spread(replace(traffic, strategy="ingress-nginx"))


def test_allowed_failures_are_answers_of_who_gave_them() -> None:
    traffic = made_traffic("abc" * 300)
    calls = traffic.calls
    missing = replace(calls, status=[5] * len(calls), allowed=frozenset({5}))
    assert assert_even_spread(replace(traffic, calls=missing)).counts == {
        "a": 300,
        "b": 300,
        "c": 300,
    }
    with pytest.raises(
        AssertionError,
        match=r"^headless: 900 of 900 calls failed\nNOT_FOUND x 900, [^\n]*\n  from [^\n]*\n"
        "what to do: correct --grpclb-request or --grpclb-metadata, or, if it is an answer as it "
        "should be, set --grpclb-allowed-status=NOT_FOUND\n",
    ):
        assert_even_spread(replace(traffic, calls=replace(missing, allowed=frozenset())))


def test_a_spread_over_one_pod_is_no_question() -> None:
    over = "; a spread is over at least 2, so raise --grpclb-replicas"
    late = replace(pods(2)[1], ready_at_s=0.5)
    for backends, there in (
        (pods(1), "there was 1 pod"),
        ((), "there were 0 pods"),
        ((*pods(1), late), "1 of its 2 pods was ready from beginning to end"),
    ):
        with pytest.raises(ValueError, match=exactly(f"traffic: {there}{over}")):
            assert_even_spread(made_traffic(["a"], backends=backends))


def test_many_connections_are_the_unit_where_connections_are_picked() -> None:
    rows = Rows()
    chance = random.Random(4)
    for channel in range(600):
        backend = chance.choice("abc")
        for _ in range(5):
            rows.answer(backend, channel=channel)
    verdict = assert_even_spread(made_traffic(rows, mechanism=Mechanism.CONNECTION, channels=600))
    assert verdict.test == "exact binomial per backend, connections as the unit"


def test_too_few_connections_take_more_channels_not_more_calls() -> None:
    rows = Rows()
    for call in range(600):
        rows.answer("abc"[call % 3], channel=call % 12)
    told = (
        "INCONCLUSIVE: 12 connections are too few: 584 are needed to find one backend at 1.5 times "
        "its share; these find none; each channel makes one: use at least 584, e.g. "
        "grpclb.drive(channels=584, calls=1752)"
    )
    with pytest.raises(InconclusiveError, match=exactly(told)) as raised:
        assert_even_spread(made_traffic(rows, mechanism=Mechanism.CONNECTION, channels=12))
    assert (raised.value.seen, raised.value.needed) == (12, 584)


@pytest.mark.parametrize("seed", range(20))
def test_calls_of_one_channel_whose_connections_aged_show_no_skew_of_the_picks(seed: int) -> None:
    """Each of its connections is another pick at random, which 40 calls in a row follow."""
    rows, chance = Rows(), random.Random(seed)
    for _ in range(50):
        backend = chance.choice("abc")
        for _ in range(40):
            rows.answer(backend, at_s=len(rows.rows) / 200)
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 1 connection is too few: 584 "):
        assert_even_spread(made_traffic(rows, mechanism=Mechanism.CONNECTION))


def test_aged_connections_may_all_have_been_to_one_pod() -> None:
    rows = Rows()
    for call in range(600):
        rows.answer("a", at_s=call / 50)  # 12 s: five times 1.1 s of age and 1 s to connect
    aged = made_traffic(rows, mechanism=Mechanism.CONNECTION)
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 1 connection is too few: 584 "):
        assert_even_spread(aged)
    for timers in (None, replace(TIMERS, connection_age_s=None)):
        with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-a answered 600 of 600 "):
            assert_even_spread(replace(aged, timers=timers))


def test_connections_that_did_not_age_may_be_replaced_too() -> None:
    forever = replace(TIMERS, connection_age_s=None)
    rows = [*["a"] * 400, *["b"] * 100, *["c"] * 50]
    traffic = made_traffic(rows, mechanism=Mechanism.CONNECTION, timers=forever)
    with pytest.raises(InconclusiveError, match=r"^INCONCLUSIVE: 1 connection is too few: 584 "):
        assert_even_spread(traffic)


def test_two_connections_cannot_give_three_pods_their_shares() -> None:
    rows = made_traffic([*["a"] * 300, *["b"] * 300], mechanism=Mechanism.CONNECTION)
    with pytest.raises(AssertionError, match=r"^headless: SKEWED: pod-c answered 0 of 600 calls "):
        assert_even_spread(rows)
