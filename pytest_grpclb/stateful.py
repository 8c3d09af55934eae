"""A state machine for Hypothesis: pods come, go and fail in any order, and traffic has to follow.

Build it in a test, over the ``grpclb`` fixture, and run it:

>>> def test_traffic_follows_whatever_happens(grpclb):
...     load_balancing_machine(grpclb).run()

The class may be extended by rules and invariants of one's own. Two profiles of Hypothesis are
registered, and none is loaded: ``grpclb-embedded`` (25 examples of 15 steps), which is used where
nothing else is said, and ``grpclb-kind`` (5 of 8, without shrinking: an example takes long there),
for ``pytest --hypothesis-profile=grpclb-kind``.
"""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_grpclb.asserts import assert_rebalanced, rebalance_deadline_s
from pytest_grpclb.asserts.failures import describe_failed_calls, excused_failures, kill_window_of
from pytest_grpclb.errors import HypothesisMissingError
from pytest_grpclb.model import EventKind
from pytest_grpclb.report import pod_name, timeline
from pytest_grpclb.statistics import answers

try:
    from hypothesis import HealthCheck, Phase
    from hypothesis import settings as hypothesis_settings
    from hypothesis import strategies as st
    from hypothesis.errors import Flaky
    from hypothesis.stateful import (
        RuleBasedStateMachine,
        initialize,
        invariant,
        precondition,
        rule,
        run_state_machine_as_test,
    )
except ModuleNotFoundError as error:
    raise HypothesisMissingError(__name__) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.handle import Grpclb
    from pytest_grpclb.model import Backend, Traffic
    from pytest_grpclb.running import RunningTraffic

__all__ = ["LoadBalancingMachine", "load_balancing_machine"]

SLACK_S = 1.0
"""What a busy machine may add to the strategy's timers, and how much later than the client the test
process may learn of a pod."""

