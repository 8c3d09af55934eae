"""The assertion that a backend gets no calls."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from pytest_grpclb.asserts.failures import describe_failed_calls, failed_sequences
from pytest_grpclb.asserts.live import finished
from pytest_grpclb.asserts.spread import find_backend, require_known
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Mechanism
from pytest_grpclb.statistics import answers, calls_proving_absence, plural

if TYPE_CHECKING:
    from pytest_grpclb.asserts.live import LiveTraffic
    from pytest_grpclb.model import Backend, Traffic
    from pytest_grpclb.statistics import Answer

__all__ = ["assert_no_calls_to"]

__tracebackhide__ = True  # what an error says is for people; these frames are not


def assert_no_calls_to(
    source: Traffic | LiveTraffic, backend: str | Backend, *, after_s: float = 0.0
) -> None:
    """Check that a backend gets no calls any more, by enough calls that all went elsewhere.

    Whoever picks must have picked often enough: each channel of a client that picks itself, all of
    them together before a proxy. Through a ClusterIP a connection is one pick, whatever its calls.

    :param source: traffic of a run that has ended
    :param backend: a pod's name or UID
    :param after_s: seconds that calls may still reach it, counted from the removal of its endpoint;
        from the beginning of the traffic, if it was not removed
    :raises AssertionError: if a later call reached it, or failed: nobody knows where it was sent
    :raises InconclusiveError: if the later picks are too few to exclude chance, or some calls do
        not say who answered
    :raises ValueError: if there is no such backend
    """
    __tracebackhide__ = True
    traffic = finished(source)
    found = find_backend(traffic, backend)
    origin_s = traffic.started_at_s if found.removed_at_s is None else found.removed_at_s
    later = [answer for answer in answers(traffic.calls) if answer.sent_s > origin_s + after_s]
    to_it = [answer.sent_s for answer in later if answer.backend == found.uid]
    since = "traffic began" if found.removed_at_s is None else "its endpoint was removed"
    if to_it:
        raise AssertionError(
            f"{traffic.strategy}: {len(to_it)} of {len(later)} calls reached {found.name} later "
            f"than {after_s:g} s after {since}, the last one {max(to_it) - origin_s:.3f} s after"
        )
    rows = zip(traffic.calls.sequence, traffic.calls.sent_s, strict=True)
    earlier = {sequence for sequence, sent_s in rows if sent_s <= origin_s + after_s}
    if told := describe_failed_calls(traffic, excused=earlier & failed_sequences(traffic.calls)):
        raise AssertionError(f"{told}\nwhether they were sent to {found.name} is not known")
    require_known(traffic)
    # Whoever has not heard of the removal picks among all that it knew then.
    known = sum(
        each.removed_at_s is None or each.removed_at_s >= origin_s for each in traffic.backends
    )
    picks, unit = _picks(traffic, later, removed=found.removed_at_s is not None)
    needed = calls_proving_absence(max(2, known), alpha=traffic.alpha / len(picks))
    if (fewest := min(picks)) < needed:
        each = " on each channel" if len(picks) > 1 else ""
        raise InconclusiveError(
            f"{plural(fewest, unit)} that went elsewhere {'does' if fewest == 1 else 'do'} not "
            f"prove that {found.name} gets none: {needed} are needed{each} where it may be one of "
            f"{max(2, known)}",
            seen=fewest,
            needed=needed,
            advice="let the traffic run longer" if unit == "call" else "use more channels",
        )


def _picks(traffic: Traffic, later: list[Answer], *, removed: bool) -> tuple[list[int], str]:
    """Return how often each picker has picked in those calls, and what a pick is for people.

    :param removed: whether the pod in question was there before them
    """
    if traffic.mechanism is Mechanism.CONNECTION:
        sequences = {answer.sequence for answer in later}
        ordered = sorted(answers(traffic.calls), key=lambda each: (each.channel, each.sequence))
        made = sum(
            answer.sequence in sequences
            for before, answer in itertools.pairwise(ordered)
            if before.channel == answer.channel and before.backend != answer.backend
        )
        # A connection that stood before the pod was removed had not picked without it.
        standing = 0 if removed else len({answer.channel for answer in later})
        return [made + standing], "connection"
    if traffic.proxied:
        return [len(later)], "call"
    by_channel = Counter(answer.channel for answer in later)
    return [by_channel[channel] for channel in range(traffic.channels)], "call"
