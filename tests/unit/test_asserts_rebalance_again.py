"""Several changes of the pods, one after the other, while traffic runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_grpclb.asserts import assert_rebalanced
from pytest_grpclb.asserts.change import Look
from pytest_grpclb.model import Event, EventKind
from pytest_grpclb.statistics import calls_proving_absence, count_interval

from .made_traffic import SimulatedTraffic, pods, random_pick, scale_event

THREE, NEW, LAST = pods(3), pods(6)[3:], replace(pods(7)[6], ready_at_s=21.0)
TWICE = (scale_event(0.5, "3 -> 6"), scale_event(20.9, "6 -> 7"))
COME = tuple(replace(each, ready_at_s=1.0) for each in NEW)


def live(known: str, *, from_s: float, until_s: float = 21.3) -> SimulatedTraffic:
    """Six pods become seven; of the first change the client knows *known* from a moment on."""

    def told(at_s: float) -> str:
        before = known if at_s >= from_s else "abc"
        return f"{before}g" if at_s >= until_s else before

    traffic = SimulatedTraffic(
        random_pick(1, told), backends=(*THREE, *COME, LAST), events=TWICE, rate=400.0
    )
    traffic.wait(21.5)
    return traffic


def test_pods_of_an_earlier_change_have_deadlines_of_their_own() -> None:
    told = r"^headless: SKEWED: the client called pod-d 19\.0 s after it became ready;\n  3\.1 s"
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(live("abcdef", from_s=20.0))
    result = assert_rebalanced(live("abcdef", from_s=1.5))
    assert sorted(result.first_call_s) == ["d", "e", "f", "g"]
    assert result.first_call_s["d"] == pytest.approx(0.5, abs=0.1)
    assert result.first_call_s["g"] == pytest.approx(0.3, abs=0.1)
    assert result.changed_at_s == 20.9
    assert result.converged_s == pytest.approx(0.4, abs=0.3)


def test_pods_that_an_earlier_change_removed_stay_removed() -> None:
    """Called once more long after its deadline, while the second change is waited for."""
    gone = replace(THREE[2], removed_at_s=1.0)

    def pick(_: int, at_s: float) -> str:
        number = round(400.0 * at_s)
        if number < 440 or number == 4001:  # 10 s
            return "abc"[number % 3]
        return "ab"[number % 2] if at_s < 21.2 else "abg"[number % 3]

    traffic = SimulatedTraffic(
        pick,
        backends=(*THREE[:2], gone, LAST),
        events=(scale_event(0.9, "3 -> 2"), scale_event(20.9, "2 -> 3")),
        rate=400.0,
    )
    traffic.wait(21.5)
    told = r"^headless: SKEWED: pod-c was called 9\.0 s after its endpoint was removed;\n  3\.1 s"
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(traffic)


def test_calls_of_before_do_not_count_for_a_pod_that_comes_back() -> None:
    """Unready and ready again: the client calls it at once the first time, never the second."""
    back = replace(THREE[2], ready_at_s=10.0)
    events = (
        scale_event(0.5, "3 -> 3"),
        Event(at_s=2.0, kind=EventKind.MAKE_UNREADY, backend="c"),
        Event(at_s=9.9, kind=EventKind.MAKE_READY, backend="c"),
    )
    traffic = SimulatedTraffic(
        random_pick(2, lambda at_s: "abc" if at_s < 2.0 else "ab"),
        backends=(*THREE[:2], back),
        events=events,
        rate=400.0,
    )
    traffic.wait(10.5)
    told = r"^headless: SKEWED: 1 of 3 pods got no call within 3\.1 s of becoming ready;"
    with pytest.raises(AssertionError, match=told):
        assert_rebalanced(traffic)


def test_the_windows_of_convergence_share_the_error_rate() -> None:
    look = Look(live("abcdef", from_s=1.5).snapshot(), slack_s=1.0)
    tail = look.alpha / (2 * 7)
    calls, least, most = look.window
    assert calls == calls_proving_absence(7, alpha=tail)
    assert (least, most) == count_interval(calls, 1 / 7, tail=tail)
    assert least > 0
