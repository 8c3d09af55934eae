"""Assertions on calls that failed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_grpclb.asserts.live import finished
from pytest_grpclb.model import EventKind
from pytest_grpclb.report import failed_calls, short_lived, status_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pytest_grpclb.asserts.live import LiveTraffic
    from pytest_grpclb.model import Calls, Timers, Traffic

__all__ = ["assert_no_failed_calls", "describe_failed_calls", "excused_failures", "kill_window_of"]

__tracebackhide__ = True  # what an error says is for people; these frames are not


UNAVAILABLE = 14
"""gRPC status of a call whose connection broke, and of one that a proxy could not have answered: it
does not send a call again that a pod may have begun to work on (nginx answers 502, as for any POST;
Envoy "disconnect/reset before headers"). Source: gRPC, doc/http-grpc-status-mapping.md; nginx
documentation, ``grpc_next_upstream``, "non_idempotent"."""

_MAX_AGE = ("max_age", "max connection age")
"""What the GOAWAY of an aged connection says, and the end of its grace. Source: gRPC core,
``max_age_filter`` and its successor ``legacy_max_age_filter``."""
INTERNAL = 13
"""gRPC status of a call whose answer had begun when its pod was killed behind a proxy: headers have
gone to the client, so the proxy, nginx and Envoy alike, can but reset the stream, with
INTERNAL_ERROR. Source: gRPC, doc/PROTOCOL-HTTP2.md, "Errors"; RFC 9113, section 7."""
_RESET = "RST_STREAM"
"""What gRPC core says of such a stream; an INTERNAL that a service raises itself says its own."""


CANCELLED = 1
DEADLINE_EXCEEDED = 4
_ANSWERS = frozenset({3, 5, 6, 7, 8, 9, 10, 11, 16})
"""Statuses that a service gives and gRPC itself does not, and UNAUTHENTICATED, RESOURCE_EXHAUSTED.
Source: gRPC, doc/statuscodes.md."""
_TOLD_S = 1.0
"""Between the end of a pod's endpoint and calls that fail for it, either way."""
_SERVING_ON_S = 1.0
"""For calls that are under way when clients hear of it."""
_KILL_S = 1.0
"""A killed pod's host still answers, so that clients notice the broken connection at once."""


def assert_no_failed_calls(source: Traffic | LiveTraffic) -> None:
    """Check that every call was answered with OK, or another status that its test allows.

    :param source: traffic of a run that has ended
    :raises AssertionError: if one was not; with status codes, moments and what the first ones said
    """
    __tracebackhide__ = True
    if told := describe_failed_calls(finished(source)):
        raise AssertionError(told)


def describe_failed_calls(traffic: Traffic, *, excused: Collection[int] = ()) -> str:
    """Return what there is to say of failed calls; empty if none failed.

    :param excused: sequence numbers of failed calls that are none
    """
    failed = traffic.calls.failed() - len(excused)
    if not failed:
        return ""
    beyond = f", beside {len(excused)} that are excused" if excused else ""
    advice = (
        _age_advice(traffic)
        or _stopping_advice(traffic, without=excused)
        or _status_advice(traffic, without=excused)
    )
    return (
        f"{traffic.strategy}: {failed} of {len(traffic.calls)} calls failed{beyond}\n"
        f"{failed_calls(traffic, without=excused)}{advice}"
    )


def _age_advice(traffic: Traffic) -> str:
    cause, _, remedy = short_lived(traffic).partition("; ")
    return f"\nlikely cause: {cause}\nwhat to do: {remedy}" if cause else ""


def _status_advice(traffic: Traffic, *, without: Collection[int]) -> str:
    """Return what to set where the service gave the status itself, or was not given the time."""
    failed = failed_sequences(traffic.calls).difference(without)
    rows = zip(traffic.calls.sequence, traffic.calls.status, strict=True)
    seen = {status for number, status in rows if number in failed}
    if DEADLINE_EXCEEDED in seen:
        return (
            "\nwhat to do: give calls a longer deadline (--grpclb-timeout) if the service may take "
            "it"
        )
    if names := ",".join(status_name(status) for status in sorted(seen & _ANSWERS)):
        return (
            "\nwhat to do: correct --grpclb-request or --grpclb-metadata, or, if it is an "
            f"answer as it should be, set --grpclb-allowed-status={names}"
        )
    return ""


