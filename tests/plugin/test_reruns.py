"""Plugins that run a failed test again do not get a verdict retried."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# As pytest-rerunfailures, flaky and pytest-retry do it: the same item, set up anew.
RERUNS = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for last in (False, True):
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if last or not any(report.failed for report in reports):
                break
            for report in reports:
                if report.failed:
                    report.outcome = "rerun"
                    item.ihook.pytest_runtest_logreport(report=report)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        return True

    def pytest_report_teststatus(report):
        if report.outcome == "rerun":
            return "rerun", "R", "RERUN"
"""
TEST = """
    from pytest_grpclb.model import Outcome, Verdict
    from pytest_grpclb.report import summary_row

    runs = []

    def judge(request, outcome):
        verdict = Verdict(
            outcome=outcome, counts={"a": 9, "b": 1}, calls=10, backends=2, alpha=1e-6,
            power=0.999, detectable_skew=1.5, needed_calls=1, test="", reason="",
        )
        row = summary_row("headless", request.node.name, verdict)
        request.node.user_properties.append(("grpclb_verdict", row))

    def test_judged(request):
        runs.append(1)
        if len(runs) == 1:
            judge(request, Outcome.SKEWED)
            raise AssertionError("headless: SKEWED: one pod is hot\\nlikely cause: none")
        judge(request, Outcome.EVEN)

    def test_that_was_even(request):
        judge(request, Outcome.EVEN)
        runs.append(1)
        assert len(runs) != 2

    def test_without_a_verdict():
        runs.append(1)
        assert len(runs) != 4
"""


def test_a_verdict_that_failed_stays_and_other_failures_may_be_rerun(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    shown = "\n".join(result.outlines)
    assert (
        "E   pytest_grpclb.errors.RetriedVerdictError: the verdict of 'test_judged' was SKEWED, "
        "and a verdict is never retried: its error rates hold for one run. Leave the test out of "
        "reruns, by pytest-rerunfailures' @pytest.mark.flaky(reruns=0). It failed with:\n"
        "    headless: SKEWED: one pod is hot\n"
        "    likely cause: none\n"
    ) in shown
    rows = [line.split() for line in result.outlines if line.startswith("headless  ")]
    assert [(row[1:-5], row[-1]) for row in rows] == [
        (["SKEWED"], "test_judged"),
        (["EVEN"], "test_that_was_even"),
        (["EVEN"], "test_that_was_even"),
    ]
