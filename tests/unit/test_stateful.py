"""The state machine over a simulated deployment: what it finds, and what it shrinks to."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import rule

from pytest_grpclb import stateful
from pytest_grpclb.model import Backend, Event, EventKind, Timers, Traffic
from pytest_grpclb.settings import Settings
from pytest_grpclb.stateful import (
    load_balancing_machine,
    lost_calls,
    misdirected_calls,
    ready_windows,
)

from .made_traffic import Rows, SimulatedTraffic, made_traffic, pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.handle import Grpclb

FOLLOWED_S = 0.2
"""How long the simulated client takes to follow a change."""
TIMERS = Timers(connection_age_s=None, min_resolution_interval_s=0.1, connect_s=0.5)
QUICK = settings(
    settings.get_profile("grpclb-embedded"), database=None, derandomize=True, print_blob=False
)


class Simulated:
    """Pods, a client and a clock, without any process: every change takes 50 ms.

    :param forgets_removed: the client goes on calling pods that were removed, which still answer
    """

    def __init__(self, *, forgets_removed: bool = False) -> None:
        self.settings = Settings(replicas=3, readiness_gate=True, skew=2)
        self.forgets_removed = forgets_removed
        self.pods: list[Backend] = []
        self.events: list[Event] = []
        self.shut: list[str] = []
        self.made = 0
        self.live: SimulatedTraffic | None = None
        self._add(3)

    @property
    def now_s(self) -> float:
        return 0.0 if self.live is None else self.live.time_s

    def backends(self) -> tuple[Backend, ...]:
        return tuple(each for each in self.pods if each.removed_at_s is None)

    def unready(self) -> tuple[str, ...]:
        return tuple(self.shut)

    def scale(self, replicas: int) -> None:
        self._note(EventKind.SCALE)
        while self.shut and len(self.backends()) + len(self.shut) > replicas:
            self.shut.pop()  # Kubernetes takes those first
        for backend in self.backends()[replicas - len(self.shut) :]:
            self._remove(backend)
        self._add(replicas - len(self.backends()) - len(self.shut))

    def kill(self, name: str) -> None:
        self._note(EventKind.KILL)
        self._remove(self._find(name))
        self._add(1)

    def restart(self) -> None:
        self._note(EventKind.RESTART)
        old = self.backends()
        self._add(len(old) + len(self.shut))
        self.shut.clear()
        for backend in old:
            self._remove(backend)

    def make_unready(self, name: str) -> None:
        self._note(EventKind.MAKE_UNREADY)
        self._remove(self._find(name))
        self.shut.append(name)

    def make_ready(self, name: str) -> None:
        self._note(EventKind.MAKE_READY)
        self.shut.remove(name)
        self._add(1)

    @contextmanager
    def traffic(self, *, rate: float) -> Iterator[Any]:
        self.pods = [replace(each, ready_at_s=-1.0) for each in self.backends()]
        self.events.clear()
        turn = iter(range(10**9))

        def pick(_: int, at_s: float) -> str:
            known = [each.uid for each in self.pods if self._is_known(each, at_s)]
            # Where all that it knew have gone, a client asks again at once.
            known = known or [each.uid for each in self.backends()]
            return known[next(turn) % len(known)]

        self.live = live = SimulatedTraffic(
            pick,
            rate=rate,
            backends=self.pods,
            events=self.events,
            timers=TIMERS,
            skew=2,
            started_at_s=0.0,
        )
        live.stop = lambda: replace(live.snapshot(), ended_at_s=live.time_s)  # type: ignore[attr-defined]
        live.wait(0.05)
        yield live
        self.live = None

    def _is_known(self, pod: Backend, at_s: float) -> bool:
        assert pod.ready_at_s is not None
        until_s = float("inf") if pod.removed_at_s is None else pod.removed_at_s
        known_s = pod.ready_at_s + FOLLOWED_S
        return known_s <= at_s and (self.forgets_removed or at_s <= until_s)

    def _find(self, name: str) -> Backend:
        return next(each for each in self.backends() if each.name == name)

    def _note(self, kind: EventKind, backend: str = "") -> None:
        if self.live is not None:
            self.live.wait(0.025)
        self.events.append(Event(at_s=self.now_s, kind=kind, backend=backend))

    def _add(self, number: int) -> None:
        for _ in range(number):
            self.made += 1
            self._note(EventKind.ENDPOINT_READY, f"uid-{self.made}")
            self.pods.append(
                Backend(uid=f"uid-{self.made}", name=f"pod-{self.made}", ready_at_s=self.now_s)
            )

    def _remove(self, backend: Backend) -> None:
        self._note(EventKind.ENDPOINT_REMOVED, backend.uid)
        self.pods[self.pods.index(backend)] = replace(backend, removed_at_s=self.now_s)


FIRST = settings(QUICK, max_examples=100, phases=[Phase.generate])
"""Until the first failure, which Hypothesis's choice of rules decides: it is another one in each of
its releases."""


def run(deployment: Simulated, chosen: settings = QUICK) -> None:
    load_balancing_machine(cast("Grpclb", deployment)).run(chosen)


def plan_of(failure: BaseException) -> list[str]:
    """Return the steps that Hypothesis shows, without the checks between them."""
    notes = "\n".join(getattr(failure, "__notes__", ()))
    steps = re.findall(r"^state\.(\w+)\(", notes, re.MULTILINE)
    return [step for step in steps if not step.startswith("calls_go_to")]


def test_a_client_that_follows_every_change_passes() -> None:
    deployment = Simulated()
    run(deployment)
    assert len(deployment.backends()) == 3  # as at first
    assert deployment.unready() == ()
    assert deployment.made > 100  # many pods came and went


def test_a_client_that_does_not_forget_removed_pods_is_found_by_the_shortest_plan() -> None:
    with pytest.raises(
        AssertionError, match=r"was called .* after its endpoint was removed"
    ) as told:
        run(Simulated(forgets_removed=True))
    # One change that removes a pod is all that it takes, and a look: its own, or that at the end.
    [began, change, *looks, ended] = plan_of(told.value)
    assert (began, ended) == ("send_calls", "teardown")
    assert change in {"scale", "kill", "make_unready", "restart"}
    assert looks in ([], ["drive"])


def test_rules_and_invariants_can_be_added() -> None:
    machine = load_balancing_machine(cast("Grpclb", Simulated()))

    class Mine(machine):  # type: ignore[misc, valid-type]
        @rule()
        def fail(self) -> None:
            raise AssertionError("mine")

    with pytest.raises(AssertionError, match=r"^mine"):
        Mine.run(FIRST)


def test_a_step_that_fails_has_the_word_and_pods_are_put_back_all_the_same() -> None:
    """However skewed the traffic is that it leaves: that is not looked at any more."""

    class Reset(Simulated):
        @contextmanager
        def traffic(self, *, rate: float) -> Iterator[Any]:
            self.forgets_removed = False
            with super().traffic(rate=rate) as live:
                yield live

    deployment = Reset()
    machine = load_balancing_machine(cast("Grpclb", deployment))

    class Mine(machine):  # type: ignore[misc, valid-type]
        @rule()
        def fail(self) -> None:
            deployment.forgets_removed = True
            deployment.scale(2)
            deployment.make_unready(deployment.backends()[0].name)
            raise LookupError("mine")

    with pytest.raises(LookupError, match=r"^mine"):
        Mine.run(FIRST)
    assert len(deployment.backends()) == 3
    assert deployment.unready() == ()


def test_a_failure_that_does_not_come_again_is_told_as_what_it_was() -> None:
    class Once(Simulated):
        broken = True

        def restart(self) -> None:
            super().restart()
            self.forgets_removed, Once.broken = Once.broken, False

    with pytest.raises(AssertionError, match=r"after its endpoint was removed") as told:
        run(Once(), FIRST)
    assert told.value.__notes__[-1] == (
        "the same steps did not lead there each time that they were taken"
    )


def test_settings_of_one_s_own_need_not_know_that_steps_wait_for_pods() -> None:
    impatient = settings(QUICK, max_examples=2, deadline=0.001, suppress_health_check=[])
    run(Simulated(), impatient)  # no DeadlineExceeded


def test_of_several_failures_one_is_told() -> None:
    machine = load_balancing_machine(cast("Grpclb", Simulated()))

    class Mine(machine):  # type: ignore[misc, valid-type]
        @rule()
        def fail(self) -> None:
            raise AssertionError("mine")

        @rule()
        def fail_otherwise(self) -> None:
            raise AssertionError("mine, too")

    with pytest.raises(AssertionError, match=r"^mine"):  # no ExceptionGroup
        Mine.run(settings(QUICK, max_examples=100))


def test_settings_of_ones_own_spend_no_examples_on_explanations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[settings] = []
    monkeypatch.setattr(
        stateful, "run_state_machine_as_test", lambda _machine, *, settings: ran.append(settings)
    )
    own = settings(max_examples=3, phases=[Phase.generate, Phase.explain, Phase.shrink])
    load_balancing_machine(cast("Grpclb", Simulated())).run(own)
    [taken] = ran
    assert (taken.max_examples, taken.phases) == (3, (Phase.generate, Phase.shrink))


def test_profiles_are_registered_and_none_is_loaded() -> None:
    embedded = settings.get_profile("grpclb-embedded")
    assert (embedded.max_examples, embedded.stateful_step_count) == (25, 15)
    kind = settings.get_profile("grpclb-kind")
    assert (kind.max_examples, kind.stateful_step_count) == (5, 8)
    assert Phase.shrink not in kind.phases
    assert Phase.shrink in embedded.phases
    # Each example takes seconds: there are none to spare for second failures and explanations.
    for profile in (embedded, kind):
        assert not profile.report_multiple_bugs
        assert Phase.explain not in profile.phases
    assert embedded.deadline is kind.deadline is None
    assert settings().max_examples == settings.get_profile("default").max_examples


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_replicas": 0}, "max_replicas must be 1 or more, got 0"),
        ({"rate": 0}, "rate must be above 0 calls per second, got 0"),
        ({"rate": float("nan")}, "rate must be above 0 calls per second, got nan"),
        ({"slack_s": -0.5}, "slack_s must be 0 or more, got -0.5"),
        ({"slack_s": float("inf")}, "slack_s must be 0 or more, got inf"),
    ],
)
def test_bounds_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        load_balancing_machine(cast("Grpclb", Simulated()), **arguments)


def test_a_slower_machine_is_given_more_slack() -> None:
    machine = load_balancing_machine(cast("Grpclb", Simulated()), slack_s=7.5)
    assert machine.slack_s == 7.5
    for at_s in (3.7, 7.9):
        assert misdirected_calls(called("c", at_s))
        assert misdirected_calls(called("c", at_s), slack_s=2.0) == ""


# --- what is looked at after every step


def removed_and_back() -> tuple[tuple[Backend, ...], tuple[Event, ...]]:
    events = (
        Event(at_s=2.0, kind=EventKind.ENDPOINT_REMOVED, backend="c"),
        Event(at_s=9.0, kind=EventKind.ENDPOINT_READY, backend="c"),
    )
    return (*pods(2), replace(pods(3)[2], ready_at_s=9.0)), events


def called(uid: str, at_s: float) -> Traffic:
    backends, events = removed_and_back()
    rows = Rows()
    rows.answer(uid, at_s=at_s)
    return made_traffic(rows, backends=backends, events=events, timers=TIMERS, ended_at_s=None)


def test_a_pod_may_be_ready_more_than_once() -> None:
    infinity = float("inf")
    assert ready_windows(called("c", 0.0)) == {
        "a": [(-infinity, infinity)],
        "b": [(-infinity, infinity)],
        "c": [(-infinity, 2.0), (9.0, infinity)],
    }


# The deadline is 0.1 s until DNS is asked + 0.5 s to connect + 1 s of slack after the removal at
# 2 s; and the client may be 1 s ahead of the test process at 9 s.
@pytest.mark.parametrize("at_s", [0.0, 1.9, 3.5, 8.1, 9.5])
def test_a_call_to_a_pod_that_was_ready_is_as_it_should_be(at_s: float) -> None:
    assert misdirected_calls(called("c", at_s)) == ""


@pytest.mark.parametrize("at_s", [3.7, 7.9])
def test_a_call_to_a_pod_that_was_not_ready_is_told(at_s: float) -> None:
    assert misdirected_calls(called("c", at_s)) == (
        f"headless: call 0, sent at +{at_s:.3f} s, was answered by pod-c, which was not ready; "
        "after its removal a pod may be called for 1.6 s"
    )


def test_a_call_that_a_stranger_answered_is_told() -> None:
    assert "was answered by x, which was not ready" in misdirected_calls(called("x", 0.0))


def test_calls_that_nothing_became_of_are_told() -> None:
    traffic = made_traffic("abc")
    assert lost_calls(traffic) == lost_calls(made_traffic("")) == ""
    torn = replace(traffic, calls=replace(traffic.calls, sequence=(0, 3, 3)))
    assert lost_calls(torn) == (
        "headless: of the calls 0 to 3, 2 neither succeeded nor failed, the first one 1; "
        "1 ended twice"
    )
