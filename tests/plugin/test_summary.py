from __future__ import annotations

import pytest

TEST = """
    import pytest
    from pytest_grpclb.model import Outcome, Verdict
    from pytest_grpclb.report import summary_row

    def verdict(outcome, **counts):
        return Verdict(
            outcome=outcome, counts=counts, calls=sum(counts.values()), backends=len(counts),
            alpha=1e-6, power=0.999, detectable_skew=1.5, needed_calls=1, test="", reason="",
        )

    @pytest.mark.parametrize("strategy", ["headless", "lookaside"])
    def test_it(request, strategy):
        for each in (verdict(Outcome.EVEN, a=5, b=5), verdict(Outcome.SKEWED, a=9, b=1)):
            row = summary_row(strategy, request.node.name, each)
            request.node.user_properties.append(("grpclb_verdict", row))
        assert strategy == "headless"

    def test_without_a_verdict():
        pass
"""


@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_each_test_has_one_row_however_it_ended_and_wherever_it_ran(
    pytester: pytest.Pytester, workers: list[str]
) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *workers)
    result.assert_outcomes(passed=2, failed=1)
    shown = [line for line in result.outlines if line.startswith(("headless", "lookaside"))]
    assert len(shown) == 2
    assert {line.split()[0] for line in shown} == {"headless", "lookaside"}
    assert all("SKEWED, EVEN  10  2      1.80" in line for line in shown)
