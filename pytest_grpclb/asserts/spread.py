"""Assertions on how the calls of a finished run spread over the backends."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_grpclb.asserts.failures import describe_failed_calls
from pytest_grpclb.asserts.live import finished
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Backend, EventKind, Mechanism, Outcome
from pytest_grpclb.report import format_failure, format_verdict_line, name_advice, timeline
from pytest_grpclb.statistics import (
    answers,
    channel_paths,
    count_interval,
    count_unnamed,
    describe_strangers,
    judge_spread,
    lower_tail,
    plural,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pytest_grpclb.asserts.live import LiveTraffic
    from pytest_grpclb.model import Timers, Traffic, Verdict
    from pytest_grpclb.statistics import Answer

__all__ = [
    "AGE_JITTER",
    "assert_even_spread",
    "assert_pinned",
    "assert_share",
    "assert_weighted_spread",
    "channels_advice",
    "conclude",
    "count_replaced_connections",
    "find_backend",
    "longest_connection_s",
    "require_known",
]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_RECONNECTED = (
    "looked skewed; but connections were replaced meanwhile, and as long as that takes, their pods "
    "are passed over: what is lasting"
)

# A server closes its connections within 10 % of the age that it was given.
# Source: gRFC A9, "Server-side Connection Management".
AGE_JITTER = 0.1


def assert_even_spread(source: Traffic | LiveTraffic) -> Verdict:
    """Check that the calls spread evenly over the backends that were ready throughout.

    :param source: traffic of a run that has ended
    :return: the verdict, which is EVEN
    :raises AssertionError: if the spread is SKEWED, or a call failed
    :raises InconclusiveError: if the calls are too few to tell
    :raises ValueError: if fewer than two backends were ready throughout
    """
    __tracebackhide__ = True
    traffic = finished(source)
    standing = _standing(traffic)
    if len(standing) < 2:
        pods = len(traffic.backends)
        there = f"there {'was' if pods == 1 else 'were'} {plural(pods, 'pod')}"
        if pods >= 2:
            there = f"{len(standing)} of its {pods} pods was ready from beginning to end"
        raise ValueError(
            f"traffic: {there}; a spread is over at least 2, so raise --grpclb-replicas"
        )
    counts = traffic.counts()
    passing = {backend.uid for backend in traffic.backends} - {each.uid for each in standing}
    # Failed calls, unnamed ones and those under way took picks that no count shows: no exact bound.
    named = sum(counts.values()) == len(traffic.calls)
    complete = named and not passing and traffic.ended_at_s is not None
    alarm = traffic.alarm
    if alarm is not None and passing:
        # Calls that missed a pod which was going, or reached one that came, are no evidence.
        alarm = replace(alarm, raised_after=None)
    answered = list(answers(traffic.calls))
    connections = Counter(path.first_backend for path in channel_paths(answered))
    verdict = judge_spread(
        {uid: count for uid, count in counts.items() if uid not in passing},
        backends=[backend.uid for backend in standing],
        mechanism=traffic.mechanism,
        alpha=traffic.alpha,
        power=traffic.power,
        skew=traffic.skew,
        pickers=traffic.channels if traffic.pickers is None else traffic.pickers,
        picker_rebuilds=traffic.picker_rebuilds if complete else None,
        connections=connections,
        replaced_connections=count_replaced_connections(traffic, answered),
        names={backend.uid: backend.name for backend in standing},
        alarm=alarm,
    )
    if alarm is not None and _may_have_reconnected(traffic):
        verdict = _unless_cut_short(traffic, verdict, why=_RECONNECTED)
    if traffic.mechanism is not Mechanism.CONNECTION:
        return conclude(traffic, verdict)
    channels = verdict.needed_calls
    # Channels take turns, and not each in time: three calls for each give every one its call.
    sends = f"grpclb.drive(channels={channels}, calls={3 * channels})"
    advice = channels_advice(verdict, sends)
    return conclude(traffic, verdict, advice=advice, seen=connections.total())


def assert_weighted_spread(source: Traffic | LiveTraffic, weights: Mapping[str, float]) -> Verdict:
    """Check that the calls spread over the backends in proportion to *weights*.

    :param source: traffic of a run that has ended
    :param weights: by pod name or UID; every backend that was ready throughout has one
    :return: the verdict, which is EVEN: every backend got what its weight allows
    :raises AssertionError: if the spread is SKEWED, or a call failed
    :raises InconclusiveError: if the calls are too few to tell
    :raises ValueError: if a weight is missing, unknown, or no weight
    """
    __tracebackhide__ = True
    traffic = finished(source)
    standing = _standing(traffic)
    by_uid = {find_backend(traffic, key).uid: weight for key, weight in weights.items()}
    missing = [backend.name for backend in standing if backend.uid not in by_uid]
    if missing or len(by_uid) != len(weights):
        told = f"none for {', '.join(missing)}" if missing else "two for the same pod"
        raise ValueError(f"weights: {dict(weights)!r}; {told}; each pod needs one")
    verdict = judge_spread(
        traffic.counts(),
        backends=list(by_uid),
        mechanism=Mechanism.RANDOM,
        alpha=traffic.alpha,
        power=traffic.power,
        skew=traffic.skew,
        weights=list(by_uid.values()),
        names={backend.uid: backend.name for backend in traffic.backends},
    )
    return conclude(traffic, _unless_cut_short(traffic, verdict))


def assert_share(
    source: Traffic | LiveTraffic, backend: str | Backend | Iterable[str | Backend], fraction: float
) -> Verdict:
    """Check that one backend, or a group of them such as a canary's, got *fraction* of all calls.

    :param source: traffic of a run that has ended
    :param backend: a pod's name or UID, or several
    :param fraction: in 0 to 1, both excluded
    :return: the verdict, on the group and all others (K is 2), with the counts of each backend
    :raises AssertionError: if the share is another one, or a call failed
    :raises InconclusiveError: if the calls are too few to tell
    :raises ValueError: if there is no such backend, or the fraction is none
    """
    __tracebackhide__ = True
    traffic = finished(source)
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction: {fraction!r} is not between 0 and 1")
    keys = [backend] if isinstance(backend, str | Backend) else list(backend)
    if not keys:
        raise ValueError("backend: none was given; name at least one pod")
    group = {find_backend(traffic, key).uid for key in keys}
    counts = traffic.counts()
    calls, inside = sum(counts.values()), sum(counts[uid] for uid in group)
    names = ", ".join(each.name for each in traffic.backends if each.uid in group)
    verdict = judge_spread(
        {"group": inside, "others": calls - inside},
        backends=["group", "others"],
        mechanism=Mechanism.RANDOM,
        alpha=traffic.alpha,
        power=traffic.power,
        skew=traffic.skew,
        weights=[fraction, 1.0 - fraction],
    )
    if verdict.outcome is Outcome.SKEWED:
        lowest, highest = count_interval(calls, fraction, tail=traffic.alpha / 4)
        reason = (
            f"{names} answered {inside} of {plural(calls, 'call')}, a share of "
            f"{inside / calls:.3f}; {fraction:g} allows {lowest} to {highest} calls"
        )
        verdict = replace(verdict, reason=reason)
    others = len(counts) - len(group)
    fair_shares = {
        uid: fraction / len(group) if uid in group else (1.0 - fraction) / others for uid in counts
    }
    verdict = replace(verdict, counts=counts, fair_shares=fair_shares)
    return conclude(traffic, _unless_cut_short(traffic, verdict))


def assert_pinned(source: Traffic | LiveTraffic) -> None:
    """Check that every connection's calls went to one backend, as through a ClusterIP.

    A channel may change its backend when its connection is replaced: as often as the servers' max
    connection age and the removal of pods explain, and no oftener.

    :param source: traffic of a run that has ended
    :raises AssertionError: if a channel's calls went to several backends, or a call failed
    :raises InconclusiveError: if the calls are so few that an even spread might look the same, or
        do not say who answered
    :raises ValueError: if there were fewer than two backends
    """
    __tracebackhide__ = True
    traffic = finished(source)
    if told := describe_failed_calls(traffic):
        raise AssertionError(told)
    backends = len(traffic.backends)
    if backends < 2:
        raise ValueError(
            f"traffic: it had {backends} backend; whether calls are pinned to one shows only among "
            "at least 2, so raise --grpclb-replicas"
        )
    replaced = _replaced_connections(traffic)
    paths = channel_paths(answers(traffic.calls))
    for path in paths:
        if path.switches > replaced:
            raise AssertionError(
                f"{traffic.strategy}: not pinned: the {path.calls} calls of channel "
                f"{path.channel} changed their backend {plural(path.switches, 'time')}; "
                f"replaced connections explain {replaced}\n{timeline(traffic)}"
            )
    require_known(traffic)
    # Were each call picked evenly at random, all but one in K would change the backend.
    steps = sum(path.calls - 1 for path in paths)
    switches = sum(path.switches for path in paths)
    if lower_tail(switches, steps, 1.0 - 1.0 / backends) > traffic.alpha:
        telling = (
            more
            for more in itertools.count(steps + 1)
            if lower_tail(switches, more, 1.0 - 1.0 / backends) <= traffic.alpha
        )
        needed = next(telling) + max(1, len(paths))
        raise InconclusiveError(
            f"{plural(steps + len(paths), 'call')} over {plural(len(paths), 'channel')} with "
            f"{plural(switches, 'change')} of the backend might come from an even spread over "
            f"{backends}",
            seen=steps + len(paths),
            needed=needed,
        )


def conclude(
    traffic: Traffic,
    verdict: Verdict,
    *,
    advice: str = "",
    excused: Collection[int] = (),
    seen: int | None = None,
) -> Verdict:
    """Tell the observer of *verdict* and return it if it is EVEN; the one place that raises others.

    :param advice: what to do about too few calls
    :param excused: sequence numbers of failed calls that are none
    :param seen: how many there are of what there are too few of; None: of the verdict's calls
    :raises AssertionError: if it is SKEWED, or a call failed
    :raises InconclusiveError: if the calls are too few to tell, or do not say who answered
    """
    __tracebackhide__ = True
    strangers = _describe_strangers(traffic)
    if strangers and verdict.outcome is not Outcome.SKEWED:
        verdict = replace(verdict, outcome=Outcome.SKEWED, reason=strangers)
    elif unnamed := count_unnamed(traffic.calls):
        verdict = replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=_describe_unnamed(unnamed))
        advice, seen = name_advice(traffic), None
    if traffic.observer is not None:
        traffic.observer(verdict)
    if told := describe_failed_calls(traffic, excused=excused):
        raise AssertionError(f"{told}\nthe other calls:\n{format_verdict_line(verdict)}")
    if verdict.outcome is Outcome.SKEWED:
        raise AssertionError(format_failure(traffic, verdict))
    if verdict.outcome is Outcome.INCONCLUSIVE:
        seen = verdict.calls if seen is None else seen
        raise InconclusiveError(
            verdict.reason, seen=seen, needed=verdict.needed_calls, advice=advice
        )
    return verdict


def channels_advice(verdict: Verdict, sends: str) -> str:
    """Return what to do about too few connections.

    :param sends: what opens as many as are needed
    """
    return f"each channel makes one: use at least {verdict.needed_calls}, e.g. {sends}"


def require_known(traffic: Traffic) -> None:
    """Raise if a call was answered by a stranger, or may have been by anybody.

    :raises AssertionError: with the strangers' names
    :raises InconclusiveError: with what to set
    """
    __tracebackhide__ = True
    if strangers := _describe_strangers(traffic):
        raise AssertionError(f"{traffic.strategy}: {strangers}")
    if unnamed := count_unnamed(traffic.calls):
        calls = len(traffic.calls)
        raise InconclusiveError(
            _describe_unnamed(unnamed),
            seen=calls - unnamed,
            needed=calls,
            advice=name_advice(traffic),
        )


def _describe_strangers(traffic: Traffic) -> str:
    """Return which calls were answered by no pod of the traffic; empty if none were."""
    known = {backend.uid for backend in traffic.backends}
    strangers = {who: calls for who, calls in traffic.counts().items() if who not in known}
    return describe_strangers(strangers, backends=len(known)) if strangers else ""


def _describe_unnamed(calls: int) -> str:
    return f"{plural(calls, 'answered call')} did not say which pod answered"


def _unless_cut_short(traffic: Traffic, verdict: Verdict, *, why: str = "") -> Verdict:
    """Return *verdict*, or that there is none, where the counts decided when the run ended.

    The error rates hold for a number of calls that was chosen beforehand.

    :param why: it takes a run of a given length
    """
    if traffic.alarm is None or traffic.alarm.raised_after is None:
        return verdict
    told = f"the run ended early, for after {plural(traffic.alarm.raised_after, 'call')} it"
    why = why or "was certain that the spread is not even; whether it is the one wanted"
    return replace(
        verdict,
        outcome=Outcome.INCONCLUSIVE,
        reason=f"{told} {why} takes a run of a given length",
    )


def _may_have_reconnected(traffic: Traffic) -> bool:
    """Return whether a client that goes round itself may have left pods out for a moment."""
    picks_itself = traffic.mechanism is Mechanism.ROUND_ROBIN and traffic.pickers is None
    return picks_itself and bool(traffic.picker_rebuilds)


def _standing(traffic: Traffic) -> list[Backend]:
    return [
        backend
        for backend in traffic.backends
        if backend.removed_at_s is None
        and (backend.ready_at_s is None or backend.ready_at_s <= traffic.started_at_s)
    ]


def find_backend(traffic: Traffic, key: str | Backend) -> Backend:
    """Return the backend whose name or UID is *key*, or which it is.

    :raises ValueError: if there is none
    """
    key = key.uid if isinstance(key, Backend) else key
    for backend in traffic.backends:
        if key in {backend.uid, backend.name}:
            return backend
    names = ", ".join(backend.name for backend in traffic.backends) or "none"
    raise ValueError(f"backend: {key!r} is no pod of this traffic; its pods: {names}")


def longest_connection_s(timers: Timers | None) -> float:
    """Return how long a connection, and the making of the next one, can take; may be infinite."""
    if timers is None or timers.connection_age_s is None:
        return math.inf
    return (1.0 + AGE_JITTER) * timers.connection_age_s + timers.connect_s


def count_replaced_connections(traffic: Traffic, answered: Sequence[Answer]) -> int:
    """Return how many connections took the place of another one meanwhile, at the least.

    Another pod shows one; and none outlives its age, though the next one may be to the same pod.
    """
    paths = channel_paths(answered)
    sent_s = [answer.sent_s for answer in answered]
    lasted_s = max(sent_s) - min(sent_s) if sent_s else 0.0
    aged = int(lasted_s // longest_connection_s(traffic.timers))
    return max(sum(path.switches for path in paths), aged * len(paths))


def _replaced_connections(traffic: Traffic) -> int:
    """Return how often one channel's connection can have been replaced, at the most."""
    removed = sum(event.kind is EventKind.ENDPOINT_REMOVED for event in traffic.events)
    age_s = traffic.timers.connection_age_s if traffic.timers else None
    if age_s is None:
        return removed
    last_s = max(traffic.calls.done_s, default=traffic.started_at_s)
    # The first connection had an unknown part of its age behind it when counting began.
    aged = 1 + math.floor((last_s - traffic.started_at_s) / ((1.0 - AGE_JITTER) * age_s))
    return removed + aged
