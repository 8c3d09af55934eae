"""No verdict is retried, whatever reruns tests that fail.

A test that is run until it passes says nothing at a stated error rate. Failures without a verdict,
such as a cluster that did not come up, may be run again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.errors import RetriedVerdictError
from pytest_grpclb.fixtures import PLACE, VERDICT_PROPERTY

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["refuse_rerun", "remember_verdicts"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_FAILED = pytest.StashKey[tuple[str, str]]()
"""Of a test: the verdict that it failed with, and the message."""
_GOOD = "EVEN"


def remember_verdicts(
    item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> None:
    """Remember with which verdict a test failed, before another run of it is begun."""
    if report.when == "call" and report.failed and call.excinfo is not None:
        bad = [verdict for verdict in _verdicts(item) if verdict != _GOOD]
        if bad:
            item.stash[_FAILED] = bad[-1], str(call.excinfo.value)


def refuse_rerun(item: pytest.Item) -> None:
    """Forget what an earlier run of a test left, or fail it if that run came to a verdict.

    :raises RetriedVerdictError: if that was not EVEN, and the test has failed
    """
    if PLACE in item.stash:
        del item.stash[PLACE]  # the namespace has gone, and what it held has been saved
    if _FAILED in item.stash:
        verdict, failure = item.stash[_FAILED]
        raise RetriedVerdictError(item.name, verdict=verdict, failure=failure)
    # What an earlier run came to is in that run's report.
    item.user_properties[:] = [each for each in item.user_properties if each[0] != VERDICT_PROPERTY]


def _verdicts(item: pytest.Item) -> Iterator[str]:
    for name, value in item.user_properties:
        if name == VERDICT_PROPERTY:
            yield json.loads(str(value))["verdict"]
