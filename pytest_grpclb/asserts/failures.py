"""Assertions on calls that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.model import EventKind
from pytest_grpclb.report import failed_calls

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_grpclb.model import Traffic

__all__ = ["assert_no_failed_calls", "describe_failed_calls", "excused_failures"]


UNAVAILABLE = 14
"""gRPC status of a call whose connection broke."""

_MAX_AGE = ("max_age", "max connection age")
"""What the GOAWAY of an aged connection says, and the end of its grace. Source: gRPC core,
``max_age_filter`` and its successor ``legacy_max_age_filter``."""
INTERNAL = 13
"""gRPC status of a call whose answer had begun when a proxy lost its connection to the backend."""


def assert_no_failed_calls(traffic: Traffic) -> None:
    """Check that every call was answered with OK, or another status that its test allows.

    :raises AssertionError: if one was not; with status codes, moments and what the first ones said
    """
    __tracebackhide__ = True
    if told := describe_failed_calls(traffic):
        raise AssertionError(told)


def describe_failed_calls(traffic: Traffic, *, excused: Collection[int] = ()) -> str:
    """Return what there is to say of failed calls; empty if none failed.

    :param excused: sequence numbers of failed calls that are none
    """
    failed = traffic.calls.failed() - len(excused)
    if not failed:
        return ""
    beyond = f", beside {len(excused)} that are excused" if excused else ""
    return (
        f"{traffic.strategy}: {failed} of {len(traffic.calls)} calls failed{beyond}\n"
        f"{failed_calls(traffic, without=excused)}"
    )


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
    calls = traffic.calls
    rows = zip(calls.sequence, calls.sent_s, calls.done_s, calls.status, strict=True)
    broken = {UNAVAILABLE} if traffic.pickers is None else {UNAVAILABLE, INTERNAL}
    return frozenset(crossed).union(
        sequence
        for sequence, sent_s, done_s, status in rows
        if status in broken
        and any(sent_s <= kill_s + window_s and done_s >= kill_s for kill_s in kills)
    )
