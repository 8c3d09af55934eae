from __future__ import annotations

import pytest

TWO_TESTS = """
import pytest

@pytest.mark.grpclb_only("clusterip")
def test_baseline(grpclb_strategy):
    print("ran", grpclb_strategy.name)

@pytest.mark.grpclb_skip("clusterip")
def test_cure(grpclb_strategy):
    print("ran", grpclb_strategy.name)

def test_both(grpclb_strategy):
    pass
"""


def test_a_test_runs_once_for_each_selected_strategy_that_it_allows(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(TWO_TESTS)
    result = pytester.runpytest("-v", "--grpclb-strategy=headless", "--grpclb-strategy=clusterip")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "*::test_baseline[[]clusterip[]] PASSED*",
            "*::test_cure[[]headless[]] PASSED*",
            "*::test_both[[]headless[]] PASSED*",
            "*::test_both[[]clusterip[]] PASSED*",
        ]
    )


def test_a_test_that_no_selected_strategy_fits_is_skipped_with_the_reason(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(TWO_TESTS)
    result = pytester.runpytest("-rs", "--grpclb-strategy=headless")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*no selected strategy fits this test; selected: headless"])


def test_the_closest_marker_wins(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.grpclb(replicas=7, channels=2)

        @pytest.mark.grpclb(replicas=4, max_connection_age_s=None)
        def test_settings(grpclb_settings):
            assert grpclb_settings.replicas == 4
            assert grpclb_settings.channels == 2
            assert grpclb_settings.max_connection_age_s is None
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "grpclb(replica=3)",
            "marker grpclb: 'replica' cannot be used; expected one of replicas, "
            "max_connection_age_s, max_connection_age_grace_s, min_resolution_interval_s, "
            "channels, concurrency, alpha, power, skew, ready_timeout_s, readiness_gate, "
            "ingress, envoy_workers",
        ),
        (
            "grpclb(readiness_gate=1)",
            "marker grpclb: readiness_gate: 1 cannot be used; expected True or False",
        ),
        (
            "grpclb(3)",
            "marker grpclb: 3 cannot be used; expected keyword arguments only, such as replicas=3",
        ),
        (
            "grpclb(replicas=0)",
            "marker grpclb: replicas: 0 cannot be used; expected a whole number, 1 or more",
        ),
        (
            "grpclb(max_connection_age_s=-1)",
            "marker grpclb: max_connection_age_s: -1 cannot be used; expected a number above 0",
        ),
        (
            "grpclb_only('headles')",
            "marker grpclb_only: no strategy is called 'headles'; "
            "expected one of headless, clusterip",
        ),
    ],
)
def test_a_marker_that_cannot_be_used_is_an_error_that_names_the_test(
    pytester: pytest.Pytester, marker: str, message: str
) -> None:
    pytester.makepyfile(
        test_marked=f"""
        import pytest

        @pytest.mark.{marker}
        def test_it(grpclb_strategy, grpclb_settings):
            pass
        """
    )
    result = pytester.runpytest()
    assert result.ret != pytest.ExitCode.OK
    shown = "\n".join([*result.stdout.lines, *result.stderr.lines])
    assert f"test_marked.py::test_it: {message}" in shown
