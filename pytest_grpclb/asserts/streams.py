"""Assertions on streams: a pod's share of them is what it has open, not what it was ever given."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_grpclb.asserts.change import rebalance_deadline_s
from pytest_grpclb.asserts.failures import INTERNAL, UNAVAILABLE, kill_window_of
from pytest_grpclb.asserts.live import require_traffic
from pytest_grpclb.asserts.rebalance import SLACK_S
from pytest_grpclb.asserts.spread import channels_advice, conclude
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import CHANGES, EventKind, Mechanism, Outcome, Traffic
from pytest_grpclb.report import ended_streams, stream_table, timeline
from pytest_grpclb.statistics import judge_spread, plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.asserts.live import LiveTraffic
    from pytest_grpclb.model import Stream, Verdict

__all__ = ["assert_even_streams", "assert_streams_stay"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

PAUSE_S = 0.1
"""Between two looks at live streams: a look takes time in proportion to the streams so far."""

_MOVES = CHANGES | {EventKind.ENDPOINT_READY, EventKind.ENDPOINT_REMOVED}


def assert_streams_stay(
    source: Traffic | LiveTraffic, *, for_s: float | None = None, slack_s: float = SLACK_S
) -> None:
    """Check that none of the streams ends that were open when the pods changed last.

    Live traffic is waited for. If the pods did not change, it is about every stream.

    :param source: live traffic of `Grpclb.streams`, or that of a finished run
    :param for_s: seconds for which they stay, from the change on; by default the time in which
        unary calls must have followed it
    :param slack_s: seconds added to what follows from the strategy's timers
    :raises AssertionError: if one has ended, with its status and what came before
    :raises InconclusiveError: if the traffic ended too early to tell
    :raises ValueError: if its calls are no streams, or none was open
    """
    __tracebackhide__ = True
    if for_s is not None and not (for_s > 0 and math.isfinite(for_s)):
        raise ValueError(f"for_s must be above 0, got {for_s!r}")

    def due_at_s(look: _Look) -> float:
        wait_s = rebalance_deadline_s(look.timers, slack_s=slack_s) if for_s is None else for_s
        # What has ended already will not come back.
        return -math.inf if look.ended else look.moved_at_s + wait_s

    look = _watch(source, due_at_s)
    traffic = look.traffic
    if not look.concerned:
        raise ValueError(
            f"traffic: none of its {plural(len(traffic.streams), 'stream')} was open when the pods "
            "changed; wait until they are, for instance with assert_even_streams"
        )
    if look.ended:
        told = (ended_streams(traffic, look.ended), "", "-- open streams", stream_table(traffic))
        raise AssertionError(
            f"{traffic.strategy}: {len(look.ended)} of "
            f"{plural(len(look.concerned), 'stream')} did not stay\n"
            + "\n".join((*told, "", "-- timeline", timeline(traffic)))
        )
    if look.at_s < due_at_s(look):
        raise InconclusiveError(
            f"the streams were watched for {look.at_s - look.moved_at_s:.1f} s after the pods "
            f"changed; {due_at_s(look) - look.moved_at_s:.1f} s tell that they stay",
            seen=len(look.concerned),
            needed=len(look.concerned),
            advice="let them stay open longer",
        )


def assert_even_streams(
    source: Traffic | LiveTraffic,
    *,
    within_s: float | None = None,
    slack_s: float = SLACK_S,
    kill_window_s: float | None = None,
) -> Verdict:
    """Check that the streams which are open spread evenly over the pods that are ready.

    They are counted once. After a change of the pods that is when the deadline has passed by which
    streams must have moved: what the strategy's timers give unary calls, and the duration that the
    client lets a stream have; within one more duration, at the moment at which the most are open,
    for streams may end together. Live traffic is waited for.

    :param source: live traffic of `Grpclb.streams`, or that of a finished run
    :param within_s: the deadline in seconds instead, where the server ends its streams
    :param slack_s: seconds added to the deadline that follows from the strategy's timers
    :param kill_window_s: seconds after a pod was killed in which its streams may be cut; by default
        what the strategy's timers give
    :return: the verdict, which is EVEN
    :raises AssertionError: if the spread is SKEWED, or a stream was cut
    :raises InconclusiveError: if the streams are too few to tell, or ended too early
    :raises ValueError: if its calls are no streams, or fewer than two pods are ready
    """
    __tracebackhide__ = True
    if within_s is not None and not (within_s > 0 and math.isfinite(within_s)):
        raise ValueError(f"within_s must be above 0, got {within_s!r}")

    def due_at_s(look: _Look) -> float:
        return look.due_at_s(within_s, slack_s=slack_s)

    look = _watch(source, lambda look: due_at_s(look) + look.round_s)
    if len(look.standing) < 2:
        raise ValueError(
            f"traffic: {plural(len(look.standing), 'pod')} is ready; a spread is over at least 2, "
            "so raise --grpclb-replicas"
        )
    verdict = look.judge(due_s=due_at_s(look))
    needed, advice = verdict.needed_calls, "let them stay open longer"
    if look.at_s >= due_at_s(look):
        advice = f"open at least {needed}: grpclb.streams({needed})"
        if look.traffic.mechanism is Mechanism.CONNECTION:
            advice = channels_advice(verdict, f"grpclb.streams({needed}, channels={needed})")
    return conclude(look.traffic, verdict, advice=advice, excused=look.cut_by_kills(kill_window_s))


class _Look:
    """What streams say at one moment."""

    def __init__(self, traffic: Traffic, at_s: float) -> None:
        if traffic.streams_kept_open is None:
            raise ValueError(
                "traffic: its calls are no streams; open some within `with grpclb.streams() as "
                "traffic`"
            )
        if traffic.timers is None:
            raise ValueError("traffic: its timers are unknown, and the deadline follows from them")
        self.traffic, self.timers, self.at_s = traffic, traffic.timers, at_s
        self.kept_open: int = traffic.streams_kept_open
        changes = [event.at_s for event in traffic.events if event.kind in CHANGES]
        self.changes = len(changes)
        self.changed_at_s = max(changes, default=None)
        # From the moment on at which clients could know of all of it.
        self.moved_at_s = max(
            (event.at_s for event in traffic.events if changes and event.kind in _MOVES),
            default=traffic.started_at_s,
        )
        changed = self.changed_at_s is not None
        self.round_s = (traffic.stream_duration_s or 0.0) if changed else 0.0
        self.standing = [each for each in traffic.backends if each.removed_at_s is None]

    # --- streams that stay

    @cached_property
    def concerned(self) -> list[Stream]:
        """The streams that were open when the pods changed; without a change, all of them."""
        if self.changed_at_s is None:
            return list(self.traffic.streams)
        return [each for each in self.traffic.streams if each.is_open(self.changed_at_s)]

    @cached_property
    def ended(self) -> list[Stream]:
        """Those of them that have ended, unless because the client stopped."""
        until_s = self.traffic.streams_until_s
        return [
            each
            for each in self.concerned
            if each.ended_s is not None
            and (each.status or until_s is None or each.ended_s <= until_s)
        ]

    # --- streams that are open

    def due_at_s(self, within_s: float | None, *, slack_s: float) -> float:
        """Return when the open streams are to be counted."""
        if self.changed_at_s is not None:
            if within_s is None:
                within_s = rebalance_deadline_s(self.timers, slack_s=slack_s)
                within_s += self.traffic.stream_duration_s or 0.0
            return self.moved_at_s + within_s
        answered = sum(each.opened_s is not None for each in self.traffic.streams)
        if answered >= self.kept_open:
            return -math.inf
        return self.moved_at_s + (within_s or self.timers.connect_s + slack_s)

    def cut_by_kills(self, window_s: float | None) -> frozenset[int]:
        """Return the streams that were cut because their pod was killed, by sequence number."""
        if window_s is None:
            window_s = kill_window_of(self.timers)
        kills = [event for event in self.traffic.events if event.kind is EventKind.KILL]
        return frozenset(
            each.sequence
            for each in self.traffic.streams
            if each.status in {UNAVAILABLE, INTERNAL} - self.traffic.calls.allowed
            and each.ended_s is not None
            and any(
                event.backend == each.backend
                and event.at_s <= each.ended_s <= event.at_s + window_s
                for event in kills
            )
        )

    def judge(self, *, due_s: float) -> Verdict:
        """Return what the open streams allow one to say.

        :param due_s: when they should have been counted
        """
        traffic = self.traffic
        removed = {each.uid: each for each in traffic.backends if each.removed_at_s is not None}
        counts = traffic.open_streams(self._counted_at_s(due_s))
        left_behind = {uid: counts.pop(uid) for uid in removed if counts.get(uid)}
        firsts: dict[int, str] = {}
        for each in traffic.streams:
            firsts.setdefault(each.channel, each.backend)
        connections: dict[str, int] = {}
        for uid in firsts.values():
            connections[uid] = connections.get(uid, 0) + 1
        # Each look has its share of the error rate: 1/2, 1/6, 1/12 and so on, 1 in all.
        alpha = traffic.alpha / ((self.changes + 1) * (self.changes + 2))
        verdict = judge_spread(
            {uid: count for uid, count in counts.items() if uid not in removed},
            backends=[each.uid for each in self.standing],
            mechanism=traffic.mechanism,
            alpha=alpha,
            power=traffic.power,
            skew=traffic.skew,
            pickers=traffic.channels if traffic.pickers is None else traffic.pickers,
            picker_rebuilds=traffic.picker_rebuilds if self._are_one_row() else None,
            connections=connections,
            names={each.uid: each.name for each in traffic.backends},
            unit="stream",
        )
        if self.at_s < due_s:
            return replace(
                verdict,
                outcome=Outcome.INCONCLUSIVE,
                reason=(
                    f"the traffic ends {self.at_s - self.moved_at_s:.1f} s after the last change; "
                    f"streams are counted after {due_s - self.moved_at_s:.1f} s"
                ),
            )
        if "" in counts:
            return replace(
                verdict,
                outcome=Outcome.INCONCLUSIVE,
                reason=f"{plural(counts[''], 'stream')} did not say which pod answered",
            )
        if told := self._describe_left(left_behind) or self._describe_idle(counts):
            return replace(
                verdict,
                outcome=Outcome.SKEWED,
                counts={**verdict.counts, **left_behind},
                calls=verdict.calls + sum(left_behind.values()),
                test="streams on every new pod, and on no removed one, by the deadline",
                reason=told,
            )
        waiting = self.kept_open - sum(counts.values())
        if verdict.outcome is Outcome.INCONCLUSIVE and waiting > 0:
            reason = (
                f"{verdict.reason}; {waiting} more {'waits' if waiting == 1 else 'wait'} for an "
                "answer: a server lets each connection have so many streams at once "
                "(MAX_CONCURRENT_STREAMS)"
            )
            return replace(verdict, reason=reason)
        return verdict

    def _counted_at_s(self, due_s: float) -> float | None:
        """Return the moment at which most streams are open within a round; None: the last one."""
        if not self.round_s:
            return None
        until_s = min(due_s + self.round_s, self.at_s)
        # At one moment, ends come first: a stream is not open any more when it ends.
        steps = sorted(
            [(each.opened_s, 1) for each in self.traffic.streams if each.opened_s is not None]
            + [
                (each.ended_s, -1)
                for each in self.traffic.streams
                if each.opened_s is not None and each.ended_s is not None
            ]
        )
        best, best_at_s, open_now = -1, until_s, 0
        for at_s, step in steps:
            if at_s > until_s:
                break
            open_now += step
            if at_s >= due_s and open_now > best:
                best, best_at_s = open_now, at_s
        return best_at_s

    def _are_one_row(self) -> bool:
        """Return whether every stream is open that was ever sent: the picks are consecutive."""
        open_now = sum(self.traffic.open_streams().values())
        return self.changed_at_s is None and len(self.traffic.streams) == open_now == self.kept_open

    def _describe_left(self, left_behind: dict[str, int]) -> str:
        if not left_behind:
            return ""
        names = {each.uid: each for each in self.traffic.backends}
        uid = max(left_behind, key=lambda uid: left_behind[uid])
        removed_at_s = names[uid].removed_at_s
        assert removed_at_s is not None
        return (
            f"{names[uid].name} has {plural(left_behind[uid], 'open stream')} "
            f"{self.at_s - removed_at_s:.1f} s after its endpoint was removed"
        )

    def _describe_idle(self, counts: dict[str, int]) -> str:
        """Tell of new pods that no stream can be on: none was opened since they came."""
        if self.changed_at_s is None:
            return ""
        new = [each for each in self.standing if (each.ready_at_s or 0.0) >= self.changed_at_s]
        total = sum(counts.values())
        since_s = min((each.ready_at_s or 0.0 for each in new), default=math.inf)
        later = any((each.opened_s or 0.0) >= since_s for each in self.traffic.streams)
        if not new or not total or later:
            return ""
        return (
            f"{len(new)} of {len(self.standing)} pods have no open stream "
            f"{self.at_s - since_s:.1f} s after the first of them became ready: "
            f"{plural(total, 'stream')} stay where they were opened before"
        )


def _watch(source: Traffic | LiveTraffic, due_at_s: Callable[[_Look], float]) -> _Look:
    """Look at live traffic until a moment that follows from what it shows, or until it ends."""
    require_traffic(source)
    if isinstance(source, Traffic):
        ends = (source.streams_until_s, source.ended_at_s, source.started_at_s)
        return _Look(source, next(each for each in ends if each is not None))
    while True:
        traffic, now_s = source.snapshot(), source.now_s()
        if traffic.streams_until_s is not None:
            return _Look(traffic, traffic.streams_until_s)
        look = _Look(traffic, now_s)
        left_s = due_at_s(look) - now_s
        if left_s <= 0.0:
            return look
        resume_s = now_s + min(left_s, PAUSE_S)
        while (pause_s := resume_s - source.now_s()) > 0.0:
            source.wait(pause_s)
