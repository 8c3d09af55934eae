"""What the calls of a run say of the changes of the pods.

The protocol is fixed before any count is looked at. The strategy's timers give a deadline. By then
each new pod must be called on every channel, and no removed pod may be called any more: those of
earlier changes by deadlines of their own. From the moment on at which all this has come true, calls
are counted, and as soon as they suffice the spread over the pods is judged. If it is skewed and the
deadline had not passed at that moment, the calls sent after the deadline are counted and judged
instead, and that is final. The two looks share the power of the verdict.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_grpclb.asserts.failures import excused_failures, kill_window_of
from pytest_grpclb.asserts.judging import Judge
from pytest_grpclb.asserts.spread import (
    AGE_JITTER,
    channels_advice,
    conclude,
    longest_connection_s,
)
from pytest_grpclb.model import CHANGES, Mechanism, Outcome, Rebalance
from pytest_grpclb.statistics import (
    answers,
    calls_proving_absence,
    convergence_start,
    count_interval,
    count_unnamed,
)

if TYPE_CHECKING:
    from pytest_grpclb.model import Backend, Timers, Traffic
    from pytest_grpclb.statistics import Answer

__all__ = ["Look", "rebalance_deadline_s"]

__tracebackhide__ = True  # what an error says is for people; these frames are not


def rebalance_deadline_s(timers: Timers, *, slack_s: float) -> float:
    """Return the seconds from a change of the endpoints until clients must have followed it.

    :source: gRFC A9 (connection age, jittered by 10 %); gRPC core, dns_min_time_between_resolutions
    """
    if timers.push_s is not None:
        return timers.push_s + timers.connect_s + slack_s
    aged_s = (1.0 + AGE_JITTER) * (timers.connection_age_s or 0.0)
    asked_s = max(aged_s, timers.min_resolution_interval_s)
    return asked_s + timers.dns_ttl_s + timers.connect_s + slack_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The last change of the pods while traffic ran, those before it, and whom they concern."""

    at_s: float
    since_s: float
    """When the first one was."""
    number: int
    """1 for the first change."""
    current: tuple[Backend, ...]
    new: tuple[Backend, ...]
    """Those of `current` that came by any of the changes."""
    removed: tuple[Backend, ...]
    """Those that went by any of them."""
    by_s: dict[str, float]
    """When the change was by which a new pod came, by its UID."""

    @classmethod
    def last_of(cls, traffic: Traffic) -> Change:
        changes = [event.at_s for event in traffic.events if event.kind in CHANGES]
        moved = [_changed_at_s(each) for each in traffic.backends]
        # A change may be none of who serves: scaling down may take a pod that did not.
        last_s = max((at_s for at_s in moved if changes and at_s >= changes[0]), default=-math.inf)
        at_s = max((at_s for at_s in changes if at_s <= last_s), default=math.inf)
        since_s = min(changes, default=math.inf)
        current = tuple(each for each in traffic.backends if each.removed_at_s is None)
        new = tuple(each for each in current if _changed_at_s(each) >= since_s)
        removed = tuple(
            each
            for each in traffic.backends
            if each.removed_at_s is not None and each.removed_at_s >= since_s
        )
        if not new and not removed:
            raise ValueError(
                "traffic: no pod came or went while it ran; scale, kill or restart the backends "
                "within `with grpclb.traffic() as traffic`, before this assertion"
            )
        if not current:
            raise ValueError("traffic: no pod is left to move to; scale to at least 1")
        return cls(
            at_s=at_s,
            since_s=since_s,
            number=len(changes),
            current=current,
            new=new,
            removed=removed,
            by_s={
                each.uid: max(at_s for at_s in changes if at_s <= _changed_at_s(each))
                for each in new
            },
        )