# An example takes seconds. So one failure is enough, and no further ones are spent on explaining
# it by the lines of code that ran: those of this package, while who failed is the cluster.
hypothesis_settings.register_profile(
    "grpclb-embedded",
    max_examples=25,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
hypothesis_settings.register_profile(
    "grpclb-kind",
    max_examples=5,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


class LoadBalancingMachine(RuleBasedStateMachine):
    """Changes the pods of a live deployment while one client sends calls to them.

    After every step calls must have gone to pods only that were ready, and none may have failed
    that no event explains. `drive`, and the end of every example, waits until the client has
    followed the last change and judges the spread. Then the pods are put back as they were.
    """

    grpclb: ClassVar[Grpclb]
    rate: ClassVar[float] = 1000.0
    max_replicas: ClassVar[int] = 5
    slack_s: ClassVar[float] = SLACK_S
    _failures: ClassVar[list[AssertionError]] = []

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._traffic: RunningTraffic | None = None
        self._judged: frozenset[str] = frozenset()
        self._restarted = False

    @classmethod
    def run(cls, settings: hypothesis_settings | None = None) -> None:
        """Run the machine.

        :param settings: Hypothesis's; if not given the profile ``grpclb-kind`` if that is loaded,
            else ``grpclb-embedded``. A deadline is not heeded: steps wait for pods. Of several
            failures one is told, for each is a page long, and none is explained by lines of code
        :raises AssertionError: if an invariant does not hold, with the steps that lead there; if it
            held when they were taken again, as that it did not once
        """
        on_kind = hypothesis_settings.get_profile("grpclb-kind")
        loaded = on_kind if hypothesis_settings.default is on_kind else None
        chosen = settings or loaded or hypothesis_settings.get_profile("grpclb-embedded")
        chosen = hypothesis_settings(
            chosen,
            deadline=None,
            suppress_health_check={*chosen.suppress_health_check, HealthCheck.too_slow},
            report_multiple_bugs=False,
            phases=[phase for phase in chosen.phases if phase is not Phase.explain],
        )
        cls._failures = []
        try:
            run_state_machine_as_test(cls, settings=chosen)
        except Flaky as flaky:
            # Processes and clocks do not come twice in one order: what failed has failed.
            if not cls._failures:
                raise
            first = cls._failures[0]
            first.add_note("the same steps did not lead there each time that they were taken")
            raise first from flaky

    # --- what can happen

    @initialize()
    def send_calls(self) -> None:
        """Start the client."""
        self._judged = self._ready()
        self._traffic = self._stack.enter_context(self.grpclb.traffic(rate=self.rate))

    @rule(data=st.data())
    def scale(self, data: st.DataObject) -> None:
        """Change the number of pods."""
        replicas = data.draw(st.integers(1, self.max_replicas), label="replicas")
        if replicas != len(self.grpclb.backends()) + len(self.grpclb.unready()):
            self.grpclb.scale(replicas)

    @precondition(lambda self: len(self.grpclb.backends()) > 1)
    @rule(number=st.integers(0))
    def kill(self, number: int) -> None:
        """Kill one of the ready pods without grace; without another one every call would fail."""
        self.grpclb.kill(self._choose(number).name)

    @precondition(lambda self: not self._restarted)
    @rule()
    def restart(self) -> None:
        """Replace all pods, one after the other; once, for it takes as long as all else does."""
        self._restarted = True
        self.grpclb.restart()

    @precondition(lambda self: self.grpclb.settings.readiness_gate)
    @precondition(lambda self: len(self.grpclb.backends()) > 1)
    @rule(number=st.integers(0))
    def make_unready(self, number: int) -> None:
        """Make one of the pods unready; one at least goes on being ready."""
        self.grpclb.make_unready(self._choose(number).name)

    @precondition(lambda self: self.grpclb.unready())
    @rule()
    def make_ready(self) -> None:
        """Let the pod that was made unready first be ready again."""
        self.grpclb.make_ready(self.grpclb.unready()[0])

    # No precondition: Hypothesis gives up an example in which no step is left that it may choose,
    # and one more that takes its place costs more than a step that has nothing to wait for.
    @rule()
    def drive(self) -> None:
        """Go on sending calls until the spread over the changed pods, if any, can be judged."""
        if self._traffic is None or self._ready() == self._judged:
            return
        with self._judging():
            assert_rebalanced(self._traffic, slack_s=self.slack_s, excuse_aged=True)
        self._judged = self._ready()

    # --- what must hold

    @invariant()
    def calls_go_to_ready_pods_and_none_is_lost(self) -> None:
        """Every call was answered by a pod that was ready, or failed for a reason that is known."""
        if self._traffic is not None:
            self._check(self._traffic.snapshot())

    def _check(self, traffic: Traffic) -> None:
        assert traffic.timers is not None
        excused = excused_failures(traffic, kill_window_of(traffic.timers), aged=True)
        told = describe_failed_calls(traffic, excused=excused)
        told = told or misdirected_calls(traffic, slack_s=self.slack_s)
        if traffic.ended_at_s is not None:
            told = told or lost_calls(traffic)
        if told:
            with self._judging():
                raise AssertionError(f"{told}\n{timeline(traffic)}")

    @contextmanager
    def _judging(self) -> Iterator[None]:
        """Keep a failure, for it may not come again."""
        try:
            yield
        except AssertionError as failure:
            self._failures.append(failure)
            raise

    def teardown(self) -> None:
        """Judge what the last steps left, stop the client, and put the pods back as they were."""
        # A step that failed has the word; and an example that Hypothesis gives up, as it does with
        # most when it shrinks one, is no example.
        cut_short = sys.exc_info()[1] is not None
        try:
            if self._traffic is not None and not cut_short:
                self.drive()
                self._check(self._traffic.stop())
        finally:
            self._stack.close()
            for name in self.grpclb.unready():
                self.grpclb.make_ready(name)
            if len(self.grpclb.backends()) != self.grpclb.settings.replicas:
                self.grpclb.scale(self.grpclb.settings.replicas)

    def _ready(self) -> frozenset[str]:
        return frozenset(backend.uid for backend in self.grpclb.backends())

    def _choose(self, number: int) -> Backend:
        ready = self.grpclb.backends()
        return ready[number % len(ready)]


def load_balancing_machine(
    grpclb: Grpclb, *, max_replicas: int = 5, rate: float = 1000.0, slack_s: float = SLACK_S
) -> type[LoadBalancingMachine]:
    """Return a state machine over what the fixture has set up.

    A marker ``grpclb(readiness_gate=True, max_connection_age_s=0.2, skew=2)`` gives it all its
    rules, and steps that take little time.

    :param max_replicas: most pods to scale to
    :param rate: calls a second
    :param slack_s: seconds that a busy machine may add to the strategy's timers, and by which the
        test process may learn of a pod later than the client
    :raises ValueError: if there is less than one pod to scale to, no call to send, or no time
    """
    if max_replicas < 1:
        raise ValueError(f"max_replicas must be 1 or more, got {max_replicas!r}")
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"rate must be above 0 calls per second, got {rate!r}")
    if not (slack_s >= 0 and math.isfinite(slack_s)):
        raise ValueError(f"slack_s must be 0 or more, got {slack_s!r}")
    namespace: dict[str, Any] = {
        "grpclb": grpclb,
        "max_replicas": max_replicas,
        "rate": rate,
        "slack_s": slack_s,
    }
    return type("LoadBalancing", (LoadBalancingMachine,), namespace)


def misdirected_calls(traffic: Traffic, *, slack_s: float = SLACK_S) -> str:
    """Tell of a call that was answered by a pod that was not ready; empty if there is none.

    A pod may be called for as long after its removal as the strategy's timers give the client.

    :param slack_s: added to that, and how much later than the client one may learn of a pod here
    """
    assert traffic.timers is not None
    deadline_s = rebalance_deadline_s(traffic.timers, slack_s=slack_s)
    windows = ready_windows(traffic)
    for answer in answers(traffic.calls):
        if not any(
            answer.done_s >= since_s - slack_s and answer.sent_s <= until_s + deadline_s
            for since_s, until_s in windows.get(answer.backend, ())
        ):
            at_s = answer.sent_s - traffic.started_at_s
            return (
                f"{traffic.strategy}: call {answer.sequence}, sent at {at_s:+.3f} s, was answered "
                f"by {pod_name(traffic, answer.backend)}, which was not ready; after its removal "
                f"a pod may be called for {deadline_s:g} s"
            )
    return ""


def ready_windows(traffic: Traffic) -> dict[str, list[tuple[float, float]]]:
    """Return from when until when each pod was ready, by UID; a pod may have been so repeatedly."""
    windows: dict[str, list[tuple[float, float]]] = {
        backend.uid: [(-math.inf, math.inf)]
        for backend in traffic.backends
        if backend.ready_at_s is None or backend.ready_at_s <= traffic.started_at_s
    }
    for event in traffic.events:
        if event.kind is EventKind.ENDPOINT_READY:
            windows.setdefault(event.backend, []).append((event.at_s, math.inf))
        elif event.kind is EventKind.ENDPOINT_REMOVED:
            # Ready before calls were counted, unless told otherwise.
            known = windows.setdefault(event.backend, [(-math.inf, math.inf)])
            known[-1] = (known[-1][0], event.at_s)
    return windows


def lost_calls(traffic: Traffic) -> str:
    """Tell of calls of a finished run that nothing became of; empty if there is none."""
    sequence = sorted(traffic.calls.sequence)
    missing = sorted(set(range(sequence[-1] + 1)) - set(sequence)) if sequence else []
    if len(sequence) == len(set(sequence)) and not missing:
        return ""
    return (
        f"{traffic.strategy}: of the calls 0 to {sequence[-1]}, {len(missing)} neither succeeded "
        f"nor failed, the first one {missing[0] if missing else 'none'}; "
        f"{len(sequence) - len(set(sequence))} ended twice"
    )