def _stopping_advice(traffic: Traffic, *, without: Collection[int]) -> str:
    """Return what to do where calls failed just after pods were told to end; else nothing.

    :source: Kubernetes documentation, "Pod Lifecycle", termination: endpoints and clients learn of
        it while the pod shuts down
    """
    events = traffic.events
    killed = {event.backend for event in events if event.kind is EventKind.KILL}
    told_s = [
        event.at_s
        for event in events
        if event.kind is EventKind.ENDPOINT_REMOVED and event.backend not in killed
    ]
    calls = traffic.calls
    rows = zip(calls.sequence, calls.done_s, calls.status, strict=True)
    if not any(
        status in {CANCELLED, UNAVAILABLE}
        and number not in without
        and any(-_TOLD_S <= done_s - at_s <= _TOLD_S for at_s in told_s)
        for number, done_s, status in rows
    ):
        return ""
    return (
        "\nlikely cause: the server refuses or cancels calls that arrive while it stops; let it "
        f"serve on for {_serving_on(traffic.timers)} after SIGTERM, until clients have heard of it "
        "(preStop, or a pause before its graceful stop)"
    )


def _serving_on(timers: Timers | None) -> str:
    if timers is None:
        return "a second or two"
    told_s = timers.push_s
    if told_s is None:
        told_s = timers.min_resolution_interval_s + timers.dns_ttl_s
    return f"{math.ceil(told_s + _SERVING_ON_S)} s"


def failed_sequences(calls: Calls) -> frozenset[int]:
    """Return the sequence numbers of the calls that failed."""
    rows = zip(calls.sequence, calls.status, strict=True)
    return frozenset(number for number, status in rows if status and status not in calls.allowed)


def kill_window_of(timers: Timers) -> float:
    """Return for how long after a kill calls may fail for it.

    The pod may run on for a little. Clients notice a broken connection at once, and other pods take
    over. Where all pods that a client or a proxy knows were killed, one soon after another, it has
    to learn of others first: by a push, or by asking DNS again.
    """
    told_s = timers.min_resolution_interval_s if timers.push_s is None else timers.push_s
    return timers.kill_s + _KILL_S + told_s


def excused_failures(traffic: Traffic, window_s: float, *, aged: bool = False) -> frozenset[int]:
    """Return the calls that failed because they were under way to a pod when it was killed.

    :param window_s: seconds after a kill in which calls may fail so
    :param aged: also those that crossed the GOAWAY of an aged connection, which a server may reset
        before it has read them
    :return: their sequence numbers
    """
    crossed = {
        failure.sequence
        for failure in traffic.failures
        if aged and failure.status == UNAVAILABLE and any(map(failure.details.count, _MAX_AGE))
    }
    kills = [event.at_s for event in traffic.events if event.kind is EventKind.KILL]
    reset = _resets(traffic)
    calls = traffic.calls
    rows = zip(calls.sequence, calls.sent_s, calls.done_s, calls.status, strict=True)
    killed = (
        sequence
        for sequence, sent_s, done_s, status in rows
        if status == UNAVAILABLE or (status == INTERNAL and reset(sequence))
        if any(sent_s <= kill_s + window_s and done_s >= kill_s for kill_s in kills)
    )
    # Statuses that the test allows are answers, and need no excuse.
    return failed_sequences(calls) & {*crossed, *killed}


def _resets(traffic: Traffic) -> Callable[[int], bool]:
    """Return what tells, of a call that failed with INTERNAL, whether a proxy reset its stream.

    The driver tells the details of the first failures only: the others count as those do.
    """
    told = {
        failure.sequence: _RESET in failure.details
        for failure in traffic.failures
        if failure.status == INTERNAL and traffic.proxied
    }
    others = bool(told) and all(told.values())
    return lambda sequence: told.get(sequence, others)