class Look:
    """What the calls up to some moment say of the changes."""

    def __init__(
        self,
        traffic: Traffic,
        *,
        slack_s: float,
        kill_window_s: float | None = None,
        excuse_aged: bool = False,
    ) -> None:
        if traffic.timers is None:
            raise ValueError("traffic: its timers are unknown, and the deadline follows from them")
        self.traffic, self.timers, self.slack_s = traffic, traffic.timers, slack_s
        self.deadline_s = rebalance_deadline_s(traffic.timers, slack_s=slack_s)
        self.change = change = Change.last_of(traffic)
        # Each change has its share of the error rate: 1/2, 1/6, 1/12 and so on, 1 in all.
        self.alpha = traffic.alpha / (change.number * (change.number + 1))
        self.power = 1.0 - (1.0 - traffic.power) / 2.0
        if kill_window_s is None:
            kill_window_s = kill_window_of(traffic.timers)
        self.excused = excused_failures(traffic, kill_window_s, aged=excuse_aged)
        self.judge = Judge(
            traffic=traffic, backends=change.current, alpha=self.alpha, power=self.power
        )
        # Where a connection decides, a channel cannot reach every pod: all of them together may.
        self.pickers = 1 if traffic.mechanism is Mechanism.CONNECTION else traffic.channels
        reported = _reported_up_to(traffic)
        self.calls = sorted(
            (
                answer
                for answer in answers(traffic.calls)
                if answer.sent_s >= change.since_s and answer.sequence < reported
            ),
            key=lambda answer: answer.sent_s,
        )
        self.sent_s: list[list[float]] = [[] for _ in range(self.pickers)]
        self.first: dict[tuple[int, str], Answer] = {}
        self.last: dict[tuple[int, str], Answer] = {}
        for answer in self.calls:
            picker = answer.channel % self.pickers
            self.sent_s[picker].append(answer.sent_s)
            # Of a pod that was there before and came back, calls of before are none of the new one.
            if answer.sent_s >= change.by_s.get(answer.backend, change.since_s):
                self.first.setdefault((picker, answer.backend), answer)
            self.last[picker, answer.backend] = answer

    # --- what has come true

    @cached_property
    def telling_misses(self) -> int:
        """How many calls in a row must miss a pod to prove that a picker does not know it."""
        pods = max(2, len(self.change.current) + len(self.change.removed))
        facts = self.pickers * (len(self.change.new) + len(self.change.removed))
        return calls_proving_absence(pods, alpha=self.alpha / facts)

    @cached_property
    def late(self) -> list[tuple[int, Backend]]:
        """New pods that a picker did not know by their deadline, with the picker."""
        return [
            (picker, backend)
            for picker in range(self.pickers)
            for backend in self.change.new
            if self._missed_after_deadline(picker, backend) >= self.telling_misses
        ]

    @cached_property
    def stale(self) -> list[tuple[float, Backend]]:
        """Removed pods that were called after their deadline, with the seconds since removal."""
        return [
            (after_s, backend)
            for backend in self.change.removed
            if (after_s := self._last_call_s(backend)) > self.deadline_s
        ]

    @cached_property
    def settled_at_s(self) -> float | None:
        """When every picker used every new pod and no removed one; None: not yet, or not proven."""
        moments = [_changed_at_s(each) for each in (*self.change.new, *self.change.removed)]
        for picker in range(self.pickers):
            for backend in self.change.new:
                if (picker, backend.uid) not in self.first:
                    return None
                moments.append(self.first[picker, backend.uid].done_s)
            for backend in self.change.removed:
                last = self.last.get((picker, backend.uid))
                since_s = max(last.sent_s if last else 0.0, _changed_at_s(backend))
                sent_s = self.sent_s[picker]
                if len(sent_s) - bisect_right(sent_s, since_s) < self.telling_misses:
                    return None
                moments.append(since_s)
        return max(moments)

    @property
    def expires_at_s(self) -> float:
        """The deadline of the pod whose change came last."""
        moments = (_changed_at_s(each) for each in (*self.change.new, *self.change.removed))
        return max(moments) + self.deadline_s

    @cached_property
    def judged_from_s(self) -> float | None:
        """From when on the calls tell of the spread; None: the pods' changes have not shown yet."""
        settled_at_s = self.settled_at_s
        if settled_at_s is None or settled_at_s >= self.expires_at_s:
            return settled_at_s
        calls = self._since(settled_at_s)
        if self.traffic.ended_at_s is None and not self.judge.has_enough(calls):
            return settled_at_s
        first = self.judge.verdict(self.judge.sample(calls))
        return self.expires_at_s if first.outcome is Outcome.SKEWED else settled_at_s

    @property
    def complete(self) -> bool:
        """Whether more calls would change nothing."""
        calls = self.traffic.calls
        if self.late or self.stale or calls.failed() > len(self.excused) or count_unnamed(calls):
            return True
        since_s = self.judged_from_s
        return since_s is not None and self.judge.has_enough(self._since(since_s))

    def conclude(self) -> Rebalance:
        """Return how the change went, or raise what there is to say against it."""
        __tracebackhide__ = True
        if self.late or self.stale:
            verdict = replace(
                self.judge.verdict(self.calls),
                outcome=Outcome.SKEWED,
                test="every new pod called, and no removed one, by the deadline",
                reason=self._describe_late() if self.late else self._describe_stale(),
            )
        elif self.judged_from_s is None:
            verdict = replace(
                self.judge.verdict(self.calls),
                outcome=Outcome.INCONCLUSIVE,
                reason=self._describe_unsettled(),
            )
        else:
            verdict = self.judge.verdict(self.judge.sample(self._since(self.judged_from_s)))
        advice, seen = "let the traffic run longer, or at a higher rate", None
        if self.traffic.mechanism is Mechanism.CONNECTION and self.judged_from_s is not None:
            channels, seen = verdict.needed_calls, self.traffic.channels
            sends = f"grpclb.traffic(rate={channels}, channels={channels})"
            advice = channels_advice(verdict, sends)
        verdict = conclude(self.traffic, verdict, advice=advice, excused=self.excused, seen=seen)
        return Rebalance(
            verdict=verdict,
            changed_at_s=self.change.at_s,
            deadline_s=self.deadline_s,
            first_call_s={each.uid: self._first_call_s(each) for each in self.change.new},
            last_call_s={each.uid: self._last_call_s(each) for each in self.change.removed},
            converged_s=self._converged_at_s() - self.change.at_s,
            excused_failures=len(self.excused),
        )

    # --- how that is found out

    @cached_property
    def window(self) -> tuple[int, int, int]:
        """Calls of a window, and the least and the most of them that a pod may have.

        Just the calls in which a pod that gets none stands out, at the rate that is left for either
        tail of each pod.
        """
        pods = len(self.change.current)
        tail = self.alpha / (2 * pods)
        size = calls_proving_absence(pods, alpha=tail)
        return (size, *count_interval(size, 1.0 / pods, tail=tail))

    def _since(self, since_s: float) -> list[Answer]:
        start = bisect_right(self.calls, since_s, key=lambda answer: answer.sent_s)
        return self.calls[start:]

    def _missed_after_deadline(self, picker: int, backend: Backend) -> int:
        """Count what a picker sent elsewhere, from the deadline to its first call there."""
        first = self.first.get((picker, backend.uid))
        sent_s, since_s = self.sent_s[picker], _changed_at_s(backend) + self.deadline_s
        until = len(sent_s) if first is None else bisect_left(sent_s, first.sent_s)
        missed = until - bisect_right(sent_s, since_s)
        if self.traffic.mechanism is Mechanism.CONNECTION and missed > 0:
            # However many calls a connection carries, it is one pick: those of its channel's that
            # must have ended. Without an age none ever does, and no pick is left to wait for.
            longest_s = longest_connection_s(self.timers)
            if math.isfinite(longest_s):
                return self.traffic.channels * int((sent_s[until - 1] - since_s) // longest_s)
        return missed

    def _first_call_s(self, backend: Backend) -> float:
        done_s = min(first.done_s for (_, uid), first in self.first.items() if uid == backend.uid)
        # The client may learn of a pod sooner than the test process does.
        return max(0.0, done_s - _changed_at_s(backend))

    def _last_call_s(self, backend: Backend) -> float:
        sent_s = (last.sent_s for (_, uid), last in self.last.items() if uid == backend.uid)
        return max(0.0, max(sent_s, default=-math.inf) - _changed_at_s(backend))

    def _converged_at_s(self) -> float:
        """Return the start of the first window after which every one was even."""
        assert self.settled_at_s is not None
        pods = len(self.change.current)
        if pods == 1:
            return self.settled_at_s
        size, lowest, highest = self.window
        even, starts = [], range(0, len(self.calls) - size + 1, size)
        for start in starts:
            counts = Counter(answer.backend for answer in self.calls[start : start + size])
            shares = [counts[backend.uid] for backend in self.change.current]
            even.append(sum(shares) == size and all(lowest <= share <= highest for share in shares))
        window = convergence_start(even)
        began_s = -math.inf if window is None else self.calls[starts[window]].sent_s
        return max(began_s, self.settled_at_s)

    # --- what is said of it

    def _describe_deadline(self) -> str:
        timers = self.timers
        if timers.push_s is not None:
            return (
                f"deadline: push {timers.push_s:g} s + connect {timers.connect_s:g} s + slack "
                f"{self.slack_s:g} s"
            )
        age_s, asked_s = timers.connection_age_s, timers.min_resolution_interval_s
        if age_s is not None and (1.0 + AGE_JITTER) * age_s >= asked_s:
            asked = f"{1.0 + AGE_JITTER:g} x max connection age {age_s:g} s"
        else:
            asked = f"DNS asked every {asked_s:g} s"
            asked += " (no max connection age)" if age_s is None else ""
        return (
            f"deadline: {asked} + DNS TTL {timers.dns_ttl_s:g} s + connect "
            f"{timers.connect_s:g} s + slack {self.slack_s:g} s"
        )

    def _describe_late(self) -> str:
        called = {uid for _, uid in self.first}
        silent = [backend for backend in self.change.new if backend.uid not in called]
        if silent:
            what = (
                f"{len(silent)} of {len(self.change.current)} pods got no call within "
                f"{self.deadline_s:.1f} s of becoming ready"
            )
        else:
            picker, backend = self.late[0]
            first = self.first.get((picker, backend.uid))
            who = f"channel {picker} called" if self.pickers > 1 else "the client called"
            when = "never"
            if first is not None:
                when = f"{first.done_s - _changed_at_s(backend):.1f} s after it became ready"
            what = f"{who} {backend.name} {when}; {self.deadline_s:.1f} s are allowed"
        return f"{what}; {self._describe_deadline()}"

    def _describe_stale(self) -> str:
        after_s, backend = max(self.stale, key=lambda found: found[0])
        return (
            f"{backend.name} was called {after_s:.1f} s after its endpoint was removed; "
            f"{self.deadline_s:.1f} s are allowed; {self._describe_deadline()}"
        )

    def _describe_unsettled(self) -> str:
        last_s = max(self.traffic.calls.done_s, default=self.change.at_s)
        for backend in self.change.new:
            callers = sum((picker, backend.uid) in self.first for picker in range(self.pickers))
            if callers < self.pickers:
                since_s = last_s - _changed_at_s(backend)
                return (
                    f"the traffic ends {since_s:.1f} s after {backend.name} became ready; "
                    f"{callers} of {self.pickers} channels had called it; "
                    f"{self._describe_deadline()}"
                )
        names = ", ".join(backend.name for backend in self.change.removed)
        return (
            f"too few calls went elsewhere to prove that none goes to {names} any more; "
            f"{self.telling_misses} in a row are needed on each channel"
        )


def _changed_at_s(backend: Backend) -> float:
    """Return when the pod was removed, or became ready."""
    moment_s = backend.ready_at_s if backend.removed_at_s is None else backend.removed_at_s
    return -math.inf if moment_s is None else moment_s


def _reported_up_to(traffic: Traffic) -> float:
    """Return the first call of live traffic that is not reported yet.

    Of later calls only the quick ones are, so that a slow pod would look as if it got fewer.
    """
    if traffic.ended_at_s is not None:
        return math.inf
    present = set(traffic.calls.sequence)
    return next(sequence for sequence in range(len(present) + 1) if sequence not in present)
