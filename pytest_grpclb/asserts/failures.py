"""Assertions on calls that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.report import failed_calls

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_grpclb.model import Traffic

__all__ = ["assert_no_failed_calls", "describe_failed_calls"]


def assert_no_failed_calls(traffic: Traffic) -> None:
    """Check that every call was answered with OK.

    :raises AssertionError: if one was not; with status codes, moments and what the first ones said
    """
    __tracebackhide__ = True
    if told := describe_failed_calls(traffic):
        raise AssertionError(told)


def describe_failed_calls(traffic: Traffic, *, excused: Collection[int] = ()) -> str:
    """Return what there is to say of failed calls; empty if none failed.

    :param excused: sequence numbers of failed calls that are none
    """
    failed = sum(status != 0 for status in traffic.calls.status) - len(excused)
    if not failed:
        return ""
    beyond = f", beside {len(excused)} that are excused" if excused else ""
    return (
        f"{traffic.strategy}: {failed} of {len(traffic.calls)} calls failed{beyond}\n"
        f"{failed_calls(traffic, without=excused)}"
    )
